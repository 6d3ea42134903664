/**
 * An executor's part in the results of its task group: joined when there is something to wait for, left when there has been
 * nothing for a moment.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { detach } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import { GroupResults } from './group-results.ts';
import type { ResultSubscriber } from './group-results.ts';
import type { StreamedResult } from './result-stream.ts';

/** Settings of a {@link GroupSubscription}. */
export interface GroupSubscriptionOptions {
  readonly hub: HubClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ca?: string;
  readonly idleMs: number;
  readonly subscriber: ResultSubscriber;
}

/** Joins and leaves. */
export class GroupSubscription {
  readonly #options: GroupSubscriptionOptions;
  #results: GroupResults | undefined;
  #idleTimer: Timer | undefined;

  constructor(options: GroupSubscriptionOptions) {
    this.#options = options;
  }

  /** Joins, unless it has. */
  join(taskGroupId: string): void {
    const { subscriber } = this.#options;
    this.#results ??= GroupResults.join({ ...this.#options, taskGroupId }, subscriber);
  }

  /** Whether an executor of this process reads the results of a group, and so gets those of everybody here. */
  isOpen(taskGroupId: string): boolean {
    return GroupResults.isOpen({ hub: this.#options.hub, taskGroupId });
  }

  /** Leaves when nobody calls `busy` for a moment. */
  idle(): void {
    if (this.#results !== undefined) {
      this.#idleTimer?.cancel();
      this.#idleTimer = this.#options.clock.after(this.#options.idleMs, () => {
        detach(this.#options.logger, 'closing an idle result stream', this.leave());
      });
    }
  }

  /** There is something to wait for. */
  busy(): void {
    this.#idleTimer?.cancel();
  }

  /** Leaves; the connection is closed when no other executor needs it. Bounded, never rejects. */
  async leave(): Promise<void> {
    this.#idleTimer?.cancel();
    const results = this.#results;
    this.#results = undefined;
    await results?.leave(this.#options.subscriber);
  }

  /** Runs a submission, during which results that nobody knows are held. */
  async during(submission: () => Promise<void>): Promise<void> {
    const results = this.#results;
    results?.submissionBegins();
    try {
      await submission();
    } finally {
      results?.submissionEnds();
    }
  }

  /** The result of a task that came before the task was known. */
  claim(taskId: string): StreamedResult | undefined {
    return this.#results?.claim(taskId);
  }
}

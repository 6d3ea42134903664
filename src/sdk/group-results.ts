/**
 * The results of one task group in one process: executors of one client and one group share one stream, so that none takes
 * what another waits for.
 *
 * A result is acked when somebody has taken it. One that nobody knows is held while a submission is on its way, because the
 * answer to that may make it somebody's; otherwise it is acked and left to the hub, which keeps it.
 */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import { ResultStream } from './result-stream.ts';
import type { StreamedResult } from './result-stream.ts';

/** Who waits for results. */
export interface ResultSubscriber {
  /** Settles the future of a result and acks it; false when it is not one of the subscriber's. */
  readonly take: (result: StreamedResult) => boolean;
  /** Results may have been missed: ask the hub. */
  readonly onGap: (reason: string) => void;
  /** Whether another process consumes the same queue: some results will not come. */
  readonly onShared: (isShared: boolean) => void;
  /** There will be no results. */
  readonly onRefused: (error: Error) => void;
}

/** Settings of {@link GroupResults}. */
export interface GroupResultsOptions {
  readonly hub: HubClient;
  readonly taskGroupId: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ca?: string;
}

/** Bounds of what is held for answers that are on their way. */
const HELD_MAX = 512;
const HELD_CHARS_MAX = 32 * 1024 * 1024;

const groupsOf = new WeakMap<HubClient, Map<string, GroupResults>>();

/** Results of one group, for everybody in this process. */
export class GroupResults {
  readonly #options: GroupResultsOptions;
  readonly #stream: ResultStream;
  readonly #subscribers = new Set<ResultSubscriber>();
  readonly #held = new Map<string, StreamedResult>();
  #heldChars = 0;
  #hasDropped = false;
  #submissionsInFlight = 0;
  #isShared = false;

  private constructor(options: GroupResultsOptions) {
    this.#options = options;
    this.#stream = new ResultStream({
      ...options,
      onResult: (result) => {
        this.#receive(result);
      },
      onGap: (reason) => {
        for (const subscriber of this.#subscribers) {
          subscriber.onGap(reason);
        }
      },
      onShared: (isShared) => {
        this.#setShared(isShared);
      },
      onRefused: (error) => {
        for (const subscriber of this.#subscribers) {
          subscriber.onRefused(error);
        }
      },
    });
  }

  /** Whether somebody reads the stream of a group already. */
  static isOpen({ hub, taskGroupId }: Pick<GroupResultsOptions, 'hub' | 'taskGroupId'>): boolean {
    return groupsOf.get(hub)?.has(taskGroupId) === true;
  }

  /** Joins the stream of a group, which is opened for the first subscriber. */
  static join(options: GroupResultsOptions, subscriber: ResultSubscriber): GroupResults {
    const { hub, taskGroupId } = options;
    const groups = groupsOf.get(hub) ?? new Map<string, GroupResults>();
    groupsOf.set(hub, groups);
    const group = groups.get(taskGroupId) ?? new GroupResults(options);
    groups.set(taskGroupId, group);
    group.#subscribers.add(subscriber);
    subscriber.onShared(group.#isShared);
    group.#stream.start();
    return group;
  }

  /** Leaves; the last one closes the connection. Bounded, never rejects. */
  async leave(subscriber: ResultSubscriber): Promise<void> {
    this.#subscribers.delete(subscriber);
    if (this.#subscribers.size > 0) {
      return;
    }
    const { hub, taskGroupId } = this.#options;
    const groups = groupsOf.get(hub);
    if (groups?.get(taskGroupId) === this) {
      groups.delete(taskGroupId);
    }
    await this.#stream.stop();
  }

  /** A submission is on its way: results that come now may be its tasks'. */
  submissionBegins(): void {
    this.#submissionsInFlight += 1;
  }

  /** Its answer has been dealt with. Results that are still nobody's are left to the hub. */
  submissionEnds(): void {
    this.#submissionsInFlight -= 1;
    if (this.#submissionsInFlight > 0) {
      return;
    }
    for (const result of this.#held.values()) {
      this.#drop(result);
    }
    this.#held.clear();
    this.#heldChars = 0;
    if (this.#hasDropped) {
      this.#hasDropped = false;
      for (const subscriber of this.#subscribers) {
        subscriber.onGap('more results came early than are held');
      }
    }
  }

  /** The result of a task that came before anybody knew the task. */
  claim(taskId: string): StreamedResult | undefined {
    const result = this.#held.get(taskId);
    if (result !== undefined) {
      this.#held.delete(taskId);
      this.#heldChars -= result.result.data.length;
    }
    return result;
  }

  #receive(streamed: StreamedResult): void {
    for (const subscriber of this.#subscribers) {
      if (subscriber.take(streamed)) {
        return;
      }
    }
    const { task_id: taskId, data } = streamed.result;
    if (this.#submissionsInFlight === 0 || this.#held.has(taskId)) {
      this.#drop(streamed);
    } else if (this.#held.size < HELD_MAX && this.#heldChars + data.length <= HELD_CHARS_MAX) {
      this.#held.set(taskId, streamed);
      this.#heldChars += data.length;
    } else {
      // Held ones must not stop those of known tasks, which come behind them.
      this.#hasDropped = true;
      this.#drop(streamed);
    }
  }

  #drop({ result, ack }: StreamedResult): void {
    this.#options.logger.debug(
      { taskId: result.task_id, taskGroupId: this.#options.taskGroupId },
      'left a result to the hub that nobody here waits for',
    );
    ack();
  }

  #setShared(isShared: boolean): void {
    this.#isShared = isShared;
    if (isShared) {
      this.#options.logger.warn(
        { taskGroupId: this.#options.taskGroupId },
        'another process consumes the results of this task group: each gets some of them, so the hub is asked for the rest',
      );
    }
    for (const subscriber of this.#subscribers) {
      subscriber.onShared(isShared);
    }
  }
}

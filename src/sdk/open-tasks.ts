/**
 * Tasks whose results are awaited, by id, and the two ways a result gets to its future: streamed, or asked for. The first
 * one counts; a second is acked and dropped.
 *
 * Two consumers of one task group share its queue, so a result can go to the one that does not want it. While tasks are open
 * and no result comes, the hub is therefore asked now and then. No timer is left when the last task has ended.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { ProtocolError, UnavailableError } from '../base/errors.ts';
import { detach } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import type { FutureControl } from './compute-future.ts';
import { outcomeOfDocument, outcomeOfResult } from './outcome.ts';
import type { TaskContext, TaskOutcome } from './outcome.ts';
import type { StreamedResult } from './result-stream.ts';

/** Least time between two questions to the hub. */
const ASK_EVERY_MS = 1_000;
/** How long no result comes before the hub is asked all the same; doubles up to the longest. */
const SILENCE_MS = 15_000;
const SILENCE_LONGEST_MS = 60_000;

/** Settings of {@link OpenTasks}. */
export interface OpenTasksOptions {
  readonly hub: HubClient;
  readonly endpointId: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The hub will not answer, and asking again would not help. */
  readonly onRefused: (error: Error) => void;
}

interface OpenTask {
  readonly control: FutureControl<unknown>;
  readonly context: TaskContext;
}

/** Tasks that have been submitted and have not ended. */
export class OpenTasks {
  readonly #options: OpenTasksOptions;
  readonly #open = new Map<string, OpenTask>();
  /** Results of tasks that nobody has asked for yet: the answer to their submission is still on its way. */
  readonly #unclaimed = new Map<string, StreamedResult>();
  #submissionsInFlight = 0;
  #timer: Timer | undefined;
  #askedAtMs = -Infinity;
  #silenceTimer: Timer | undefined;

  constructor(options: OpenTasksOptions) {
    this.#options = options;
  }

  /** Awaits the result of a task, which may be here already. */
  add(taskId: string, control: FutureControl<unknown>, context: TaskContext): void {
    if (control.future.isDone) {
      return;
    }
    control.submitted(taskId);
    this.#open.set(taskId, {
      control,
      context: { ...context, endpointId: this.#options.endpointId },
    });
    if (this.#silenceTimer === undefined) {
      this.#listen(SILENCE_MS);
    }
    const early = this.#unclaimed.get(taskId);
    if (early !== undefined) {
      this.#unclaimed.delete(taskId);
      this.settle(early);
    }
  }

  /** A submission is on its way: results that come now may be its tasks'. */
  submissionBegins(): void {
    this.#submissionsInFlight += 1;
  }

  /** Its answer has been dealt with. Results that are still nobody's are left to the hub, which keeps them. */
  submissionEnds(): void {
    this.#submissionsInFlight -= 1;
    if (this.#submissionsInFlight === 0) {
      for (const { ack } of this.#unclaimed.values()) {
        ack();
      }
      this.#unclaimed.clear();
    }
  }

  /** Settles the future of a result, then acks it; holds it when its future may be about to come. */
  settle(streamed: StreamedResult): void {
    const taskId = streamed.result.task_id;
    const task = this.#open.get(taskId);
    if (task !== undefined) {
      this.#finish(taskId, task, outcomeOfResult(streamed.result, streamed.output, task.context));
      streamed.ack();
    } else if (this.#submissionsInFlight > 0 && !this.#unclaimed.has(taskId)) {
      this.#unclaimed.set(taskId, streamed);
    } else {
      streamed.ack();
    }
  }

  /** Asks the hub for everything open, now. */
  async reconcile(): Promise<void> {
    const taskIds = [...this.#open.keys()];
    if (taskIds.length === 0) {
      return;
    }
    this.#askedAtMs = this.#options.clock.monotonicMs();
    try {
      await this.#ask(taskIds);
    } catch (error) {
      if (error instanceof UnavailableError || !(error instanceof Error)) {
        this.#options.logger.debug({ err: error }, 'the hub could not be asked for results');
        this.reconcileSoon();
      } else {
        this.#options.onRefused(error);
      }
    }
  }

  /** Asks the hub for everything open, in the background and not too often. */
  reconcileSoon(): void {
    if (this.#timer !== undefined || this.#open.size === 0) {
      return;
    }
    const { clock, logger } = this.#options;
    const delayMs = Math.max(0, this.#askedAtMs + ASK_EVERY_MS - clock.monotonicMs());
    this.#timer = clock.after(delayMs, () => {
      this.#timer = undefined;
      detach(logger, 'asking the hub for results', this.reconcile());
    });
  }

  /** Calls off every question that has not been asked yet. */
  stopAsking(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#silenceTimer?.cancel();
    this.#silenceTimer = undefined;
  }

  /** Forgets every task; their futures are settled by the caller. */
  clear(): void {
    this.#open.clear();
    this.stopAsking();
  }

  /** Asks for these tasks. Those that the reply leaves out are asked for again the next time. */
  async #ask(taskIds: readonly string[]): Promise<void> {
    try {
      const documents = await this.#options.hub.tasks(taskIds);
      for (const [taskId, document] of Object.entries(documents)) {
        const task = this.#open.get(taskId);
        if (task !== undefined) {
          this.#finish(taskId, task, outcomeOfDocument(document, task.context));
        }
      }
    } catch (error) {
      if (!(error instanceof ProtocolError) || error.code !== 'PAYLOAD_TOO_LARGE') {
        throw error;
      }
      await this.#askForFewer(taskIds, error);
    }
  }

  /** The reply was too large: asks in halves. A task whose result alone is too large cannot be had. */
  async #askForFewer(taskIds: readonly string[], error: ProtocolError): Promise<void> {
    const [first] = taskIds;
    if (first !== undefined && taskIds.length === 1) {
      const task = this.#open.get(first);
      if (task !== undefined) {
        task.control.reject(error);
        this.#ended(first);
      }
      return;
    }
    const middle = Math.ceil(taskIds.length / 2);
    for (const half of [taskIds.slice(0, middle), taskIds.slice(middle)]) {
      // Some may have been streamed meanwhile.
      const open = half.filter((taskId) => this.#open.has(taskId));
      if (open.length > 0) {
        await this.#ask(open);
      }
    }
  }

  /** Asks the hub when no result has come for so long, then more and more slowly. */
  #listen(silenceMs: number): void {
    this.#silenceTimer?.cancel();
    this.#silenceTimer = this.#options.clock.after(silenceMs, () => {
      this.#listen(Math.min(silenceMs * 2, SILENCE_LONGEST_MS));
      this.reconcileSoon();
    });
  }

  #finish(taskId: string, { control }: OpenTask, outcome: TaskOutcome): void {
    switch (outcome.status) {
      case 'pending':
        return;
      case 'success':
        control.resolve(outcome.value);
        break;
      case 'failed':
        control.reject(outcome.error);
        break;
    }
    this.#ended(taskId);
  }

  #ended(taskId: string): void {
    this.#open.delete(taskId);
    if (this.#open.size === 0) {
      this.stopAsking();
    } else {
      this.#listen(SILENCE_MS);
    }
  }
}

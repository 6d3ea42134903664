/**
 * Tasks whose results are awaited, by id, and the two ways a result gets to its future: streamed, or asked for. The first
 * one counts; a second is acked and dropped.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { UnavailableError } from '../base/errors.ts';
import { detach } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import type { FutureControl } from './compute-future.ts';
import { outcomeOfDocument, outcomeOfResult } from './outcome.ts';
import type { TaskContext, TaskOutcome } from './outcome.ts';
import type { StreamedResult } from './result-stream.ts';

/** Least time between two questions to the hub. */
const ASK_EVERY_MS = 1_000;

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
      const documents = await this.#options.hub.tasks(taskIds);
      for (const [taskId, document] of Object.entries(documents)) {
        const task = this.#open.get(taskId);
        if (task !== undefined) {
          this.#finish(taskId, task, outcomeOfDocument(document, task.context));
        }
      }
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

  /** Calls off a question that has not been asked yet. */
  stopAsking(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Forgets every task; their futures are settled by the caller. */
  clear(): void {
    this.#open.clear();
    this.stopAsking();
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
    this.#open.delete(taskId);
  }
}

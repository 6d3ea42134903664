/**
 * Tasks whose results are awaited, by id, and the two ways a result gets to its future: streamed, or asked for. The first
 * one counts; a second is dropped.
 *
 * When the hub is asked, apart from gaps in the stream:
 *
 *   no result for 15 s, 30 s, 60 s …                 a safety net
 *   another process consumes the group's queue       every second at first, every 5 s when nothing comes of it
 *
 * One question is on its way at a time, and the pause after it is four times as long as it took. No timer is left when the
 * last task has ended.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { ProtocolError, UnavailableError } from '../base/errors.ts';
import { detach } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import { TASK_IDS_PER_CALL } from '../client/hub-client.ts';
import type { HubClient } from '../client/hub-client.ts';
import type { FutureControl } from './compute-future.ts';
import { outcomeOfDocument, outcomeOfResult } from './outcome.ts';
import type { TaskContext, TaskOutcome } from './outcome.ts';
import type { StreamedResult } from './result-stream.ts';
import { documentInFull } from './stored-results.ts';

/** Least time between two questions to the hub, and its least share of all time. */
const ASK_EVERY_MS = 1_000;
const ASK_PAUSE_FACTOR = 4;
/** How long no result comes before the hub is asked all the same; doubles up to the longest. */
const SILENCE_MS = 15_000;
const SILENCE_LONGEST_MS = 60_000;
/** The same while the queue is shared. */
const SHARED_MS = 1_000;
const SHARED_LONGEST_MS = 5_000;

/** Settings of {@link OpenTasks}. */
export interface OpenTasksOptions {
  readonly hub: HubClient;
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
  #isShared = false;
  #isAsking = false;
  #askTimer: Timer | undefined;
  #askAgainAtMs = -Infinity;
  /** Rings when no result has come for `#silenceMs`; looks only then whether one has, so that results cost no timer. */
  #silenceTimer: Timer | undefined;
  #silenceMs = SILENCE_MS;
  #quietSinceMs = 0;

  constructor(options: OpenTasksOptions) {
    this.#options = options;
  }

  /** The future of a task, if it is awaited here. */
  get(taskId: string): FutureControl<unknown> | undefined {
    return this.#open.get(taskId)?.control;
  }

  /** Awaits the result of a task. */
  add(taskId: string, control: FutureControl<unknown>, context: TaskContext): void {
    if (control.future.isDone) {
      return;
    }
    control.submitted(taskId);
    this.#open.set(taskId, { control, context });
    if (this.#silenceTimer === undefined) {
      this.#quietSinceMs = this.#options.clock.monotonicMs();
      this.#silenceMs = this.#isShared ? SHARED_MS : SILENCE_MS;
      this.#listen(this.#silenceMs);
    }
  }

  /** Forgets a task whose future was settled elsewhere. */
  remove(taskId: string): void {
    if (this.#open.delete(taskId) && this.#open.size === 0) {
      this.stopAsking();
    }
  }

  /** Settles the future of a result, then acks it; false when it is not awaited here. */
  take({ result, output, ack }: StreamedResult): boolean {
    const task = this.#open.get(result.task_id);
    if (task === undefined) {
      return false;
    }
    if (output?.blob !== undefined) {
      // The result is too large for a message: asking for the task has it fetched.
      const { logger } = this.#options;
      detach(logger, 'fetching a large result', this.reconcile([result.task_id]).finally(ack));
      return true;
    }
    this.#finish(result.task_id, task, outcomeOfResult(result, output, task.context));
    ack();
    return true;
  }

  /** Whether another process takes some of the results. */
  setShared(isShared: boolean): void {
    if (this.#isShared !== isShared) {
      this.#isShared = isShared;
      this.#silenceMs = isShared ? SHARED_MS : SILENCE_MS;
      if (this.#open.size > 0) {
        this.reconcileSoon();
        this.#listen(this.#silenceMs);
      }
    }
  }

  /** Asks the hub for these tasks, or for everything open, now. */
  async reconcile(taskIds: readonly string[] = [...this.#open.keys()]): Promise<void> {
    const { clock, logger, onRefused } = this.#options;
    const startedMs = clock.monotonicMs();
    let isMissing = false;
    try {
      for (let start = 0; start < taskIds.length; start += TASK_IDS_PER_CALL) {
        await this.#ask(taskIds.slice(start, start + TASK_IDS_PER_CALL));
      }
    } catch (error) {
      isMissing = error instanceof UnavailableError || !(error instanceof Error);
      if (isMissing) {
        logger.debug({ err: error }, 'the hub could not be asked for results');
      } else {
        onRefused(error as Error);
      }
    }
    const nowMs = clock.monotonicMs();
    const pauseMs = Math.max(ASK_EVERY_MS, ASK_PAUSE_FACTOR * (nowMs - startedMs));
    this.#askAgainAtMs = nowMs + pauseMs;
    if (isMissing) {
      this.reconcileSoon();
    }
  }

  /** Asks the hub for everything open, in the background and not too often. */
  reconcileSoon(): void {
    if (this.#askTimer !== undefined || this.#open.size === 0) {
      return;
    }
    const { clock, logger } = this.#options;
    const delayMs = Math.max(0, this.#askAgainAtMs - clock.monotonicMs());
    this.#askTimer = clock.after(delayMs, () => {
      this.#askTimer = undefined;
      detach(logger, 'asking the hub for results', this.#reconcileAlone());
    });
  }

  /** Calls off every question that has not been asked yet. */
  stopAsking(): void {
    this.#askTimer?.cancel();
    this.#askTimer = undefined;
    this.#silenceTimer?.cancel();
    this.#silenceTimer = undefined;
  }

  /** Forgets every task; their futures are settled by the caller. */
  clear(): void {
    this.#open.clear();
    this.stopAsking();
  }

  /** One that comes while another is on its way is asked after it. */
  async #reconcileAlone(): Promise<void> {
    if (this.#isAsking) {
      return;
    }
    this.#isAsking = true;
    try {
      await this.reconcile();
    } finally {
      this.#isAsking = false;
    }
  }

  /** Asks for those of these tasks that are still open. Those that the reply leaves out are asked for the next time. */
  async #ask(taskIds: readonly string[]): Promise<void> {
    const open = taskIds.filter((taskId) => this.#open.has(taskId));
    if (open.length === 0) {
      return;
    }
    try {
      const documents = await this.#options.hub.tasks(open);
      for (const [taskId, found] of Object.entries(documents)) {
        if (!this.#open.has(taskId)) {
          continue;
        }
        const document = await documentInFull(this.#options.hub, found);
        const task = this.#open.get(taskId);
        if (task !== undefined) {
          this.#finish(taskId, task, outcomeOfDocument(document, task.context));
        }
      }
    } catch (error) {
      if (!(error instanceof ProtocolError) || error.code !== 'PAYLOAD_TOO_LARGE') {
        throw error;
      }
      await this.#askForFewer(open, error);
    }
  }

  /** The reply was too large: asks in halves. A task whose result alone is too large cannot be had. */
  async #askForFewer(taskIds: readonly string[], error: ProtocolError): Promise<void> {
    const [first] = taskIds;
    if (first !== undefined && taskIds.length === 1) {
      this.#open.get(first)?.control.reject(error);
      this.remove(first);
      return;
    }
    const middle = Math.ceil(taskIds.length / 2);
    await this.#ask(taskIds.slice(0, middle));
    await this.#ask(taskIds.slice(middle));
  }

  /** Asks the hub when no result has come for so long, then more and more slowly. */
  #listen(delayMs: number): void {
    this.#silenceTimer?.cancel();
    this.#silenceTimer = this.#options.clock.after(delayMs, () => {
      const nowMs = this.#options.clock.monotonicMs();
      const quietMs = nowMs - this.#quietSinceMs;
      // While the queue is shared, results that come say nothing about those that do not.
      if (!this.#isShared && quietMs < this.#silenceMs) {
        this.#listen(this.#silenceMs - quietMs);
        return;
      }
      const longestMs = this.#isShared ? SHARED_LONGEST_MS : SILENCE_LONGEST_MS;
      this.#silenceMs = Math.min(this.#silenceMs * 2, longestMs);
      this.#quietSinceMs = nowMs;
      this.#listen(this.#silenceMs);
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
    this.#quietSinceMs = this.#options.clock.monotonicMs();
    this.#silenceMs = this.#isShared ? SHARED_MS : SILENCE_MS;
    this.remove(taskId);
  }
}

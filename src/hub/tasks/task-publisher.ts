/**
 * Puts tasks on the queues of their endpoints.
 *
 *   submit ──offer──▶ waiting ──▶ publishing ──confirm──▶ confirmed ──one UPDATE for many──▶ published_at
 *                        ▲                │
 *            relay (database) ◀──spilled──┘  broker away, no room, nack, unroutable
 *
 * P1 A task is marked as published only after the broker confirmed it and did not return it.
 * P2 What is not marked is published (again) by the relay: nothing depends on this process's memory.
 * P3 A task is in this process's hands at most once (`#held`); one process at a time relays (advisory lock) and leaves
 *    young tasks to whoever took them. A double publish is harmless, since agents dedupe, but wasteful.
 * P4 Bounded in tasks and bytes; what does not fit stays in the database.
 * P5 A task that no message can carry ends with a failed result. A task whose queue is gone gets the queue back, or a failed result when the endpoint was deleted; never silence.
 */
import { backoffDelayMs } from '../../base/backoff.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { sleep } from '../../base/clock.ts';
import { ComputeError, InvariantError, errorText } from '../../base/errors.ts';
import { detach } from '../../base/logger.ts';
import type { Logger } from '../../base/logger.ts';
import type { ConfirmPublisher } from '../../transport/amqp/publisher.ts';
import { TASKS_EXCHANGE } from '../broker/topology-table.ts';
import { taskBody, taskHeaders } from './task-message.ts';
import type { PublishableTask } from './task-message.ts';

const HELD_TASKS_MAX = 20_000;
const HELD_CHARS_MAX = 64 * 1024 * 1024;
/** Handed to the broker and not confirmed: enough to keep it busy, little enough to lose nothing by a reconnect. */
const WINDOW_TASKS_MAX = 2_000;
const WINDOW_BYTES_MAX = 16 * 1024 * 1024;
const MARK_TASKS_MAX = 5_000;
const SWEEP_MS = 10_000;
const RETRY = { baseMs: 100, maxMs: 5_000 };
/** Bounds the pause between two passes of the relay at less than a second. */
const RELAY_ATTEMPT_MAX = 3;
/** A queue that was declared this recently and still takes nothing is left to the sweep. */
const REDECLARE_INTERVAL_MS = 5_000;

/** Settings of a {@link TaskPublisher}. */
export interface TaskPublisherOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Notes in the database that these were confirmed. */
  readonly markPublished: (tasks: readonly PublishableTask[]) => Promise<void>;
  /**
   * Reads tasks that nobody published, oldest first, and hands them over page by page; `relay` settles when a page is
   * done. `since`: tasks of this process's own, however young.
   */
  readonly relay: (
    since: Date | undefined,
    publishPage: (tasks: readonly PublishableTask[]) => Promise<'continue' | 'stop'>,
  ) => Promise<'done' | 'busy'>;
  /** Gives an endpoint its queues back, or fails its tasks when it was deleted. */
  readonly repairEndpoint: (endpointId: string) => Promise<void>;
  /** Ends a task with a failed result, because no message can carry it. */
  readonly failTask: (task: PublishableTask, reason: string) => Promise<void>;
}

interface Held {
  readonly task: PublishableTask;
  /** Called once: marked, or no longer held. */
  readonly onReleased: (() => void) | undefined;
}

/** Publishes tasks; see the header of this file. */
export class TaskPublisher {
  readonly #options: TaskPublisherOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #held = new Map<string, Held>();
  /** Taken from `#waitingHead` on: shifting thousands of entries for each confirm would cost more than the publish. */
  #waiting: Held[] = [];
  #waitingHead = 0;
  #waitingChars = 0;
  #windowTasks = 0;
  #windowBytes = 0;
  #publisher: ConfirmPublisher | undefined;
  readonly #confirmed: Held[] = [];
  #marking: Promise<void> | undefined;
  #relaying: Promise<void> | undefined;
  /** Marked since the relay asked for the page that it reads, which may still show them as unpublished (P3). */
  readonly #markedMeanwhile = new Set<string>();
  /** Creation time of the oldest task that this process has left in the database. */
  #spilledSince: Date | undefined;
  readonly #repairedAtMs = new Map<string, number>();
  #sweep: Timer | undefined;
  readonly #stopped = new AbortController();

  constructor(options: TaskPublisherOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** Tasks in memory, from being offered to being marked. */
  get heldCount(): number {
    return this.#held.size;
  }

  /** Takes over tasks that are committed. What there is no room for is left to the relay. */
  offer(tasks: readonly PublishableTask[]): void {
    for (const task of tasks) {
      if (this.#held.has(task.id)) {
        // The relay was faster (P3).
        continue;
      }
      if (!this.#hasRoom() || this.#spilledSince !== undefined) {
        // Later ones follow: tasks of one submission keep their order.
        this.#spill(task);
      } else {
        this.#hold(task);
      }
    }
    this.#pump();
    if (this.#spilledSince !== undefined && this.#waitingHead === this.#waiting.length) {
      this.relayNow();
    }
  }

  /** The broker is there. */
  online(publisher: ConfirmPublisher): void {
    this.#publisher = publisher;
    this.#repairedAtMs.clear();
    this.#pump();
    this.relayNow();
    this.#scheduleSweep();
  }

  /** The broker is gone. What was waiting is read from the database again; what was in flight is rejected by its channel. */
  offline(): void {
    this.#publisher = undefined;
    this.#spillWaiting();
  }

  /** Looks for tasks that nobody published. */
  relayNow(): void {
    if (this.#publisher === undefined || this.#stopped.signal.aborted) {
      return;
    }
    this.#relaying ??= this.#relay().finally(() => {
      this.#relaying = undefined;
      this.#markedMeanwhile.clear();
    });
    detach(this.#logger, 'relaying unpublished tasks', this.#relaying);
  }

  /** The same for all of them, however young: they have come back to this process. */
  relayAll(): void {
    this.#spilledSince = new Date(0);
    this.relayNow();
  }

  /** Takes nothing more and waits for confirms that are due. The caller bounds the wait. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#sweep?.cancel();
    this.#spillWaiting();
    while (this.#windowTasks > 0 || this.#marking !== undefined) {
      await (this.#marking ?? sleep(this.#clock, 20));
    }
    await this.#relaying;
  }

  #hasRoom(): boolean {
    return (
      this.#publisher !== undefined &&
      !this.#stopped.signal.aborted &&
      this.#held.size < HELD_TASKS_MAX &&
      this.#waitingChars < HELD_CHARS_MAX
    );
  }

  #hold(task: PublishableTask, onReleased?: () => void): void {
    const held = { task, onReleased };
    this.#held.set(task.id, held);
    this.#waiting.push(held);
    this.#waitingChars += task.payload.length;
  }

  #release(held: Held, outcome: 'marked' | 'spill' | 'leave'): void {
    this.#held.delete(held.task.id);
    if (outcome === 'spill') {
      this.#spill(held.task);
    }
    held.onReleased?.();
  }

  #spill({ createdAt }: PublishableTask): void {
    if (this.#spilledSince === undefined || createdAt < this.#spilledSince) {
      this.#spilledSince = createdAt;
    }
  }

  #pump(): void {
    const publisher = this.#publisher;
    while (
      publisher !== undefined &&
      this.#windowTasks < WINDOW_TASKS_MAX &&
      this.#windowBytes < WINDOW_BYTES_MAX
    ) {
      const held = this.#waiting[this.#waitingHead];
      if (held === undefined) {
        break;
      }
      this.#waitingHead += 1;
      this.#waitingChars -= held.task.payload.length;
      this.#publish(publisher, held);
    }
    if (this.#waitingHead > WINDOW_TASKS_MAX || this.#waitingHead === this.#waiting.length) {
      this.#waiting.splice(0, this.#waitingHead);
      this.#waitingHead = 0;
    }
  }

  /** Leaves what is waiting to the relay. */
  #spillWaiting(): void {
    const left = this.#waiting.slice(this.#waitingHead);
    this.#waiting = [];
    this.#waitingHead = 0;
    this.#waitingChars = 0;
    for (const held of left) {
      this.#release(held, 'spill');
    }
  }

  #publish(publisher: ConfirmPublisher, held: Held): void {
    detach(this.#logger, 'publishing a task', this.#send(publisher, held));
  }

  async #send(publisher: ConfirmPublisher, held: Held): Promise<void> {
    const { task } = held;
    let bytes = 0;
    this.#windowTasks += 1;
    try {
      const body = taskBody(task);
      bytes = body.length;
      this.#windowBytes += bytes;
      await publisher.publish(TASKS_EXCHANGE, task.queue, body, {
        headers: taskHeaders(task),
        contentType: 'application/json',
        contentEncoding: 'utf-8',
        timestampS: Math.floor(task.createdAt.getTime() / 1000),
        mandatory: true,
      });
      this.#confirmed.push(held);
      this.#mark();
    } catch (error) {
      this.#failed(held, error);
    } finally {
      this.#windowTasks -= 1;
      this.#windowBytes -= bytes;
    }
    this.#pump();
  }

  #failed(held: Held, error: unknown): void {
    const { endpointId } = held.task;
    if (error instanceof ComputeError && error.details['returned'] === true) {
      this.#release(held, 'leave');
      this.#repair(endpointId);
      return;
    }
    if (error instanceof InvariantError) {
      detach(this.#logger, 'failing a task that cannot be sent', this.#refuse(held, error));
      return;
    }
    const isOffline = this.#publisher === undefined;
    this.#logger[isOffline ? 'debug' : 'warn'](
      { taskId: held.task.id, endpointId, err: error },
      'a task was not confirmed by the broker, the relay publishes it again',
    );
    this.#release(held, 'spill');
  }

  /** Published again it would be refused again, for ever; while its failure cannot be stored, the sweep comes back to it. */
  async #refuse(held: Held, error: InvariantError): Promise<void> {
    const { id: taskId, endpointId } = held.task;
    this.#logger.error({ taskId, endpointId, err: error }, 'no message can carry a task');
    try {
      await this.#options.failTask(held.task, error.message);
    } finally {
      this.#release(held, 'leave');
    }
  }

  /** One UPDATE takes all that was confirmed while the last one ran. */
  #mark(): void {
    this.#marking ??= this.#markAll().finally(() => {
      this.#marking = undefined;
      if (this.#confirmed.length > 0) {
        this.#mark();
      } else if (this.#spilledSince !== undefined && this.#waitingHead === this.#waiting.length) {
        this.relayNow();
      }
    });
    detach(this.#logger, 'marking tasks as published', this.#marking);
  }

  async #markAll(): Promise<void> {
    for (let attempt = 0; this.#confirmed.length > 0;) {
      const batch = this.#confirmed.splice(0, MARK_TASKS_MAX);
      try {
        await this.#options.markPublished(batch.map(({ task }) => task));
        attempt = 0;
        for (const held of batch) {
          if (this.#relaying !== undefined) {
            this.#markedMeanwhile.add(held.task.id);
          }
          this.#release(held, 'marked');
        }
      } catch (error) {
        if (this.#stopped.signal.aborted) {
          // They are published once more by whoever relays next, and deduped by the agent.
          for (const held of batch) {
            this.#release(held, 'leave');
          }
          return;
        }
        this.#confirmed.unshift(...batch);
        this.#logger[attempt === 0 ? 'warn' : 'debug'](
          { err: error, attempt },
          'cannot mark tasks as published, trying again',
        );
        await this.#pause(attempt);
        attempt += 1;
      }
    }
  }

  async #pause(attempt: number): Promise<void> {
    try {
      await sleep(this.#clock, backoffDelayMs(attempt, RETRY), this.#stopped.signal);
    } catch {
      // Stopping: the caller looks at the signal.
    }
  }

  #scheduleSweep(): void {
    this.#sweep?.cancel();
    if (this.#stopped.signal.aborted) {
      return;
    }
    this.#sweep = this.#clock.after(
      SWEEP_MS,
      () => {
        this.relayNow();
        this.#scheduleSweep();
      },
      { background: true },
    );
  }

  async #relay(): Promise<void> {
    for (let attempt = 0; ; attempt = Math.min(attempt + 1, RELAY_ATTEMPT_MAX)) {
      const since = this.#spilledSince;
      this.#spilledSince = undefined;
      this.#markedMeanwhile.clear();
      try {
        const outcome = await this.#options.relay(
          since,
          async (tasks) => await this.#publishPage(tasks),
        );
        if (outcome === 'busy') {
          this.#spilledSince ??= since;
        }
      } catch (error) {
        this.#spilledSince ??= since;
        this.#logger.warn({ err: error }, 'cannot read unpublished tasks, trying again');
      }
      const isDone = this.#spilledSince === undefined || this.#publisher === undefined;
      if (isDone || this.#stopped.signal.aborted) {
        return;
      }
      // Something came back while the broker is there: it refused it, or there was no room.
      await this.#pause(attempt);
    }
  }

  async #publishPage(tasks: readonly PublishableTask[]): Promise<'continue' | 'stop'> {
    const released = tasks
      .filter(({ id }) => !this.#held.has(id) && !this.#markedMeanwhile.has(id))
      .map(async (task) => {
        await new Promise<void>((resolve) => {
          this.#hold(task, resolve);
        });
      });
    if (released.length > 0) {
      this.#logger.info(
        { taskCount: released.length },
        'publishing tasks that nobody had published',
      );
    }
    if (this.#publisher === undefined || this.#stopped.signal.aborted) {
      this.#spillWaiting();
    } else {
      this.#pump();
    }
    await Promise.all(released);
    this.#markedMeanwhile.clear();
    return this.#publisher === undefined || this.#stopped.signal.aborted ? 'stop' : 'continue';
  }

  #repair(endpointId: string): void {
    const nowMs = this.#clock.monotonicMs();
    const repairedAtMs = this.#repairedAtMs.get(endpointId);
    if (repairedAtMs !== undefined && nowMs - repairedAtMs < REDECLARE_INTERVAL_MS) {
      return;
    }
    if (this.#repairedAtMs.size >= HELD_TASKS_MAX) {
      this.#repairedAtMs.clear();
    }
    this.#repairedAtMs.set(endpointId, nowMs);
    this.#logger.warn({ endpointId }, 'the task queue of an endpoint is gone, making it again');
    detach(
      this.#logger,
      'making the queues of an endpoint again',
      this.#repairAndRelay(endpointId),
    );
  }

  async #repairAndRelay(endpointId: string): Promise<void> {
    try {
      await this.#options.repairEndpoint(endpointId);
    } catch (error) {
      this.#logger.error(
        { endpointId, reason: errorText(error), err: error },
        'the queues of an endpoint cannot be made; its tasks wait in the database',
      );
      return;
    }
    this.relayAll();
  }
}

/**
 * A ready place and the tasks that it has: the first runs, the others were given ahead of time, so that the worker need not be woken
 * for each. What it has not begun can be taken back, newest first.
 */
import type { Timer } from '../base/clock.ts';
import type { Place, Settle, WorkerTask } from './engine.ts';

/** Tasks that a place may have at a time; it gets more when half of them are over, so that they come several at a time. */
export const SEAT_TASKS_MAX = 32;
const SEAT_TASKS_LOW = SEAT_TASKS_MAX / 2;
/** A larger body is not given ahead of time: it would fill the stream to the worker. */
const AHEAD_BODY_BYTES_MAX = 64 * 1024;
/** How long the running task may hold up those behind it; then they go to the next place that frees. */
const STUCK_MS = 5;

/** A task that an engine holds. */
export interface HeldTask {
  readonly task: WorkerTask;
  readonly settle: Settle;
  /** Who has it; undefined while it waits. */
  seat: Seat | undefined;
  timer: Timer | undefined;
  /** It is to be ended as soon as that ends no other task. */
  isCancelled: boolean;
}

/** Whether a task may be given to a place that runs another: it can be marked as begun by the worker, and its limit need not be watched. */
export function mayGoAhead({ task }: HeldTask): boolean {
  return (
    task.timeoutMs === undefined &&
    task.environment === undefined &&
    task.cell !== undefined &&
    task.body.length <= AHEAD_BODY_BYTES_MAX
  );
}

/** One place with its tasks. */
export class Seat {
  readonly place: Place;
  readonly tasks: HeldTask[] = [];
  /** Monotonic time since which the first task runs, as far as can be told. */
  begunAtMs = 0;
  /**
   * Whether the worker may still come upon a task that was taken back. It tells such a task by finding one token too few, so it must
   * get no new token before.
   */
  #hasStale = false;
  /** Sent after what was taken back: once it has a result, the worker has passed that. */
  #marker: HeldTask | undefined;

  constructor(place: Place) {
    this.place = place;
  }

  /** Whether one more task may be given ahead of time. */
  hasRoom(nowMs: number): boolean {
    return (
      this.tasks.length > 0 &&
      !this.#hasStale &&
      !this.place.isEnding &&
      this.place.canReclaim &&
      this.tasks.length < SEAT_TASKS_MAX &&
      !this.isStuck(nowMs)
    );
  }

  /** Whether it is time to give it more. */
  get isLow(): boolean {
    return this.tasks.length <= SEAT_TASKS_LOW;
  }

  /** Whether the running task keeps others from running. */
  isStuck(nowMs: number): boolean {
    return nowMs - this.begunAtMs > STUCK_MS;
  }

  /** The place gets this task, behind those that it has. */
  add(held: HeldTask): void {
    held.seat = this;
    this.tasks.push(held);
  }

  /** The place is idle and gets this task. */
  begin(held: HeldTask, nowMs: number): void {
    this.add(held);
    this.begunAtMs = nowMs;
    if (held.task.environment === undefined) {
      this.#marker = held;
    }
  }

  /** Takes back the newest task that has not begun. */
  reclaim(): HeldTask | undefined {
    if (this.tasks.length < 2 || !this.place.reclaim()) {
      return undefined;
    }
    this.#hasStale = true;
    this.#marker = undefined;
    const held = this.tasks.pop();
    if (held !== undefined) {
      held.seat = undefined;
    }
    return held;
  }

  /** Takes back everything that has not begun, in order. */
  reclaimAll(): HeldTask[] {
    const reclaimed: HeldTask[] = [];
    for (let held = this.reclaim(); held !== undefined; held = this.reclaim()) {
      reclaimed.unshift(held);
    }
    return reclaimed;
  }

  /** The place is gone: what it had and did not settle has not begun. */
  empty(): HeldTask[] {
    const left = this.tasks.splice(0);
    for (const held of left) {
      held.seat = undefined;
    }
    return left;
  }

  /** The task has ended. */
  remove(held: HeldTask): void {
    if (held === this.#marker) {
      this.#hasStale = false;
    }
    const index = this.tasks.indexOf(held);
    if (index !== -1) {
      this.tasks.splice(index, 1);
    }
    held.seat = undefined;
  }
}

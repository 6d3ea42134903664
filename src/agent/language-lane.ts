/**
 * What waits and runs in one language: slots, and the tasks in line for them.
 *
 *   waiting ─▶ (arming ─▶ armed) ─▶ running
 *
 * While tasks are short, the next few are armed: made ready to run ahead of time, so that a slot that frees does not wait for the
 * disk. The lane keeps count and order; the dispatcher moves the tasks.
 */

/** Tasks per slot that are made ready to run ahead of time, while tasks are short. */
const ARMED_PER_SLOT = 4;
/** Average run time up to which the disk, rather than the function, would set the pace. */
const SHORT_TASK_MS = 200;
/** Weight of the last run in the average. */
const AVERAGE_WEIGHT = 0.1;
/** Armed tasks keep their body in memory; a larger one is read back when its turn comes. */
export const ARMED_BODY_BYTES_MAX = 64 * 1024;

/** A task that may run, with its body unless that is large. */
export interface ArmedTask<T> {
  readonly task: T;
  readonly body: Buffer | undefined;
}

/** Slots of one language and who is in line for them. */
export class LanguageLane<T> {
  /** In line, in order; the journal has their bodies. */
  readonly waiting: T[] = [];
  /** Ready to be handed over, in order. They came before those that wait. */
  readonly #armed: ArmedTask<T>[] = [];
  /** Tasks whose arming is on its way to the disk. */
  armingCount = 0;
  /** Tasks that hold a slot. */
  runningCount = 0;
  /** Slots that the worker host offers now. */
  slotCount = 0;
  /** Why no worker can be started, as long as that is so. */
  degraded: string | undefined;
  #averageRunMs = 0;

  /** Tasks that wait for a slot, whether or not they are armed. */
  get queuedCount(): number {
    return this.waiting.length + this.armingCount + this.#armed.length;
  }

  /** Slots that may be filled. A language without workers lets one task through at a time, to be failed with the reason. */
  get usableSlotCount(): number {
    return this.degraded === undefined ? this.slotCount : Math.max(1, this.slotCount);
  }

  get hasFreeSlot(): boolean {
    return this.runningCount < this.usableSlotCount;
  }

  /** Whether a task that comes now can run at once. */
  get isOpen(): boolean {
    return this.hasFreeSlot && this.queuedCount === 0;
  }

  /** Whether the next task in line should be made ready while others run. */
  get shouldArm(): boolean {
    return (
      this.#averageRunMs < SHORT_TASK_MS &&
      this.armingCount + this.#armed.length < ARMED_PER_SLOT * this.slotCount
    );
  }

  /** Puts a task in line that is ready to run; a large body is left to the journal. */
  arm(task: T, body: Buffer): void {
    this.#armed.push({ task, body: body.length <= ARMED_BODY_BYTES_MAX ? body : undefined });
  }

  /** The next task that is ready. */
  nextArmed(): ArmedTask<T> | undefined {
    return this.#armed.shift();
  }

  /** The next task that waits; none while an earlier one is being armed, which must not be overtaken. */
  nextWaiting(): T | undefined {
    return this.armingCount === 0 ? this.waiting.shift() : undefined;
  }

  /** Takes every task out of the line. */
  takeAll(): T[] {
    return [...this.#armed.splice(0).map(({ task }) => task), ...this.waiting.splice(0)];
  }

  /** Notes how long a task held its slot, in milliseconds. */
  noteRunTime(runMs: number): void {
    this.#averageRunMs += AVERAGE_WEIGHT * (runMs - this.#averageRunMs);
  }
}

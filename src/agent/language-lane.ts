/**
 * The tasks of one language, by phase, and how many of them may be under way: one for each place of the worker host, and while
 * tasks are short some more, which wait in the host for a free place. So frames, results and acks travel in batches, and no place
 * waits for the disk. Ahead of time is not begun: should host or agent die, the table of running tasks tells the two apart.
 *
 * The lane keeps order, count and bytes; the dispatcher moves the tasks.
 */
import type { HeldTask, TaskPhase } from './held-task.ts';

/**
 * Tasks per place that are handed over ahead of time, while tasks are short: the first number until it has turned out that they are, one
 * more for each that was, up to the second. After a loss of power all of them count as begun, so it is not more work than AHEAD_WORK_MS.
 */
const AHEAD_PER_PLACE_MIN = 32;
const AHEAD_PER_PLACE_MAX = 256;
const AHEAD_WORK_MS = 10_000;
/** Bytes of task messages under way from which on nothing more is handed over ahead of time. */
const AHEAD_BYTES_MAX = 4 * 1024 * 1024;
/** Average run time from which on handing over ahead of time gains nothing. */
const SHORT_TASK_MS = 200;
/** Weight of the last run in the average. */
const AVERAGE_WEIGHT = 0.1;

/** Phases of a task that is in a lane. */
export type LanePhase = Exclude<TaskPhase, 'done'>;

/** The line for the places of one language. */
export class LanguageLane {
  readonly #lines: Readonly<Record<'waiting' | 'ready' | 'ahead', HeldTask[]>> = {
    waiting: [],
    ready: [],
    ahead: [],
  };
  readonly #counts: Record<LanePhase, number> = {
    accepting: 0,
    waiting: 0,
    starting: 0,
    ready: 0,
    ahead: 0,
    running: 0,
  };
  #bytesUnderWay = 0;
  #averageRunMs = 0;
  /** Results since tasks last were not short. */
  #shortCount = 0;
  /** Places that the worker host offers now. */
  placeCount = 0;
  /** Why no worker can be started, as long as that is so. */
  degraded: string | undefined;
  /** Whether the worker host can be asked what has begun; without that nothing is handed over ahead of time. */
  mayRunAhead = true;

  /** Every task of the lane. */
  get heldCount(): number {
    const { accepting, waiting, starting, ready, ahead, running } = this.#counts;
    return accepting + waiting + starting + ready + ahead + running;
  }

  /** Tasks that hold no place yet. */
  get queuedCount(): number {
    return this.heldCount - this.#counts.running;
  }

  get runningCount(): number {
    return this.#counts.running;
  }

  /** Tasks that the worker host has. */
  get sentCount(): number {
    return this.#counts.running + this.#counts.ahead;
  }

  /** Tasks whose next phase waits for the disk. */
  get settlingCount(): number {
    return this.#counts.accepting + this.#counts.starting;
  }

  /** Places that may be filled. A language without workers lets one task through at a time, to be failed with the reason. */
  get usablePlaceCount(): number {
    return this.degraded === undefined ? this.placeCount : Math.max(1, this.placeCount);
  }

  /** Whether tasks are over so soon that what is in line now will run in a moment. */
  get isShort(): boolean {
    return this.#averageRunMs < SHORT_TASK_MS;
  }

  /** Whether a task of this size may be started now, if nothing stands in line before it. */
  mayStart(bodyBytes: number): boolean {
    const { starting, ready } = this.#counts;
    const underWay = this.sentCount + starting + ready;
    if (underWay < this.usablePlaceCount) {
      return true;
    }
    return underWay < this.#sendLimit && this.#bytesUnderWay + bodyBytes <= AHEAD_BYTES_MAX;
  }

  /** The first task in line, if it may be started now. */
  get nextToStart(): HeldTask | undefined {
    const [next] = this.#lines.waiting;
    return next !== undefined && this.mayStart(next.bodyBytes) ? next : undefined;
  }

  /** The first task that is ready, if the worker host has room for it. */
  get nextToSend(): HeldTask | undefined {
    return this.sentCount < Math.max(this.#sendLimit, this.usablePlaceCount)
      ? this.#lines.ready[0]
      : undefined;
  }

  /** The task of which it can be told that a place has taken it, because those before it have ended. */
  get nextToRun(): HeldTask | undefined {
    return this.#counts.running < this.usablePlaceCount ? this.#lines.ahead[0] : undefined;
  }

  /** Whether anything stands in line. */
  get hasWaiting(): boolean {
    return this.#counts.waiting > 0;
  }

  get #sendLimit(): number {
    if (!this.isShort || !this.mayRunAhead) {
      return this.usablePlaceCount;
    }
    const known = Math.min(
      AHEAD_PER_PLACE_MIN + this.#shortCount,
      AHEAD_PER_PLACE_MAX,
      AHEAD_WORK_MS / this.#averageRunMs,
    );
    return this.usablePlaceCount + Math.max(AHEAD_PER_PLACE_MIN, known) * this.placeCount;
  }

  /** Takes a task in. */
  add(task: HeldTask, phase: LanePhase): void {
    task.phase = phase;
    this.#enter(task, phase, false);
  }

  /** Moves a task on, or back: to the front of the line when `first`. */
  move(task: HeldTask, phase: LanePhase, first = false): void {
    this.#leave(task);
    task.phase = phase;
    this.#enter(task, phase, first);
  }

  /** Lets go of a task. */
  remove(task: HeldTask): void {
    this.#leave(task);
  }

  /** Notes that a task has a result, and how many milliseconds it held its place if that can be told. */
  noteResult(runMs: number | undefined): void {
    if (runMs !== undefined) {
      this.#averageRunMs += AVERAGE_WEIGHT * (runMs - this.#averageRunMs);
    }
    this.#shortCount = this.isShort ? this.#shortCount + 1 : 0;
  }

  #enter(task: HeldTask, phase: LanePhase, first: boolean): void {
    this.#counts[phase] += 1;
    if (isUnderWay(phase)) {
      this.#bytesUnderWay += task.bodyBytes;
    }
    if (phase === 'waiting' || phase === 'ready' || phase === 'ahead') {
      const line = this.#lines[phase];
      if (first) {
        line.unshift(task);
      } else {
        line.push(task);
      }
    }
  }

  #leave(task: HeldTask): void {
    const { phase, bodyBytes } = task;
    if (phase === 'done') {
      return;
    }
    this.#counts[phase] -= 1;
    if (isUnderWay(phase)) {
      this.#bytesUnderWay -= bodyBytes;
    }
    if (phase === 'waiting' || phase === 'ready' || phase === 'ahead') {
      const line = this.#lines[phase];
      if (line[0] === task) {
        line.shift();
      } else {
        line.splice(line.indexOf(task), 1);
      }
    }
  }
}

function isUnderWay(phase: LanePhase): boolean {
  return phase !== 'accepting' && phase !== 'waiting';
}

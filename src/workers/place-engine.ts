/**
 * Keeps a number of places filled, hands each free one the next task, and replaces those that are lost.
 *
 * While many tasks wait, a place has some ahead of the one that it runs (seat.ts). None is held up by that: a place that frees takes
 * over what stands behind a task that runs longer, and what has not begun can be taken back at any time.
 *
 * Invariants: every submitted task is settled exactly once; a place runs one task at a time, in the order given; no more than `size` places exist, not
 * counting those that were given up; while the breaker is open, tasks fail at once with the reason instead of waiting.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Language } from '../protocol/serialization.ts';
import type {
  AbortReason,
  Engine,
  EngineListener,
  FailedOutcome,
  Place,
  PlaceFactory,
  PlaceFailure,
  Settle,
  WorkerTask,
} from './engine.ts';
import { Seat, mayGoAhead } from './seat.ts';
import type { HeldTask } from './seat.ts';
import { StartBreaker } from './start-breaker.ts';

/** Settings of a {@link PlaceEngine}. */
export interface PlaceEngineOptions {
  readonly language: Language;
  /** Number of places; with 0 nothing is ever started. */
  readonly size: number;
  readonly createPlace: PlaceFactory;
  readonly listener: EngineListener;
  readonly clock: Clock;
  /** Time between two attempts to start a worker while none can. */
  readonly probePeriodMs?: number;
}

/** Often enough that an operator who repairs an interpreter sees it work; rare enough to cost nothing. */
const PROBE_PERIOD_MS = 30_000;

/** What becomes of a task that is cancelled before a worker has begun it. */
const CANCELLED: FailedOutcome = {
  kind: 'failed',
  code: 'TASK_CANCELLED',
  message: 'the task was cancelled before it started',
  workerLost: false,
};

/** An engine over places. */
export class PlaceEngine implements Engine {
  readonly language: Language;
  readonly #options: PlaceEngineOptions;
  readonly #breaker = new StartBreaker();
  /** Every place that is starting, idle, running or ending. */
  readonly #places = new Set<Place>();
  /** The places that can be used. */
  readonly #seats = new Map<Place, Seat>();
  /** Last in, first out: the worker that ran last has warm caches. */
  readonly #idle: Seat[] = [];
  readonly #waiting: HeldTask[] = [];
  readonly #held = new Map<string, HeldTask>();
  #launchCount = 0;
  #probe: Timer | undefined;
  #stopped: (() => void) | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: PlaceEngineOptions) {
    this.language = options.language;
    this.#options = options;
  }

  get placeCount(): number {
    return this.#seats.size;
  }

  get restartCount(): number {
    return Math.max(0, this.#launchCount - this.#options.size);
  }

  get waitingCount(): number {
    return Math.max(0, this.#held.size - (this.#seats.size - this.#idle.length));
  }

  get taskCount(): number {
    return this.#held.size;
  }

  start(): void {
    while (this.#stopping === undefined && this.#places.size < this.#options.size) {
      this.#launch();
      if (this.#breaker.openReason !== undefined) {
        return;
      }
    }
  }

  submit(task: WorkerTask, settle: Settle): void {
    const held: HeldTask = { task, settle, seat: undefined, timer: undefined, isCancelled: false };
    const refusal = this.#refusal();
    if (refusal !== undefined) {
      settle(refusal);
      return;
    }
    this.#held.set(task.nonce, held);
    const seat = this.#takeIdle();
    if (seat !== undefined) {
      this.#run(held, seat);
      return;
    }
    this.#waiting.push(held);
    const next = this.#waiting.length === 1 ? this.#leastBusy() : undefined;
    if (next !== undefined) {
      this.#feed(next);
    }
  }

  cancel(nonce: string): boolean {
    const held = this.#held.get(nonce);
    if (held === undefined) {
      return false;
    }
    held.isCancelled = true;
    if (held.seat !== undefined && held.seat.tasks[0] !== held) {
      this.#takeBack(held.seat);
    }
    if (held.seat === undefined) {
      this.#waiting.splice(this.#waiting.indexOf(held), 1);
      this.#settleUnstarted(held, CANCELLED);
    } else {
      this.#end(held, held.seat, 'TASK_CANCELLED');
    }
    return true;
  }

  recall(): string[] {
    this.#takeAllBack();
    const nonces = this.#waiting.splice(0).map(({ task }) => task.nonce);
    for (const nonce of nonces) {
      this.#held.delete(nonce);
    }
    return nonces;
  }

  async stop(): Promise<void> {
    this.#stopping ??= new Promise((resolve) => {
      this.#stopped = resolve;
    });
    this.#probe?.cancel();
    this.#takeAllBack();
    this.#failWaiting('AGENT_STOPPED', 'the worker host stopped before the task started');
    for (const place of this.#places) {
      place.abort('AGENT_STOPPED');
    }
    this.#checkStopped();
    await this.#stopping;
  }

  kill(): void {
    for (const place of this.#places) {
      place.kill();
    }
  }

  #refusal(): FailedOutcome | undefined {
    const failed = { kind: 'failed', workerLost: false } as const;
    if (this.#stopping !== undefined) {
      return { ...failed, code: 'AGENT_STOPPED', message: 'the worker host is stopping' };
    }
    if (this.#options.size === 0) {
      return {
        ...failed,
        code: 'LANGUAGE_NOT_AVAILABLE',
        message: `this worker host runs no ${this.language} functions`,
      };
    }
    const { openReason } = this.#breaker;
    return openReason === undefined || this.#seats.size > 0
      ? undefined
      : { ...failed, code: 'WORKER_START_FAILED', message: openReason };
  }

  /** A place whose worker has just ended is idle until it is lost. */
  #takeIdle(): Seat | undefined {
    let seat = this.#idle.pop();
    while (seat?.place.isEnding === true) {
      seat = this.#idle.pop();
    }
    return seat;
  }

  /** One that cannot be made (no space for its output, no descriptor) is one that did not become ready. */
  #launch(): void {
    this.#launchCount += 1;
    let place: Place | undefined;
    try {
      place = this.#makePlace();
      this.#places.add(place);
      place.start();
    } catch (error) {
      if (place !== undefined) {
        this.#places.delete(place);
      }
      const reason = `a ${this.language} worker cannot be started: ${errorText(error)}`;
      this.#onFailure({ reason, hopeless: false });
    }
  }

  #makePlace(): Place {
    const place = this.#options.createPlace({
      onReady: () => {
        this.#onReady(place);
      },
      onLost: (failure) => {
        this.#forget(place);
        if (failure !== undefined) {
          this.#onFailure(failure);
        }
        this.#refill();
        this.#checkStopped();
      },
      onQuarantined: () => {
        this.#forget(place);
        this.#options.listener.onQuarantined(this.language);
        this.#checkStopped();
      },
    });
    return place;
  }

  #refill(): void {
    if (this.#breaker.openReason === undefined) {
      this.start();
    }
    const { openReason } = this.#breaker;
    if (openReason !== undefined && this.#seats.size === 0) {
      this.#failWaiting('WORKER_START_FAILED', openReason);
    }
  }

  #onReady(place: Place): void {
    this.#breaker.succeed();
    this.#probe?.cancel();
    const seat = new Seat(place);
    this.#seats.set(place, seat);
    this.#options.listener.onPlacesChanged();
    this.#onFree(seat);
    // After a successful probe the other places are missing.
    this.start();
  }

  #onFree(seat: Seat): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const other of this.#seats.values()) {
      if (other.tasks.length > 1 && other.isStuck(nowMs)) {
        this.#takeBack(other);
      }
    }
    const next = this.#waiting.shift() ?? this.#takeOver();
    if (next === undefined) {
      this.#idle.push(seat);
    } else {
      this.#run(next, seat);
      this.#feed(seat);
    }
  }

  /** A task that stands behind another somewhere else. */
  #takeOver(): HeldTask | undefined {
    for (const seat of this.#seats.values()) {
      const held = seat.reclaim();
      if (held !== undefined) {
        return held;
      }
    }
    return undefined;
  }

  /** The busy place with the fewest tasks, if one has room for more. */
  #leastBusy(): Seat | undefined {
    const nowMs = this.#options.clock.monotonicMs();
    let found: Seat | undefined;
    for (const seat of this.#seats.values()) {
      if (seat.hasRoom(nowMs) && (found === undefined || seat.tasks.length < found.tasks.length)) {
        found = seat;
      }
    }
    return found;
  }

  /** Gives a busy place some of what waits ahead of time. */
  #feed(seat: Seat): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (
      let next = this.#waiting[0];
      next !== undefined && mayGoAhead(next) && seat.hasRoom(nowMs);
      next = this.#waiting[0]
    ) {
      this.#waiting.shift();
      seat.add(next);
      seat.place.runAhead(next.task, this.#settler(next, seat));
    }
  }

  #takeBack(seat: Seat): void {
    this.#waiting.unshift(...seat.reclaimAll());
  }

  #takeAllBack(): void {
    for (const seat of [...this.#seats.values()].reverse()) {
      this.#takeBack(seat);
    }
  }

  /** Ends a task that runs, unless it has ended and its place runs the next one. */
  #end(held: HeldTask, seat: Seat, reason: AbortReason): void {
    this.#takeBack(seat);
    if (seat.tasks[0] === held && seat.tasks.length === 1) {
      seat.place.abort(reason);
    }
  }

  #forget(place: Place): void {
    this.#places.delete(place);
    const seat = this.#seats.get(place);
    if (seat === undefined) {
      return;
    }
    const index = this.#idle.indexOf(seat);
    if (index !== -1) {
      this.#idle.splice(index, 1);
    }
    this.#seats.delete(place);
    const left = seat.empty();
    this.#waiting.unshift(...left.filter(({ isCancelled }) => !isCancelled));
    for (const held of left.filter(({ isCancelled }) => isCancelled)) {
      this.#settleUnstarted(held, CANCELLED);
    }
    if (this.#stopping !== undefined) {
      this.#failWaiting('AGENT_STOPPED', 'the worker host stopped before the task started');
    }
    this.#options.listener.onPlacesChanged();
  }

  #run(held: HeldTask, seat: Seat): void {
    const { task } = held;
    const { clock, listener } = this.#options;
    seat.begin(held, clock.monotonicMs());
    listener.onBegin(task);
    if (task.timeoutMs !== undefined) {
      held.timer = clock.after(task.timeoutMs, () => {
        this.#end(held, seat, 'TASK_TIMED_OUT');
      });
    }
    seat.place.run(task, this.#settler(held, seat));
  }

  #settler(held: HeldTask, seat: Seat): Settle {
    return (outcome) => {
      held.timer?.cancel();
      seat.remove(held);
      this.#held.delete(held.task.nonce);
      if (outcome.kind === 'result') {
        this.#breaker.work();
      }
      held.settle(outcome);
      // A place whose worker has ended reports that itself.
      // What failed in an environment leaves the place itself as it was.
      const isUsable = outcome.kind === 'result' || held.task.environment !== undefined;
      if (isUsable && this.#seats.has(seat.place) && !seat.place.isEnding) {
        this.#goOn(seat);
      }
    };
  }

  #goOn(seat: Seat): void {
    const [next] = seat.tasks;
    if (next === undefined) {
      this.#onFree(seat);
      return;
    }
    seat.begunAtMs = this.#options.clock.monotonicMs();
    if (next.isCancelled) {
      this.#end(next, seat, 'TASK_CANCELLED');
    } else if (seat.isLow) {
      this.#feed(seat);
    }
  }

  #onFailure({ reason, hopeless, wasReady }: PlaceFailure): void {
    const opened =
      wasReady === true
        ? this.#breaker.lose(reason, this.#options.clock.monotonicMs())
        : this.#breaker.fail(reason, hopeless);
    const { openReason } = this.#breaker;
    if (openReason === undefined || this.#stopping !== undefined) {
      return;
    }
    if (opened) {
      this.#options.listener.onDegraded(this.language, openReason);
    }
    this.#probe?.cancel();
    this.#probe = this.#options.clock.after(
      this.#options.probePeriodMs ?? PROBE_PERIOD_MS,
      () => {
        if (this.#places.size < this.#options.size) {
          this.#launch();
        }
      },
      { background: true },
    );
  }

  #failWaiting(code: 'AGENT_STOPPED' | 'WORKER_START_FAILED', message: string): void {
    for (const held of this.#waiting.splice(0)) {
      this.#settleUnstarted(held, { kind: 'failed', code, message, workerLost: false });
    }
  }

  #settleUnstarted(held: HeldTask, outcome: FailedOutcome): void {
    this.#held.delete(held.task.nonce);
    held.settle(outcome);
  }

  #checkStopped(): void {
    if (this.#places.size === 0) {
      this.#stopped?.();
    }
  }
}

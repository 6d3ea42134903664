/**
 * Keeps a number of places filled, hands each free one the next task, and replaces those that are lost.
 *
 * Invariants: every submitted task is settled exactly once; a place runs one task at a time; no more than `size` places exist, not
 * counting those that were given up; while the breaker is open, tasks fail at once with the reason instead of waiting.
 */
import type { Clock, Timer } from '../base/clock.ts';
import type { Language } from '../protocol/serialization.ts';
import type {
  AbortReason,
  Engine,
  EngineListener,
  FailedOutcome,
  Place,
  PlaceFactory,
  Settle,
  WorkerTask,
} from './engine.ts';
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

interface HeldTask {
  readonly task: WorkerTask;
  readonly settle: Settle;
  place: Place | undefined;
  timer: Timer | undefined;
}

/** An engine over places. */
export class PlaceEngine implements Engine {
  readonly language: Language;
  readonly #options: PlaceEngineOptions;
  readonly #breaker = new StartBreaker();
  /** Every place that is starting, idle, running or ending. */
  readonly #places = new Set<Place>();
  readonly #ready = new Set<Place>();
  /** Last in, first out: the worker that ran last has warm caches. */
  readonly #idle: Place[] = [];
  readonly #waiting: HeldTask[] = [];
  readonly #held = new Map<string, HeldTask>();
  #probe: Timer | undefined;
  #stopped: (() => void) | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: PlaceEngineOptions) {
    this.language = options.language;
    this.#options = options;
  }

  get placeCount(): number {
    return this.#ready.size;
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
    const held: HeldTask = { task, settle, place: undefined, timer: undefined };
    const refusal = this.#refusal();
    if (refusal !== undefined) {
      settle(refusal);
      return;
    }
    this.#held.set(task.nonce, held);
    const place = this.#idle.pop();
    if (place === undefined) {
      this.#waiting.push(held);
    } else {
      this.#run(held, place);
    }
  }

  cancel(nonce: string): boolean {
    const held = this.#held.get(nonce);
    if (held === undefined) {
      return false;
    }
    if (held.place === undefined) {
      this.#waiting.splice(this.#waiting.indexOf(held), 1);
      this.#settleUnstarted(held, {
        kind: 'failed',
        code: 'TASK_CANCELLED',
        message: 'the task was cancelled before it started',
        workerLost: false,
      });
    } else {
      held.place.abort('TASK_CANCELLED');
    }
    return true;
  }

  async stop(): Promise<void> {
    this.#stopping ??= new Promise((resolve) => {
      this.#stopped = resolve;
    });
    this.#probe?.cancel();
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
    return openReason === undefined || this.#ready.size > 0
      ? undefined
      : { ...failed, code: 'WORKER_START_FAILED', message: openReason };
  }

  #launch(): void {
    const place = this.#options.createPlace({
      onReady: () => {
        this.#onReady(place);
      },
      onLost: (startFailure) => {
        this.#forget(place);
        if (startFailure !== undefined) {
          this.#onStartFailure(startFailure.reason, startFailure.hopeless);
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
    this.#places.add(place);
    place.start();
  }

  #refill(): void {
    const { openReason } = this.#breaker;
    if (openReason === undefined) {
      this.start();
    } else if (this.#ready.size === 0) {
      this.#failWaiting('WORKER_START_FAILED', openReason);
    }
  }

  #onReady(place: Place): void {
    this.#breaker.succeed();
    this.#probe?.cancel();
    this.#ready.add(place);
    this.#options.listener.onPlacesChanged();
    this.#onFree(place);
    // After a successful probe the other places are missing.
    this.start();
  }

  #onFree(place: Place): void {
    const next = this.#waiting.shift();
    if (next === undefined) {
      this.#idle.push(place);
    } else {
      this.#run(next, place);
    }
  }

  #forget(place: Place): void {
    this.#places.delete(place);
    const index = this.#idle.indexOf(place);
    if (index !== -1) {
      this.#idle.splice(index, 1);
    }
    if (this.#ready.delete(place)) {
      this.#options.listener.onPlacesChanged();
    }
  }

  #run(held: HeldTask, place: Place): void {
    const { task, settle } = held;
    held.place = place;
    if (task.timeoutMs !== undefined) {
      held.timer = this.#options.clock.after(task.timeoutMs, () => {
        place.abort('TASK_TIMED_OUT');
      });
    }
    place.run(task, (outcome) => {
      held.timer?.cancel();
      this.#held.delete(task.nonce);
      settle(outcome);
      // A place whose worker has ended reports that itself, and is no longer among the ready ones.
      if (outcome.kind === 'result' && this.#ready.has(place)) {
        this.#onFree(place);
      }
    });
  }

  #onStartFailure(reason: string, hopeless: boolean): void {
    const opened = this.#breaker.fail(reason, hopeless);
    if (this.#breaker.openReason === undefined || this.#stopping !== undefined) {
      return;
    }
    if (opened) {
      this.#options.listener.onDegraded(this.language, reason);
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

/** Words for a task that was ended from outside. */
export function abortMessage(reason: AbortReason, timeoutMs: number | undefined): string {
  switch (reason) {
    case 'TASK_TIMED_OUT':
      return `the task ran longer than its limit of ${(timeoutMs ?? 0) / 1000} s and was ended`;
    case 'TASK_CANCELLED':
      return 'the task was cancelled while it ran';
    case 'AGENT_STOPPED':
      return 'the agent stopped while the task ran';
  }
}

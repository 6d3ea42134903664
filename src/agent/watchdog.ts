/**
 * Finds loops of the agent that have work and make no progress, says so by name, and gets them going again.
 *
 * A loop is looked at once a period and costs nothing in between. Nothing to do is no stall, and neither is a task that runs for
 * days: the worker host is asked for a sign of life, not for a result. An attempt to reconnect that is on schedule is progress, so an
 * outage of hub or broker is none of the watchdog's business. When this process itself was stopped or starved, everybody starts anew.
 */
import { PERIOD_TOLERANCE } from '../base/clock.ts';
import type { Clock, Timer } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';

const PERIOD_MS = 30_000;

/** After how many of its limits without progress a loop counts as stuck: starting it again got one of them. */
const STUCK_FACTOR = 2;

/** A loop that is watched. */
export interface WatchedLoop {
  readonly name: string;
  /** How long it may make no progress while it has work. */
  readonly limitMs: number;
  /** Whether it has work now. */
  readonly isBusy: () => boolean;
  /** Changes when it has made progress. */
  readonly progress: () => number | string;
  /** Gets it going again; absent where only a person can help. */
  readonly restart?: (stalledMs: number) => void;
}

/** Stalls of one loop, for `status`. */
export interface StallReport {
  readonly loop: string;
  readonly count: number;
  /** ISO 8601. */
  readonly last_at: string;
}

/** Settings of the watchdog. */
export interface WatchdogOptions {
  readonly loops: readonly WatchedLoop[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly periodMs?: number;
}

interface Watched {
  readonly loop: WatchedLoop;
  progress: number | string;
  /** Monotonic time since which it is busy and the same, or was started again. */
  sinceMs: number;
  /** As that, but starting it again does not count. */
  stuckSinceMs: number;
  stallCount: number;
  lastStallAt: number;
  /** Whether it has stalled and made no progress since. */
  isStalled: boolean;
}

/** Watches loops. */
export class Watchdog {
  readonly #options: WatchdogOptions;
  readonly #periodMs: number;
  readonly #watched: Watched[];
  #timer: Timer | undefined;
  #checkedMs = 0;

  constructor(options: WatchdogOptions) {
    this.#options = options;
    this.#periodMs = options.periodMs ?? PERIOD_MS;
    this.#watched = options.loops.map((loop) => ({
      loop,
      progress: '',
      sinceMs: 0,
      stuckSinceMs: 0,
      stallCount: 0,
      lastStallAt: 0,
      isStalled: false,
    }));
  }

  /** Begins to watch. */
  start(): void {
    const nowMs = this.#options.clock.monotonicMs();
    this.#checkedMs = nowMs;
    for (const watched of this.#watched) {
      watched.progress = watched.loop.progress();
      watched.sinceMs = nowMs;
      watched.stuckSinceMs = nowMs;
    }
    this.#arm();
  }

  /** Watches no longer. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** False when a loop was started again and has made no progress since, for as long as it may take: only a new process can help. */
  get isProgressing(): boolean {
    return this.#watched.every(
      ({ loop, stuckSinceMs }) => this.#checkedMs - stuckSinceMs < STUCK_FACTOR * loop.limitMs,
    );
  }

  /** Every loop that has stalled since the start. */
  get stalls(): StallReport[] {
    return this.#watched
      .filter(({ stallCount }) => stallCount > 0)
      .map(({ loop, stallCount, lastStallAt }) => ({
        loop: loop.name,
        count: stallCount,
        last_at: new Date(lastStallAt).toISOString(),
      }));
  }

  /** Loops that have stalled and have made no progress since. */
  get stalled(): string[] {
    return this.#watched.filter(({ isStalled }) => isStalled).map(({ loop }) => loop.name);
  }

  #arm(): void {
    this.#timer = this.#options.clock.after(
      this.#periodMs,
      () => {
        this.#arm();
        this.#check();
      },
      { background: true, toleranceMs: this.#periodMs * PERIOD_TOLERANCE },
    );
  }

  #check(): void {
    const nowMs = this.#options.clock.monotonicMs();
    const wasAsleep = nowMs - this.#checkedMs > 2 * this.#periodMs;
    this.#checkedMs = nowMs;
    for (const watched of this.#watched) {
      const { loop } = watched;
      const progress = loop.progress();
      // Also asks, where asking is what shows life; so this comes in every round.
      const isBusy = loop.isBusy();
      if (!isBusy || wasAsleep || progress !== watched.progress) {
        watched.progress = progress;
        watched.sinceMs = nowMs;
        watched.stuckSinceMs = nowMs;
        watched.isStalled = false;
      } else if (nowMs - watched.sinceMs >= loop.limitMs) {
        this.#onStall(watched, nowMs);
      }
    }
  }

  #onStall(watched: Watched, nowMs: number): void {
    const { loop } = watched;
    const stalledMs = nowMs - watched.sinceMs;
    watched.sinceMs = nowMs;
    watched.stallCount += 1;
    watched.isStalled = true;
    watched.lastStallAt = this.#options.clock.now();
    this.#options.logger.error(
      { loop: loop.name, stalledMs: Math.round(stalledMs), limitMs: loop.limitMs },
      loop.restart === undefined
        ? 'a loop has stalled and cannot be helped from here; look at its disk or its server'
        : 'a loop has stalled, starting it again',
    );
    loop.restart?.(stalledMs);
  }
}

/**
 * Finds loops of the agent that have work and make no progress, says so by name, and gets them going again.
 *
 * A loop is looked at once a period and costs nothing in between. Nothing to do is no stall, and neither is a task that runs for
 * days: the worker host is asked for a sign of life, not for a result. An attempt to reconnect that is on schedule is progress, so an
 * outage of hub or broker is none of the watchdog's business. When this process itself was stopped or starved, everybody starts anew.
 */
import type { Clock, Timer } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';

const PERIOD_MS = 30_000;

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
  /** Monotonic time since which it is busy and the same. */
  sinceMs: number;
  stallCount: number;
  lastStallAt: number;
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
      stallCount: 0,
      lastStallAt: 0,
    }));
  }

  /** Begins to watch. */
  start(): void {
    const nowMs = this.#options.clock.monotonicMs();
    this.#checkedMs = nowMs;
    for (const watched of this.#watched) {
      watched.progress = watched.loop.progress();
      watched.sinceMs = nowMs;
    }
    this.#arm();
  }

  /** Watches no longer. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
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

  #arm(): void {
    this.#timer = this.#options.clock.after(
      this.#periodMs,
      () => {
        this.#arm();
        this.#check();
      },
      { background: true },
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

/**
 * Tells when worker hosts do not work here: they die one after the other, before they are ready or soon after. Tasks are then failed
 * with what the last one said, not kept waiting (the circuit breaker); the next host that is ready closes it.
 */
import type { Clock } from '../base/clock.ts';

/** Deaths in a row before being ready. */
const UNREADY_DEATHS_MAX = 3;
/** Deaths in a row before STABLE_MS, ready or not. */
const EARLY_DEATHS_MAX = 5;
/** How long a host must have been ready to count as good. */
const STABLE_MS = 10_000;

/** Deaths of one worker host after the other. */
export class EarlyDeaths {
  readonly #clock: Clock;
  #readyAtMs: number | undefined;
  #unreadyCount = 0;
  #count = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Deaths in a row of hosts that had not been ready for long. */
  get count(): number {
    return this.#count;
  }

  /** The next host is on its way. */
  onBegun(): void {
    this.#readyAtMs = undefined;
  }

  /** It has said that it is ready. */
  onReady(): void {
    this.#readyAtMs = this.#clock.monotonicMs();
  }

  /** It has died; returns whether it is to be said that hosts do not work here. */
  onDeath(): boolean {
    const readyAtMs = this.#readyAtMs;
    const wasGood = readyAtMs !== undefined && this.#clock.monotonicMs() - readyAtMs >= STABLE_MS;
    this.#unreadyCount = readyAtMs === undefined ? this.#unreadyCount + 1 : 0;
    this.#count = wasGood ? 0 : this.#count + 1;
    return this.#unreadyCount >= UNREADY_DEATHS_MAX || this.#count >= EARLY_DEATHS_MAX;
  }
}

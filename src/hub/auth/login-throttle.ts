/**
 * Limits on guessing passwords: wrong ones count against the username and against the address that they came from, each in a
 * window that begins with the first. Who has used theirs up waits for the rest of it, right password or not.
 *
 *   per username   5 in 5 minutes     somebody's password is guessed
 *   per address   50 in 5 minutes     many people's are; behind a proxy all have one address, therefore so many
 *
 * Counted in this process and in bounded memory: with n hub processes it takes n times as long to run out.
 */
import type { Clock } from '../../base/clock.ts';
import { BoundedCache } from '../bounded-cache.ts';

const WINDOW_MS = 5 * 60_000;
const PER_USERNAME_MAX = 5;
const PER_ADDRESS_MAX = 50;
const COUNTED_MAX = 20_000;

interface Failures {
  count: number;
  readonly endsAtMs: number;
}

/** Counts failed attempts. */
export class LoginThrottle {
  readonly #clock: Clock;
  readonly #failures: BoundedCache<Failures>;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#failures = new BoundedCache({ clock, ttlMs: WINDOW_MS, weightMax: COUNTED_MAX });
  }

  /** Seconds that this attempt has to wait; 0 when it may be made. */
  waitS(username: string, address: string): number {
    const waitsMs = limits(username, address).map(({ key, max }) => {
      const failures = this.#failures.get(key);
      return failures !== undefined && failures.count >= max
        ? failures.endsAtMs - this.#clock.monotonicMs()
        : 0;
    });
    return Math.ceil(Math.max(0, ...waitsMs) / 1000);
  }

  /**
   * Counts an attempt before it is checked: what is under way together would otherwise all be let through.
   * The right password takes the count against the username back, with {@link succeeded}.
   */
  attempted(username: string, address: string): void {
    for (const { key } of limits(username, address)) {
      const failures = this.#failures.get(key);
      if (failures === undefined) {
        this.#failures.set(key, { count: 1, endsAtMs: this.#clock.monotonicMs() + WINDOW_MS });
      } else {
        failures.count += 1;
      }
    }
  }

  /** The attempt was made with the right password. */
  succeeded(username: string, address: string): void {
    const [ofUsername, ofAddress] = limits(username, address);
    this.#failures.delete(ofUsername.key);
    const failures = this.#failures.get(ofAddress.key);
    if (failures !== undefined) {
      failures.count -= 1;
    }
  }
}

interface Limit {
  readonly key: string;
  readonly max: number;
}

function limits(username: string, address: string): [Limit, Limit] {
  return [
    { key: `u ${username.slice(0, 256)}`, max: PER_USERNAME_MAX },
    { key: `a ${address}`, max: PER_ADDRESS_MAX },
  ];
}

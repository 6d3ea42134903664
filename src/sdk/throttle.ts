/**
 * The soft throttle of the classic client: 20 requests in any 10 seconds, 5 MB for each request and each answer.
 *
 *  T1 A request that comes too early waits for its turn, in the order of coming; none is refused for its rate.
 *  T2 A body above the bound is refused before it is sent, an answer above it as soon as that is known.
 *
 * The Executor is not throttled: it has bounds of its own (executor-options.ts), and gathers tasks into few requests.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { ProtocolError } from '../base/errors.ts';
import { AbortWatch } from './abort-watch.ts';

/** Requests in any {@link THROTTLE_PERIOD_MS}. */
export const THROTTLE_REQUESTS = 20;
/** Window in which requests are counted, in milliseconds. */
export const THROTTLE_PERIOD_MS = 10_000;
/** Largest body of a request or an answer, in bytes. */
export const THROTTLE_BODY_BYTES = 5_000_000;

/** Counts requests and holds up those that come too early. */
export class Throttle {
  readonly #clock: Clock;
  readonly #watch = new AbortWatch();
  /** When the last requests were or will be sent, oldest first. */
  readonly #turnsMs: number[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves when one more request may be sent. Rejects with the signal's reason, and then its turn is given back. */
  async pass(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const nowMs = this.#clock.monotonicMs();
    const before = this.#turnsMs.at(-THROTTLE_REQUESTS);
    const turnMs = before === undefined ? nowMs : Math.max(nowMs, before + THROTTLE_PERIOD_MS);
    this.#turnsMs.push(turnMs);
    this.#turnsMs.splice(
      0,
      this.#turnsMs.findIndex((ms) => ms > nowMs - THROTTLE_PERIOD_MS),
    );
    if (turnMs > nowMs) {
      await this.#wait(turnMs - nowMs, signal).catch((error: unknown) => {
        this.#turnsMs.splice(this.#turnsMs.indexOf(turnMs) >>> 0, 1);
        throw error;
      });
    }
  }

  async #wait(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
    let timer: Timer | undefined;
    let unwatch: (() => void) | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        timer = this.#clock.after(delayMs, resolve);
        unwatch = signal && this.#watch.add(signal, reject);
      });
    } finally {
      timer?.cancel();
      unwatch?.();
    }
  }
}

/** Checks a body against {@link THROTTLE_BODY_BYTES}. @throws ProtocolError PAYLOAD_TOO_LARGE */
export function requireWithinBodyBound(of: 'request' | 'reply', bytes: number): void {
  if (bytes > THROTTLE_BODY_BYTES) {
    const what = of === 'request' ? 'a request' : 'an answer of the hub';
    throw new ProtocolError(
      'PAYLOAD_TOO_LARGE',
      `${what} has ${bytes} bytes, more than the ${THROTTLE_BODY_BYTES} that a throttled client may have in one. ` +
        'Ask for fewer tasks at a time, pass large data by a file or URL, or set client.throttlingEnabled = false.',
    );
  }
}

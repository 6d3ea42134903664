/**
 * Outlasts a hub that is away for a while (restarted, unreachable, overloaded): the HTTP client repeats a request for some
 * seconds, this repeats it for minutes. What the hub refuses is not repeated.
 *
 *   attempt   0     1     2     3     4     5 …
 *   pause     1 s   2 s   4 s   8 s   16 s  30 s, each with jitter, or what Retry-After asks for when that is longer
 */
import { backoffDelayMs } from '../base/backoff.ts';
import { sleep } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

/** How long it is repeated unless somebody says otherwise. */
export const RETRY_FOR_MS = 5 * 60_000;

const PAUSE = { baseMs: 1_000, maxMs: 30_000 };

/** How long, and for whom. */
export interface UntilAvailableOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** No attempt begins later than this after the first. */
  readonly retryForMs: number;
  readonly signal: AbortSignal;
  /** Whether somebody still waits for it. */
  readonly isWanted: () => boolean;
  /** What it then fails with. Default the last failure. */
  readonly onGivenUp?: (last: UnavailableError, attempts: number) => Error;
}

/** Whether a failure may pass by itself: the hub was away, or overloaded. A certificate that is refused stays refused. */
export function mayPass(error: unknown): error is UnavailableError {
  return error instanceof UnavailableError && error.code !== 'CERTIFICATE_REFUSED';
}

/** Calls `attempt` until it resolves, or rejects with what does not pass by itself, or time is up. */
export async function untilAvailable<T>(
  attempt: () => Promise<T>,
  options: UntilAvailableOptions,
): Promise<T> {
  const { clock, logger, retryForMs, signal } = options;
  const startedMs = clock.monotonicMs();
  for (let count = 1; ; count += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!mayPass(error) || !options.isWanted()) {
        throw error;
      }
      const asked = error.details['retryAfterMs'];
      const pauseMs = Math.max(
        backoffDelayMs(count - 1, PAUSE),
        typeof asked === 'number' ? asked : 0,
      );
      if (clock.monotonicMs() - startedMs + pauseMs > retryForMs) {
        throw options.onGivenUp?.(error, count) ?? error;
      }
      logger.warn(
        { err: error, attempts: count, pauseMs },
        'the hub is not available; trying again',
      );
      await sleep(clock, pauseMs, signal);
    }
  }
}

/**
 * Bounded waits. A bare `Promise.race` leaks its losers' timers and listeners; these do not.
 */
import type { Clock } from './clock.ts';

/**
 * Waits for `work` at most `limitMs`; on time-out rejects with what `onTimeout` makes.
 *
 * The work itself goes on: pass it an AbortSignal where it can be stopped. A rejection after the limit is dropped
 * on purpose, because its waiter has been told already.
 */
export async function withDeadline<T>(
  clock: Clock,
  limitMs: number,
  work: Promise<T>,
  onTimeout: () => Error,
): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const timer = clock.after(limitMs, () => {
      reject(onTimeout());
    });
    work
      .finally(() => {
        timer.cancel();
      })
      .then(resolve, reject);
  });
}

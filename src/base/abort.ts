/**
 * Waiting that can be called off. A bare `Promise.race` against a signal leaks its listener; this does not.
 */

/**
 * Waits for `work`, or rejects with the signal's reason as soon as it is aborted.
 *
 * Only the waiting ends: the work itself goes on, which is what a result shared between several waiters needs.
 */
export async function raceAbort<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (signal === undefined) {
    return await work;
  }
  return await new Promise<T>((resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason as Error);
    };
    if (signal.aborted) {
      onAbort();
    } else {
      signal.addEventListener('abort', onAbort, { once: true });
    }
    // Stays attached after an abort, so that a late rejection is not reported as unhandled.
    work
      .finally(() => {
        signal.removeEventListener('abort', onAbort);
      })
      .then(resolve, reject);
  });
}

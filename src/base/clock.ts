/**
 * Time as a parameter: everything that waits or reads the time takes a Clock, so tests can turn it by hand.
 */

/** A pending timer; `cancel` is idempotent. */
export interface Timer {
  /** Ends it before it fires, if it has not. */
  cancel: () => void;
}

/** Source of time. */
export interface Clock {
  /** Milliseconds since the Unix epoch. May jump. */
  now: () => number;
  /** Milliseconds on a clock that never jumps. */
  monotonicMs: () => number;
  /** Calls back once after `delayMs`. A `background` timer does not keep the process alive. */
  after: (delayMs: number, callback: () => void, options?: { background?: boolean }) => Timer;
}

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (delayMs, callback, options) => {
    const handle = setTimeout(callback, delayMs);
    if (options?.background === true) {
      handle.unref();
    }
    return {
      cancel: (): void => {
        clearTimeout(handle);
      },
    };
  },
};

/** Resolves after `delayMs`, or rejects with the signal's reason as soon as it is aborted. */
export async function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason as Error);
    };
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

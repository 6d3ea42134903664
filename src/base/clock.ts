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
  /** Calls back once after `delayMs`. */
  after: (delayMs: number, callback: () => void, options?: TimerOptions) => Timer;
}

/** How a timer may be treated. */
export interface TimerOptions {
  /** Does not keep the process alive. */
  readonly background?: boolean;
  /**
   * May come this much sooner or later, together with something else ({@link coalesceTimers}): a process at rest is woken less often. Without
   * anything else it comes that much later.
   */
  readonly toleranceMs?: number;
}

/** Part of its period by which what comes regularly, and need not come on time, may come sooner or later. */
export const PERIOD_TOLERANCE = 1 / 12;

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (delayMs, callback, { background = false, toleranceMs = 0 } = {}) =>
    toleranceMs > 0
      ? startTolerant(delayMs, callback, background, toleranceMs)
      : startTimer(delayMs, callback, background),
};

function startTimer(delayMs: number, callback: () => void, background: boolean): Timer {
  const handle = setTimeout(callback, delayMs);
  if (background) {
    handle.unref();
  }
  return {
    cancel: (): void => {
      clearTimeout(handle);
    },
  };
}

interface TolerantTimer extends Timer {
  /** Monotonic time from which on it may fire. */
  readonly fromMs: number;
  readonly fire: () => void;
}

const tolerant = new Set<TolerantTimer>();

function startTolerant(
  delayMs: number,
  callback: () => void,
  background: boolean,
  toleranceMs: number,
): Timer {
  const fire = (): void => {
    // It may have been cancelled since it was told to fire.
    if (tolerant.has(timer)) {
      timer.cancel();
      callback();
    }
  };
  const latest = startTimer(delayMs + toleranceMs, fire, background);
  const timer: TolerantTimer = {
    fromMs: performance.now() + delayMs - toleranceMs,
    fire,
    cancel: (): void => {
      latest.cancel();
      tolerant.delete(timer);
    },
  };
  tolerant.add(timer);
  return timer;
}

/** Fires, in a turn of its own, what may fire now. For what wakes the process at regular intervals anyway. */
export function coalesceTimers(): void {
  const nowMs = performance.now();
  for (const timer of tolerant) {
    if (timer.fromMs <= nowMs) {
      setImmediate(timer.fire);
    }
  }
}

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

/**
 * Many waiters on one AbortSignal with one listener: a signal that is given to 10,000 submissions gets no 10,000 listeners,
 * and none stays on it when the last waiter has gone.
 */

type OnAbort = (reason: unknown) => void;

interface Watched {
  readonly waiters: Set<OnAbort>;
  readonly listener: () => void;
}

/** Calls waiters back when their signal is aborted. */
export class AbortWatch {
  readonly #watched = new Map<AbortSignal, Watched>();

  /** Calls back once when the signal is aborted, which it must not be yet. The returned function calls that off. */
  add(signal: AbortSignal, onAbort: OnAbort): () => void {
    const { waiters } = this.#watched.get(signal) ?? this.#watch(signal);
    waiters.add(onAbort);
    return () => {
      waiters.delete(onAbort);
      if (waiters.size === 0) {
        this.#forget(signal);
      }
    };
  }

  #watch(signal: AbortSignal): Watched {
    const waiters = new Set<OnAbort>();
    const listener = (): void => {
      this.#forget(signal);
      for (const onAbort of waiters) {
        onAbort(signal.reason);
      }
    };
    const watched = { waiters, listener };
    this.#watched.set(signal, watched);
    signal.addEventListener('abort', listener, { once: true });
    return watched;
  }

  #forget(signal: AbortSignal): void {
    const watched = this.#watched.get(signal);
    if (watched !== undefined) {
      this.#watched.delete(signal);
      signal.removeEventListener('abort', watched.listener);
    }
  }
}

/** Futures in the order in which they are settled. */
import { AbortWatch } from './abort-watch.ts';
import type { ComputeFuture } from './compute-future.ts';
import { Fifo } from './fifo.ts';

/**
 * Futures in the order in which they are settled. Structurally an `AsyncIterableIterator`, and not declared as one, because
 * TypeScript would take each future for its value: it awaits what those yield, and `for await` does not.
 */
export interface Completions<T> {
  /** The next future that is settled. */
  next: () => Promise<IteratorResult<ComputeFuture<T>>>;
  /** Ends before all are settled; the futures themselves go on. */
  return: () => Promise<IteratorResult<ComputeFuture<T>>>;
  /** For `for await`. */
  [Symbol.asyncIterator]: () => Completions<T>;
}

/**
 * Iterates over futures as they are settled, like Python's `concurrent.futures.as_completed`. Each is done when it comes, so
 * awaiting it gives its value or its error at once; a failed one does not end the iteration. A future that is given twice
 * comes once.
 *
 * `signal` ends the waiting with the signal's reason, and leaves the futures alone.
 */
export function asCompleted<T>(
  futures: Iterable<ComputeFuture<T>>,
  options: { readonly signal?: AbortSignal } = {},
): Completions<T> {
  return new CompletionOrder(new Set(futures), options.signal);
}

interface Waiter<T> {
  readonly resolve: (result: IteratorResult<ComputeFuture<T>>) => void;
}

/** Not a generator: that would await the futures that it yields. */
class CompletionOrder<T> implements Completions<T> {
  readonly #signal: AbortSignal | undefined;
  readonly #watch = new AbortWatch();
  readonly #settled = new Fifo<ComputeFuture<T>>();
  readonly #waiters = new Fifo<Waiter<T>>();
  /** Futures that nobody has asked for yet. */
  #left: number;

  constructor(futures: ReadonlySet<ComputeFuture<T>>, signal: AbortSignal | undefined) {
    this.#signal = signal;
    this.#left = futures.size;
    for (const future of futures) {
      const onSettled = (): void => {
        const waiter = this.#waiters.shift();
        if (waiter === undefined) {
          this.#settled.push(future);
        } else {
          waiter.resolve({ done: false, value: future });
        }
      };
      future.then(onSettled, onSettled);
    }
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<ComputeFuture<T>>> {
    this.#signal?.throwIfAborted();
    if (this.#left === 0) {
      return { done: true, value: undefined };
    }
    this.#left -= 1;
    const settled = this.#settled.shift();
    return settled === undefined ? await this.#wait() : { done: false, value: settled };
  }

  async return(): Promise<IteratorResult<ComputeFuture<T>>> {
    this.#left = 0;
    this.#settled.clear();
    for (let waiter = this.#waiters.shift(); waiter; waiter = this.#waiters.shift()) {
      waiter.resolve({ done: true, value: undefined });
    }
    return await Promise.resolve({ done: true, value: undefined });
  }

  async #wait(): Promise<IteratorResult<ComputeFuture<T>>> {
    const signal = this.#signal;
    let release: (() => void) | undefined;
    try {
      return await new Promise((resolve, reject) => {
        release = signal && this.#watch.add(signal, reject);
        this.#waiters.push({ resolve });
      });
    } finally {
      release?.();
    }
  }
}

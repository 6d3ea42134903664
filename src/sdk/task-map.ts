/**
 * What `executor.map` returns: the values of a function for many items, as an async iterator, as an array when it is awaited,
 * and with the failures among them by `settled()`.
 */
import type { SettledTask } from './task-flow.ts';

/** Where the outcomes come from. */
export interface OutcomeSource<T> {
  next: () => Promise<SettledTask<T> | undefined>;
  stop: () => Promise<void>;
}

/**
 * Results of a mapped function. Nothing is submitted before they are asked for, and then only so far ahead as the bounds of
 * the executor allow. It can be consumed once.
 *
 * - `for await (const value of map)`: an item that failed throws at its turn. The rest goes on: ask `next()` again, or loop
 *   again over the same map, and the items after it come. Leaving the loop by `break` or `return` drops what was not sent.
 * - `await map`: an array of all values; the first failure rejects it and drops what was not sent.
 * - `map.settled()`: both, with failures as data, each with the index of its item.
 */
export class TaskMap<T, Shown = T> implements AsyncIterableIterator<Shown>, PromiseLike<Shown[]> {
  readonly #source: OutcomeSource<T>;
  readonly #show: (outcome: SettledTask<T>) => Shown;
  #last: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(source: OutcomeSource<T>, show: (outcome: SettledTask<T>) => Shown) {
    this.#source = source;
    this.#show = show;
  }

  /** The same results, with failures as data: `{ status, index, value | reason }`, as of Promise.allSettled. */
  settled(): TaskMap<T, SettledTask<T>> {
    return new TaskMap(this.#source, (outcome) => outcome);
  }

  /** For `for await`: the results, as they come. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next value. Rejects when its item failed; the next call goes on with the item after it. */
  async next(): Promise<IteratorResult<Shown>> {
    // One after the other, so that values come in the order of asking.
    const outcome = this.#last.then(async () => await this.#source.next());
    this.#last = outcome.catch(() => undefined);
    const settled = await outcome;
    return settled === undefined
      ? { done: true, value: undefined }
      : { done: false, value: this.#show(settled) };
  }

  /** Ends the mapping: called by `for await` when the loop is left. */
  async return(): Promise<IteratorResult<Shown>> {
    await this.#source.stop();
    return { done: true, value: undefined };
  }

  /** Collects everything. */
  async then<A = Shown[], B = never>(
    onFulfilled?: ((values: Shown[]) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return await this.#collect().then(onFulfilled, onRejected);
  }

  async #collect(): Promise<Shown[]> {
    const values: Shown[] = [];
    try {
      for await (const value of this) {
        values.push(value);
      }
    } catch (error) {
      await this.#source.stop();
      throw error;
    }
    return values;
  }
}

/** The value of an item, or its error thrown. */
export function valueOf<T>(outcome: SettledTask<T>): T {
  if (outcome.status === 'rejected') {
    throw outcome.reason as Error;
  }
  return outcome.value;
}

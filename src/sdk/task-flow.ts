/**
 * Turns a source of items into tasks and their outcomes, never further ahead than there is room for.
 *
 *   source ─pull─▶ chunk ─submit─▶ future … settled ─▶ taken by the consumer
 *
 * F1 An item is pulled only when the executor has room and fewer than `window` tasks wait for the consumer, done or not.
 * F2 After a failure nothing is pulled until the consumer asks for more: one that left at the failure has no more tasks sent.
 * F3 When the consumer stops, or the signal is aborted, what has not been sent is dropped and the source is closed.
 * F4 A failure of the source comes after the outcomes of the items before it.
 */
import { AbortWatch } from './abort-watch.ts';
import type { ComputeFuture } from './compute-future.ts';
import { AbortError } from './errors.ts';
import { Fifo } from './fifo.ts';

/** What became of one item. */
export type SettledTask<T> =
  | { readonly status: 'fulfilled'; readonly index: number; readonly value: T }
  | { readonly status: 'rejected'; readonly index: number; readonly reason: unknown };

/** Items to map over. */
export type Items<Item> = Iterable<Item> | AsyncIterable<Item>;

/** Settings of a {@link TaskFlow}. */
export interface TaskFlowOptions<Item, T> {
  readonly items: Items<Item>;
  /** Items in one task. */
  readonly chunk: number;
  readonly isOrdered: boolean;
  /** Most tasks that are open or wait for the consumer. */
  readonly window: number;
  readonly signal: AbortSignal | undefined;
  /** Resolves when the executor has room. */
  readonly ready: (signal: AbortSignal) => Promise<void>;
  readonly submit: (items: readonly Item[]) => ComputeFuture<unknown>;
  /** The outcomes of the items of one task, from its value. */
  readonly split: (value: unknown, taskId: string, index: number) => readonly SettledTask<T>[];
}

type Outcomes<T> = readonly SettledTask<T>[];

/** Outcomes of tasks, one item at a time. One consumer. */
export class TaskFlow<Item, T> {
  readonly #options: TaskFlowOptions<Item, T>;
  readonly #source: Iterator<Item> | AsyncIterator<Item>;
  readonly #stopping = new AbortController();
  readonly #watch = new AbortWatch();
  readonly #open = new Set<ComputeFuture<unknown>>();
  /** In the order of the items when ordered, else in that of their ends. */
  readonly #outcomes = new Fifo<Promise<Outcomes<T>>>();
  readonly #taken = new Fifo<SettledTask<T>>();
  #waiting = 0;
  #itemCount = 0;
  #isPaused = false;
  #isPulling = false;
  #pumping: Promise<void> | undefined;
  #end: { readonly failure?: unknown } | undefined;
  #wakeConsumer: () => void = () => undefined;
  #wakePump: () => void = () => undefined;
  readonly #unwatch: (() => void) | undefined;

  constructor(options: TaskFlowOptions<Item, T>) {
    this.#options = options;
    const { items, signal } = options;
    this.#source =
      Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
    if (signal?.aborted === true) {
      this.#abort(signal.reason);
    } else if (signal !== undefined) {
      this.#unwatch = this.#watch.add(signal, (reason) => {
        this.#abort(reason);
      });
    }
  }

  /** The next outcome; undefined after the last. @throws what the source threw; AbortError. */
  async next(): Promise<SettledTask<T> | undefined> {
    this.#isPaused = false;
    this.#pumping ??= this.#pump();
    this.#wakePump();
    for (;;) {
      const outcome = this.#taken.shift();
      if (outcome !== undefined) {
        this.#isPaused = outcome.status === 'rejected'; // F2
        return outcome;
      }
      const outcomes = this.#outcomes.shift();
      if (outcomes !== undefined) {
        const items = await outcomes;
        if (!this.#isStopped()) {
          this.#waiting -= 1;
          items.forEach((item) => {
            this.#taken.push(item);
          });
          this.#wakePump();
        }
      } else if (this.#end !== undefined && this.#waiting === 0) {
        const { failure } = this.#end;
        this.#end = {};
        if (failure !== undefined) {
          throw failure as Error; // F4
        }
        return undefined;
      } else {
        await new Promise<void>((resolve) => {
          this.#wakeConsumer = resolve;
        });
      }
    }
  }

  /** The consumer wants no more. */
  async stop(): Promise<void> {
    this.#finish();
    this.#stopping.abort();
    this.#pumping ??= this.#pump();
    if (!this.#isPulling) {
      await this.#pumping;
    }
    // Else it is closed when it has brought the item that it is about to bring, which may be never.
  }

  #isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  #abort(reason: unknown): void {
    this.#finish(
      new AbortError(
        undefined,
        reason,
        'during map(). What was not sent is dropped; the rest goes on at its endpoint.',
      ),
    );
    this.#stopping.abort(reason);
  }

  /** Ends the flow: nothing more comes but the failure (F3). */
  #finish(failure?: Error): void {
    this.#end = failure === undefined ? {} : { failure };
    this.#unwatch?.();
    for (const future of this.#open) {
      future.cancel();
    }
    this.#outcomes.clear();
    this.#taken.clear();
    this.#waiting = 0;
    this.#wakePump();
    this.#wakeConsumer();
  }

  async #pump(): Promise<void> {
    let failure: unknown;
    let isExhausted = false;
    try {
      while (!this.#isStopped() && !isExhausted) {
        await this.#room(); // F1
        const items: Item[] = [];
        isExhausted = await this.#pull(items);
        if (items.length > 0 && !this.#isStopped()) {
          this.#submit(items);
        }
      }
    } catch (error) {
      failure = error;
    }
    if (!isExhausted) {
      failure = await this.#closeSource(failure);
    }
    this.#unwatch?.();
    this.#end ??= failure === undefined ? {} : { failure };
    this.#wakeConsumer();
  }

  /** Resolves when the executor has room and the consumer is near enough; rejects when everything is over. */
  async #room(): Promise<void> {
    const { window, ready } = this.#options;
    const { signal } = this.#stopping;
    await ready(signal);
    while (this.#waiting >= window || this.#isPaused) {
      await new Promise<void>((resolve) => {
        this.#wakePump = resolve;
      });
      await ready(signal);
    }
  }

  /** Pulls the items of one task; whether the source has no more. */
  async #pull(items: Item[]): Promise<boolean> {
    this.#isPulling = true;
    while (items.length < this.#options.chunk && !this.#isStopped()) {
      const step = await this.#source.next();
      if (step.done === true) {
        return true;
      }
      items.push(step.value);
    }
    this.#isPulling = false;
    return false;
  }

  #submit(items: readonly Item[]): void {
    const index = this.#itemCount;
    this.#itemCount += items.length;
    const future = this.#options.submit(items);
    this.#open.add(future);
    this.#waiting += 1;
    const outcomes = this.#outcomesOf(future, index, items.length);
    if (this.#options.isOrdered) {
      this.#outcomes.push(outcomes);
      this.#wakeConsumer();
    } else {
      // Never rejects.
      outcomes.then(
        () => {
          if (!this.#isStopped()) {
            this.#outcomes.push(outcomes);
            this.#wakeConsumer();
          }
        },
        () => undefined,
      );
    }
  }

  async #outcomesOf(
    future: ComputeFuture<unknown>,
    index: number,
    count: number,
  ): Promise<Outcomes<T>> {
    try {
      return this.#options.split(await future, future.taskId ?? '', index);
    } catch (reason) {
      return Array.from({ length: count }, (_, offset) => ({
        status: 'rejected',
        index: index + offset,
        reason,
      }));
    } finally {
      this.#open.delete(future);
    }
  }

  /** Lets a generator run its `finally`; its failure counts when there was none before. */
  async #closeSource(failure: unknown): Promise<unknown> {
    try {
      await this.#source.return?.();
      return failure;
    } catch (error) {
      return failure ?? error;
    }
  }
}

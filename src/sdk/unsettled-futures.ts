/**
 * The futures of an executor that are not settled: made here, each with the ways in which the program can give it up, and
 * forgotten when they are settled.
 */
import { AbortWatch } from './abort-watch.ts';
import { createFuture } from './compute-future.ts';
import type { FutureControl } from './compute-future.ts';
import { AbortError, FutureCancelledError } from './errors.ts';
import type { SubmittedTask } from './submitter.ts';

/** What is remembered of a future until it is settled. */
export interface Unsettled {
  /** While it waits to be sent. */
  queued?: SubmittedTask;
  /** Whether the hub may have it. */
  isSent?: boolean;
  unwatch?: () => void;
}

/** Every unsettled future, submitted or not. */
export class UnsettledFutures {
  readonly #futures = new Map<FutureControl<unknown>, Unsettled>();
  readonly #watch = new AbortWatch();
  readonly #onSettled: (control: FutureControl<unknown>, was: Unsettled) => void;

  /** `onSettled` is told each future once, when it is no longer here. */
  constructor(onSettled: (control: FutureControl<unknown>, was: Unsettled) => void) {
    this.#onSettled = onSettled;
  }

  get size(): number {
    return this.#futures.size;
  }

  get(control: FutureControl<unknown>): Unsettled | undefined {
    return this.#futures.get(control);
  }

  /** Makes a future, which is settled already when its signal has been aborted. */
  create(signal: AbortSignal | undefined): FutureControl<unknown> {
    const control = createFuture<unknown>({
      onSettled: (settled) => {
        const was = this.#futures.get(settled) ?? {};
        this.#futures.delete(settled);
        was.unwatch?.();
        this.#onSettled(settled, was);
      },
      onCancel: (cancelled) => {
        const isUnsent = this.#futures.get(cancelled)?.isSent !== true;
        cancelled.reject(
          new FutureCancelledError(cancelled.future.taskId, 'the future was cancelled'),
        );
        return isUnsent;
      },
    });
    const unsettled: Unsettled = {};
    this.#futures.set(control, unsettled);
    const onAbort = (reason: unknown): void => {
      control.reject(new AbortError(control.future.taskId, reason));
    };
    if (signal?.aborted === true) {
      onAbort(signal.reason);
    } else if (signal !== undefined) {
      unsettled.unwatch = this.#watch.add(signal, onAbort);
    }
    return control;
  }

  /** Rejects every future. */
  rejectAll(errorFor: (control: FutureControl<unknown>) => Error): void {
    for (const control of this.#futures.keys()) {
      control.reject(errorFor(control));
    }
  }

  /** Resolves when those that are here now are settled. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#futures.keys()].map(async ({ future }) => await future));
  }
}

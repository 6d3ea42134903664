/**
 * A future: the promise of a task's value that also knows the task. It can be awaited, passed to Promise.all, chained.
 *
 * A failure waits to be looked at, as in Python's futures: a future that nobody has awaited yet does not end the process as
 * an unhandled rejection, so futures can be collected and awaited one after the other.
 */

/** What the executor keeps of a future. */
export interface FutureControl<T> {
  readonly future: ComputeFuture<T>;
  /** Says which task it is; the first call counts. */
  submitted: (taskId: string) => void;
  /** Settles the future; the first of `resolve` and `reject` counts. */
  resolve: (value: T) => void;
  reject: (error: Error) => void;
}

/** What becomes of a future, told to whoever made it. */
export interface FutureHooks<T> {
  /** Called once, when it is settled. */
  readonly onSettled: (control: FutureControl<T>) => void;
  /** Asked to stop waiting: settles the future; whether the task was kept from being sent. */
  readonly onCancel: (control: FutureControl<T>) => boolean;
}

interface FutureState {
  taskId: string | undefined;
  isDone: boolean;
  cancel: () => boolean;
}

/** Result of a task, later. */
export class ComputeFuture<T> implements Promise<T> {
  readonly [Symbol.toStringTag] = 'ComputeFuture';
  /** Resolves with the task's id once the hub has taken it; rejects with the future when it does not. */
  readonly submitted: Promise<string>;
  readonly #promise: Promise<T>;
  readonly #state: FutureState;

  /** @internal */
  constructor(promise: Promise<T>, submitted: Promise<string>, state: FutureState) {
    this.#promise = promise;
    this.submitted = submitted;
    this.#state = state;
  }

  /** The task's id; undefined until the hub has taken it (see `submitted`). */
  get taskId(): string | undefined {
    return this.#state.taskId;
  }

  /** Whether the value or the error is there. */
  get isDone(): boolean {
    return this.#state.isDone;
  }

  /**
   * Stops waiting: the future rejects with FutureCancelledError. A task that has not been sent is dropped and never runs
   * (true); one that has been sent goes on at its endpoint, and `client.getResult` has its result later (false).
   */
  cancel(): boolean {
    return !this.#state.isDone && this.#state.cancel();
  }

  async then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return await this.#promise.then(onFulfilled, onRejected);
  }

  async catch<B = never>(
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<T | B> {
    return await this.#promise.catch(onRejected);
  }

  async finally(onFinally?: (() => void) | null): Promise<T> {
    return await this.#promise.finally(onFinally);
  }
}

/** Makes a future together with the means to settle it. */
export function createFuture<T>(hooks?: FutureHooks<T>): FutureControl<T> {
  const state: FutureState = { taskId: undefined, isDone: false, cancel: () => false };
  const value = deferred<T>();
  const submitted = deferred<string>();
  const settle = (): boolean => {
    const isFirst = !state.isDone;
    state.isDone = true;
    return isFirst;
  };
  const control: FutureControl<T> = {
    future: new ComputeFuture(value.promise, submitted.promise, state),
    submitted: (taskId) => {
      state.taskId ??= taskId;
      submitted.resolve(taskId);
    },
    resolve: (result) => {
      if (settle()) {
        value.resolve(result);
        hooks?.onSettled(control);
      }
    },
    reject: (error) => {
      if (settle()) {
        value.reject(error);
        submitted.reject(error);
        hooks?.onSettled(control);
      }
    },
  };
  state.cancel = () => hooks?.onCancel(control) ?? false;
  return control;
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  // Looked at when it is awaited; see the header.
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}

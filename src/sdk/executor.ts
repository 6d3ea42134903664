/**
 * Runs functions on one endpoint: `submit` returns a future at once, submissions are batched, results are streamed.
 *
 *   submit ─▶ registered? ─▶ queue ─▶ POST submit (Idempotency-Key) ─▶ task id ─▶ future settled by the stream, then ack
 *
 * Invariants:
 *  E1 Every future is settled: by its result, by the failure of its submission, by its signal, or by shutdown.
 *  E2 A result is acked after its future is settled. One that comes before the answer to its submission is held; one that
 *     belongs to no future is acked and left to the hub, which keeps it.
 *  E3 After a reconnect the hub is asked once for everything unsettled. While the broker cannot be reached at all (a firewall,
 *     say), it is asked at every attempt, so results still come, only later. It is also asked while another process consumes
 *     the group's queue, and, ever more slowly, while no result comes.
 *  E4 Nothing is kept of a future that is settled.
 *
 * Unsettled futures keep the process alive. When there are none, the connection is closed after a moment, so that a program
 * which forgets `shutdown()` ends all the same.
 */
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import { detach, silentLogger } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import { BackPressure } from './back-pressure.ts';
import type { Client } from './client.ts';
import type { ComputeFuture, FutureControl } from './compute-future.ts';
import { FutureCancelledError } from './errors.ts';
import { executorSettings } from './executor-options.ts';
import type {
  ExecutorOptions,
  MapOptions,
  ReattachOptions,
  ShutdownOptions,
  SubmitOptions,
} from './executor-options.ts';
import type { AnyFunction } from './function-source.ts';
import { requireClient, requireFunction } from './given.ts';
import { GroupSubscription } from './group-subscription.ts';
import { mapTasks } from './map-tasks.ts';
import { OpenTasks } from './open-tasks.ts';
import type { TaskContext } from './outcome.ts';
import type { FunctionReference, RegisteredFunction } from './registered-function.ts';
import type { Items } from './task-flow.ts';
import type { TaskMap } from './task-map.ts';
import { TaskSender } from './task-sender.ts';
import type { Runnable } from './task-sender.ts';
import { UnsettledFutures } from './unsettled-futures.ts';
import type { Unsettled } from './unsettled-futures.ts';

/** Executor for one endpoint. */
export class Executor implements AsyncDisposable {
  /** Endpoint to run tasks on; without one, an executor only reads what was submitted earlier. */
  readonly endpointId: string | undefined;
  readonly #settings: ReturnType<typeof executorSettings>;
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #sender: TaskSender;
  readonly #tasks: OpenTasks;
  readonly #pressure: BackPressure;
  readonly #group: GroupSubscription;
  readonly #unsettled: UnsettledFutures;
  readonly #cancelling = new AbortController();
  #taskGroupId: string | undefined;
  /** Whether the group is known to have a queue. */
  #hasQueue = false;
  #taskCountSubmitted = 0;
  #isClosed = false;
  #closed: Promise<void> | undefined;

  constructor(options: ExecutorOptions) {
    requireClient(options.client);
    this.endpointId = options.endpointId;
    this.#settings = executorSettings(options);
    this.#client = options.client;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#taskGroupId = options.taskGroupId;
    const common = { hub: options.client.hub, clock: this.#clock, logger: this.#logger };
    const onRefused = (error: Error): void => {
      this.#unsettled.rejectAll(() => error);
    };
    this.#pressure = new BackPressure(this.#settings);
    this.#tasks = new OpenTasks({ ...common, onRefused });
    this.#unsettled = new UnsettledFutures((control, was) => {
      this.#settled(control, was);
    });
    this.#group = new GroupSubscription({
      ...common,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
      idleMs: this.#settings.idleMs,
      subscriber: {
        take: (result) => this.#tasks.take(result),
        onGap: (reason) => {
          this.#logger.debug({ reason }, 'results may be missing; asking the hub');
          this.#tasks.reconcileSoon();
        },
        onShared: (isShared) => {
          this.#tasks.setShared(isShared);
        },
        onRefused,
      },
    });
    this.#sender = new TaskSender({
      client: options.client,
      executor: options,
      settings: this.#settings,
      clock: this.#clock,
      logger: this.#logger,
      pressure: this.#pressure,
      unsettled: this.#unsettled,
      signal: this.#cancelling.signal,
      taskGroupId: () => this.#taskGroupId,
      around: async (send) => {
        await this.#during(send);
      },
      onAccepted: (taskGroupId) => {
        this.#accepted(taskGroupId);
      },
      onTask: (taskId, { control, functionName }) => {
        this.#taskCountSubmitted += 1;
        this.#await(taskId, control, { functionName });
      },
    });
  }

  /**
   * Takes up a task group of an earlier program: an executor for the group, with a future for every task in it. Those that
   * have ended are settled at once, the others as their results come. More can be submitted when `endpointId` is given.
   */
  static async reattach(
    taskGroupId: string,
    options: ReattachOptions,
  ): Promise<{ executor: Executor; futures: ComputeFuture<unknown>[] }> {
    const executor = new Executor({ ...options, taskGroupId });
    const { signal } = options;
    const futures = await executor.reloadTasks(taskGroupId, signal === undefined ? {} : { signal });
    return { executor, futures };
  }

  /** Group of this executor's tasks; undefined until the first submission is answered. */
  get taskGroupId(): string | undefined {
    return this.#taskGroupId;
  }

  /** Futures that are not settled yet. */
  get openTaskCount(): number {
    return this.#pressure.openTasks;
  }

  /** Tasks that the hub has taken from this executor. */
  get taskCountSubmitted(): number {
    return this.#taskCountSubmitted;
  }

  /**
   * Runs a function with these arguments. A function is registered at its first use. Never waits: to keep to the bounds of
   * the executor, await `ready()` before.
   */
  submit<Args extends readonly unknown[], Result>(
    fn: ((...args: Args) => Result) | RegisteredFunction<Args, Result>,
    ...args: Args
  ): ComputeFuture<Awaited<Result>> {
    return this.#submit(fn, args, {}, {}) as ComputeFuture<Awaited<Result>>;
  }

  /** As `submit`, with options: a signal that ends the waiting. */
  submitWith<Args extends readonly unknown[], Result>(
    options: SubmitOptions,
    fn: ((...args: Args) => Result) | RegisteredFunction<Args, Result>,
    ...args: Args
  ): ComputeFuture<Awaited<Result>> {
    return this.#submit(fn, args, {}, options) as ComputeFuture<Awaited<Result>>;
  }

  /** Runs a registered function by its handle or id, with positional and keyword arguments. */
  submitToRegisteredFunction<Args extends readonly unknown[], Result = unknown>(
    fn: FunctionReference<Args, Result>,
    args?: Args,
    kwargs: Readonly<Record<string, unknown>> = {},
    options: SubmitOptions = {},
  ): ComputeFuture<Awaited<Result>> {
    return this.#submit(fn, args ?? [], kwargs, options) as ComputeFuture<Awaited<Result>>;
  }

  /**
   * Resolves when there is room for another task: fewer than `maxOpenTasks` are open and fewer than `maxUnsentBytes` of
   * arguments wait to be sent. Rejects when the executor is shut down, or with the signal's reason.
   */
  async ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#pressure.ready(options.signal);
  }

  /**
   * Runs a function for each of many items, which may come from a generator that is larger than memory: they are pulled as
   * there is room. See {@link TaskMap} for the ways to consume the results; nothing is submitted before.
   */
  map<Item, Result>(
    fn: ((item: Item) => Result) | FunctionReference<readonly [Item], Result>,
    items: Items<Item>,
    options: MapOptions = {},
  ): TaskMap<Awaited<Result>> {
    this.#refuseWhenClosed();
    return mapTasks(
      {
        endpointId: this.endpointId,
        maxOpenTasks: this.#settings.maxOpenTasks,
        ready: async (signal) => {
          await this.ready({ signal });
        },
        submit: (target, args) => this.#submit(target, args, {}, {}),
      },
      fn as AnyFunction | FunctionReference,
      items,
      options,
    );
  }

  /**
   * Futures for the tasks of a group, such as that of a program that was ended; default the group of this executor. Those
   * of tasks that this executor awaits already are the same as before. A process that still awaits the group gets its
   * results all the same, only later: each result is streamed to one reader, and the other asks the hub. A Python program
   * with the original SDK does not ask: leave it its group until it has ended.
   */
  async reloadTasks(
    taskGroupId: string | undefined = this.#taskGroupId,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<ComputeFuture<unknown>[]> {
    if (taskGroupId === undefined) {
      throw new UsageError(
        'which task group? This executor has none yet: reloadTasks(taskGroupId)',
      );
    }
    this.#refuseToReload(taskGroupId);
    const { tasks } = await this.#client.hub.taskGroup(taskGroupId, options.signal);
    // Again: it may have been shut down, or have got tasks of another group, while the hub was asked.
    this.#refuseToReload(taskGroupId);
    // A stream that is still open for another group would never deliver this group's results.
    const closed = this.#taskGroupId === taskGroupId ? undefined : this.#disconnect();
    this.#taskGroupId = taskGroupId;
    const futures = tasks.map(({ id }) => {
      const known = this.#tasks.get(id);
      if (known !== undefined) {
        return known.future;
      }
      const control = this.#createFuture(options);
      this.#await(id, control, {});
      return control.future;
    });
    await closed;
    await this.#tasks.reconcile(tasks.map(({ id }) => id));
    this.#connect();
    return futures;
  }

  /**
   * Takes no more tasks, waits for those it has, and closes the connection.
   *
   * With `cancelPending`, futures that are not settled are rejected with FutureCancelledError instead of waited for: what has
   * not been sent is dropped, what has been sent goes on at its endpoint. With `wait: false`, it returns at once, and the
   * connection is closed when the last future is settled. It may be called again, to cancel after all.
   */
  async shutdown(options: ShutdownOptions = {}): Promise<void> {
    this.#isClosed = true;
    this.#pressure.end(this.#closedError());
    if (options.cancelPending === true) {
      this.#cancelling.abort(new FutureCancelledError(undefined));
      // What waits to be sent is dropped with its future; without one, it must not run.
      this.#unsettled.rejectAll(({ future }) => new FutureCancelledError(future.taskId));
    }
    this.#closed ??= this.#close();
    if (options.wait === false) {
      detach(this.#logger, 'shutting down', this.#closed);
    } else {
      await this.#closed;
    }
  }

  /** As `shutdown()`: waits for every future. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  async #close(): Promise<void> {
    await this.#unsettled.settled();
    await this.#sender.idle();
    await this.#disconnect();
  }

  #submit(
    fn: Runnable,
    args: readonly unknown[],
    kwargs: Readonly<Record<string, unknown>>,
    options: SubmitOptions,
  ): ComputeFuture<unknown> {
    this.#refuseWhenClosed();
    requireFunction(fn);
    if (this.endpointId === undefined) {
      throw new UsageError(
        'where shall it run? Make the Executor with an endpointId to submit tasks',
      );
    }
    const control = this.#createFuture(options);
    if (!control.future.isDone) {
      this.#sender.add(fn, args, kwargs, control);
    }
    return control.future;
  }

  /** Sends a batch, with an ear to its results. */
  async #during(send: () => Promise<void>): Promise<void> {
    const group = this.#taskGroupId;
    if (this.#hasQueue || (group !== undefined && this.#group.isOpen(group))) {
      // Now, because results may be there before the answer.
      this.#connect();
    }
    await this.#group.during(send);
    this.#connect();
  }

  #accepted(taskGroupId: string): void {
    if (this.#taskGroupId !== taskGroupId) {
      detach(this.#logger, 'leaving a task group', this.#disconnect());
    }
    this.#taskGroupId = taskGroupId;
    this.#hasQueue = true;
  }

  /** Awaits the result of a task, which may be here already. */
  #await(taskId: string, control: FutureControl<unknown>, context: TaskContext): void {
    const { endpointId } = this;
    this.#tasks.add(
      taskId,
      control,
      endpointId === undefined ? context : { ...context, endpointId },
    );
    const early = this.#group.claim(taskId);
    if (early !== undefined && !this.#tasks.take(early)) {
      early.ack();
    }
  }

  #createFuture({ signal }: SubmitOptions): FutureControl<unknown> {
    this.#pressure.addTasks(1);
    this.#group.busy();
    return this.#unsettled.create(signal);
  }

  /** Lets go of everything that was kept for a future (E4). */
  #settled({ future }: FutureControl<unknown>, { queued }: Unsettled): void {
    if (queued !== undefined) {
      this.#sender.drop(queued);
    }
    if (future.taskId !== undefined) {
      this.#tasks.remove(future.taskId);
    }
    this.#pressure.addTasks(-1);
    if (this.#unsettled.size === 0) {
      this.#group.idle();
    }
  }

  #connect(): void {
    if (this.#taskGroupId !== undefined && this.#unsettled.size > 0) {
      this.#group.join(this.#taskGroupId);
    }
  }

  async #disconnect(): Promise<void> {
    this.#tasks.stopAsking();
    this.#tasks.setShared(false);
    await this.#group.leave();
  }

  #refuseToReload(taskGroupId: string): void {
    this.#refuseWhenClosed();
    if (this.#unsettled.size > 0 && this.#taskGroupId !== taskGroupId) {
      throw new UsageError(
        'this executor already has tasks in another group: reload with a new Executor, or before the first submit',
      );
    }
  }

  #refuseWhenClosed(): void {
    if (this.#isClosed) {
      throw this.#closedError();
    }
  }

  #closedError(): UsageError {
    const which = this.endpointId === undefined ? '' : ` for endpoint ${this.endpointId}`;
    return new UsageError(`this executor${which} was shut down: make a new one to submit more`);
  }
}

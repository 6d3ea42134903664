/**
 * Runs functions on one endpoint: `submit` returns a future at once, submissions are batched, results are streamed.
 *
 *   submit ─▶ registered? ─▶ queue ─▶ POST submit (Idempotency-Key) ─▶ task id ─▶ future settled by the stream, then ack
 *
 * Invariants:
 *  E1 Every future is settled: by its result, by the failure of its submission, or by shutdown.
 *  E2 A result is acked after its future is settled. One that comes before the answer to its submission is held; one that
 *     belongs to no future is acked and left to the hub, which keeps it.
 *  E3 After a reconnect the hub is asked once for everything unsettled. While the broker cannot be reached at all (a firewall,
 *     say), it is asked at every attempt, so results still come, only later. It is also asked, ever more slowly, while no
 *     result comes: another consumer of the group's queue may have taken ours.
 *
 * Unsettled futures keep the process alive. When there are none, the connection is closed after a moment, so that a program
 * which forgets `shutdown()` ends all the same.
 */
import { randomUUID } from 'node:crypto';

import { systemClock } from '../base/clock.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { ProtocolError, UsageError } from '../base/errors.ts';
import { detach, silentLogger } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import type { Submission, SubmissionAccepted } from '../protocol/rest.ts';
import type { Client } from './client.ts';
import { createFuture } from './compute-future.ts';
import type { ComputeFuture, FutureControl } from './compute-future.ts';
import { FutureCancelledError } from './errors.ts';
import type { AnyFunction } from './function-source.ts';
import { OpenTasks } from './open-tasks.ts';
import { RegisteredFunction } from './registered-function.ts';
import type { FunctionReference } from './registered-function.ts';
import { ResultStream } from './result-stream.ts';
import { resultSerializersFor, serializeArguments } from './serializers.ts';
import type { ArgumentFormat } from './serializers.ts';
import { SubmissionQueue } from './submission-queue.ts';
import type { QueuedTask } from './submission-queue.ts';

/** Settings of an {@link Executor}. */
export interface ExecutorOptions {
  readonly client: Client;
  readonly endpointId: string;
  /** Group to add tasks to. Default a new one. */
  readonly taskGroupId?: string;
  /** Most tasks in one request. Default 512. */
  readonly batchSize?: number;
  /** Default `json`; `v8` keeps Map, Date, bigint and binary data, for JavaScript functions. */
  readonly argumentFormat?: ArgumentFormat;
  /** Import paths of result strategies, in place of JSON. */
  readonly resultSerializers?: readonly string[];
  readonly resourceSpecification?: Readonly<Record<string, unknown>>;
  readonly userEndpointConfig?: Readonly<Record<string, unknown>>;
  /** How long a connection without unsettled futures is kept. Default 2 s. */
  readonly idleMs?: number;
  /** Certificate authority of the broker (PEM), when the system's list does not have it. */
  readonly ca?: string;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

interface SubmittedTask extends QueuedTask {
  readonly functionName: string;
  readonly control: FutureControl<unknown>;
}

const BATCH_SIZE = 512;
/** Well under what the hub takes in one request, since texts grow when they are escaped. */
const BATCH_BYTES = 4 * 1024 * 1024;
const IDLE_MS = 2_000;

/** Executor for one endpoint. */
export class Executor implements AsyncDisposable {
  readonly endpointId: string;
  readonly #options: ExecutorOptions;
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #queue: SubmissionQueue<SubmittedTask>;
  readonly #tasks: OpenTasks;
  /** Every unsettled future, submitted or not. */
  readonly #unsettled = new Set<FutureControl<unknown>>();
  readonly #cancelling = new AbortController();
  #taskGroupId: string | undefined;
  #stream: ResultStream | undefined;
  #idleTimer: Timer | undefined;
  #isClosed = false;

  constructor(options: ExecutorOptions) {
    this.endpointId = options.endpointId;
    this.#options = options;
    this.#client = options.client;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#taskGroupId = options.taskGroupId;
    this.#tasks = new OpenTasks({
      hub: options.client.hub,
      endpointId: options.endpointId,
      clock: this.#clock,
      logger: this.#logger,
      onRefused: (error) => {
        this.#rejectAll(() => error);
      },
    });
    this.#queue = new SubmissionQueue({
      batchSize: options.batchSize ?? BATCH_SIZE,
      batchBytes: BATCH_BYTES,
      send: async (batch) => {
        await this.#send(batch);
      },
    });
  }

  /** Group of this executor's tasks; undefined until the first submission is answered. */
  get taskGroupId(): string | undefined {
    return this.#taskGroupId;
  }

  /** Runs a function with these arguments. A function is registered at its first use. */
  submit<Args extends readonly unknown[], Result>(
    fn: ((...args: Args) => Result) | RegisteredFunction<Args, Result>,
    ...args: Args
  ): ComputeFuture<Awaited<Result>> {
    return this.#submit(fn, args, {}) as ComputeFuture<Awaited<Result>>;
  }

  /** Runs a registered function by its handle or id, with positional and keyword arguments. */
  submitToRegisteredFunction<Args extends readonly unknown[], Result = unknown>(
    fn: FunctionReference<Args, Result>,
    args?: Args,
    kwargs: Readonly<Record<string, unknown>> = {},
  ): ComputeFuture<Awaited<Result>> {
    return this.#submit(fn, args ?? [], kwargs) as ComputeFuture<Awaited<Result>>;
  }

  /** Futures for the tasks of an earlier group, such as that of a program that was ended. */
  async reloadTasks(taskGroupId: string): Promise<ComputeFuture<unknown>[]> {
    this.#refuseToReload(taskGroupId);
    const { tasks } = await this.#client.hub.taskGroup(taskGroupId);
    // Again: it may have been shut down, or have got tasks of another group, while the hub was asked.
    this.#refuseToReload(taskGroupId);
    // A stream that is still open for another group would never deliver this group's results.
    const closed = this.#taskGroupId === taskGroupId ? undefined : this.#disconnect();
    this.#taskGroupId = taskGroupId;
    const futures = tasks.map(({ id }) => {
      const control = this.#createFuture();
      this.#tasks.add(id, control, {});
      return control.future;
    });
    await closed;
    await this.#tasks.reconcile();
    this.#connect();
    return futures;
  }

  /**
   * Takes no more tasks, waits for those it has, and closes the connection. With `cancel`, futures that are not settled are
   * rejected with FutureCancelledError instead of waited for; tasks at the endpoint go on.
   */
  async shutdown(options: { readonly cancel?: boolean } = {}): Promise<void> {
    this.#isClosed = true;
    if (options.cancel === true) {
      this.#cancelling.abort(new FutureCancelledError(undefined));
      this.#rejectAll((control) => new FutureCancelledError(control.future.taskId));
    }
    await Promise.allSettled([...this.#unsettled].map(async ({ future }) => await future));
    await this.#queue.idle();
    this.#idleTimer?.cancel();
    await this.#disconnect();
  }

  /** As `shutdown()`: waits for every future. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  #submit(
    fn: AnyFunction | FunctionReference,
    args: readonly unknown[],
    kwargs: Readonly<Record<string, unknown>>,
  ): ComputeFuture<unknown> {
    this.#refuseWhenClosed();
    const control = this.#createFuture();
    const prepared = this.#prepare(fn, args, kwargs, control);
    prepared.catch((error: unknown) => {
      control.reject(error as Error);
    });
    return control.future;
  }

  async #prepare(
    fn: AnyFunction | FunctionReference,
    args: readonly unknown[],
    kwargs: Readonly<Record<string, unknown>>,
    control: FutureControl<unknown>,
  ): Promise<void> {
    const format = this.#options.argumentFormat ?? 'json';
    // Before anything is awaited: what the caller changes afterwards must not count.
    const payload = serializeArguments(args, kwargs, format);
    const known = typeof fn === 'function' ? await this.#client.registrationOf(fn) : fn;
    const language = known instanceof RegisteredFunction ? known.language : undefined;
    if (control.future.isDone) {
      return;
    }
    this.#queue.add({
      functionId: typeof known === 'string' ? known : known.id,
      functionName: typeof known === 'string' ? known : known.name,
      payload,
      resultSerializers:
        this.#options.resultSerializers ??
        resultSerializersFor(language, format).result_serializers ??
        [],
      control,
    });
  }

  /** Sends one batch; a failure is that of its futures. */
  async #send(batch: readonly SubmittedTask[]): Promise<void> {
    const byFunction = groupByFunction(batch);
    this.#tasks.submissionBegins();
    try {
      const accepted = await this.#client.hub.submit(
        this.endpointId,
        this.#submission(byFunction),
        {
          idempotencyKey: randomUUID(),
          signal: this.#cancelling.signal,
        },
      );
      this.#taskGroupId = accepted.task_group_id;
      for (const [functionId, tasks] of byFunction) {
        this.#assign(functionId, tasks, accepted);
      }
      this.#connect();
    } catch (error) {
      for (const { control } of batch) {
        control.reject(error as Error);
      }
    } finally {
      this.#tasks.submissionEnds();
    }
  }

  #submission(byFunction: ReadonlyMap<string, readonly SubmittedTask[]>): Submission {
    const { resourceSpecification, userEndpointConfig } = this.#options;
    const tasks = [...byFunction].map(
      ([functionId, list]) => [functionId, list.map((task) => task.payload)] as const,
    );
    const [[first] = []] = byFunction.values();
    return {
      create_queue: true,
      tasks: Object.fromEntries(tasks),
      ...(this.#taskGroupId === undefined ? {} : { task_group_id: this.#taskGroupId }),
      ...(first === undefined || first.resultSerializers.length === 0
        ? {}
        : { result_serializers: first.resultSerializers }),
      ...(resourceSpecification === undefined
        ? {}
        : { resource_specification: resourceSpecification }),
      ...(userEndpointConfig === undefined ? {} : { user_endpoint_config: userEndpointConfig }),
    };
  }

  /** Gives the futures of one function the ids of their tasks. */
  #assign(functionId: string, tasks: readonly SubmittedTask[], accepted: SubmissionAccepted): void {
    const ids = accepted.tasks[functionId] ?? [];
    for (const [index, { control, functionName }] of tasks.entries()) {
      const taskId = ids[index];
      if (taskId === undefined || ids.length !== tasks.length) {
        control.reject(
          new ProtocolError(
            'RESPONSE_INVALID',
            `the hub took ${tasks.length} tasks of "${functionName}" for endpoint ${this.endpointId} and named ${ids.length}`,
          ),
        );
      } else {
        control.submitted(taskId);
        this.#tasks.add(taskId, control, { functionName });
      }
    }
  }

  #createFuture(): FutureControl<unknown> {
    const control = createFuture<unknown>();
    this.#unsettled.add(control);
    this.#idleTimer?.cancel();
    const settled = (): void => {
      this.#unsettled.delete(control);
      this.#disconnectWhenIdle();
    };
    control.future.then(settled, settled);
    return control;
  }

  #connect(): void {
    if (this.#taskGroupId === undefined || this.#unsettled.size === 0) {
      return;
    }
    if (this.#stream === undefined) {
      this.#stream = new ResultStream({
        hub: this.#client.hub,
        taskGroupId: this.#taskGroupId,
        clock: this.#clock,
        logger: this.#logger,
        ...(this.#options.ca === undefined ? {} : { ca: this.#options.ca }),
        onResult: (result) => {
          this.#tasks.settle(result);
        },
        onGap: (reason) => {
          this.#logger.debug({ reason }, 'results may be missing; asking the hub');
          this.#tasks.reconcileSoon();
        },
        onRefused: (error) => {
          this.#rejectAll(() => error);
        },
      });
      this.#stream.start();
    }
  }

  #disconnectWhenIdle(): void {
    this.#idleTimer?.cancel();
    if (this.#unsettled.size === 0 && this.#stream !== undefined) {
      this.#idleTimer = this.#clock.after(this.#options.idleMs ?? IDLE_MS, () => {
        detach(this.#logger, 'closing an idle result stream', this.#disconnect());
      });
    }
  }

  async #disconnect(): Promise<void> {
    const stream = this.#stream;
    this.#stream = undefined;
    this.#tasks.stopAsking();
    await stream?.stop();
  }

  #rejectAll(errorFor: (control: FutureControl<unknown>) => Error): void {
    // What waits to be submitted has a future here; without it, it must not run.
    this.#queue.clear();
    for (const control of this.#unsettled) {
      control.reject(errorFor(control));
    }
    this.#tasks.clear();
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
      throw new UsageError(
        `this executor for endpoint ${this.endpointId} was shut down: make a new one to submit more`,
      );
    }
  }
}

function groupByFunction(batch: readonly SubmittedTask[]): Map<string, SubmittedTask[]> {
  const groups = new Map<string, SubmittedTask[]>();
  for (const task of batch) {
    const group = groups.get(task.functionId);
    if (group === undefined) {
      groups.set(task.functionId, [task]);
    } else {
      group.push(task);
    }
  }
  return groups;
}

/**
 * The client: registers functions, runs them one at a time or in batches, asks for results, and administers what is at the
 * hub (administration.ts). For many tasks and for results as they come, use the Executor, which streams them.
 *
 *  C1 A task that has ended is asked for once; what is kept of it is bounded.
 *  C2 While `throttlingEnabled`, the methods keep to the rate and the sizes of throttle.ts.
 */
import { randomUUID } from 'node:crypto';

import { backoffDelayMs } from '../base/backoff.ts';
import { sleep, systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { ConflictError, UnavailableError } from '../base/errors.ts';
import type { HubClient } from '../client/hub-client.ts';
import { COMPUTE_SCOPE } from '../protocol/rest.ts';
import type { TaskDocument } from '../protocol/rest.ts';
import { Administration } from './administration.ts';
import { runBatch } from './batch-run.ts';
import { Batch, batchTask } from './batch.ts';
import type {
  CallOptions,
  ClientOptions,
  RegisterModuleOptions,
  RegisterOptions,
  RunCall,
  RunOptions,
  WaitOptions,
} from './client-options.ts';
import { TaskPendingError } from './errors.ts';
import { FinishedTasks } from './finished-tasks.ts';
import { sourceOfFunction, sourceOfText } from './function-source.ts';
import type { AnyFunction, FunctionSource } from './function-source.ts';
import { requireTaskId } from './given.ts';
import { connectHub } from './hub-connection.ts';
import type { LoginOptions } from './login/index.ts';
import type { FunctionReference, RegisteredFunction } from './registered-function.ts';
import { Registrations, register } from './registrations.ts';
import type { SignIn } from './sign-in.ts';
import { documentInFull } from './stored-results.ts';
import { resultSerializersOf, submissionSettings } from './submitter.ts';
import type { TaskSettings } from './submitter.ts';
import { taskRecord } from './task-record.ts';
import type { TaskId, TaskRecord } from './task-record.ts';
import { RETRY_FOR_MS, mayPass } from './until-available.ts';

const POLL = { baseMs: 200, maxMs: 5_000 };
const RESULT_CACHE_BYTES = 64 * 1024 * 1024;

/** Client of a hub. Makes no request before it has to. */
export class Client extends Administration {
  /** Scope of the tokens that a client needs, by the name that it has in login managers of old. */
  // eslint-disable-next-line @typescript-eslint/naming-convention -- the name in the guide
  static readonly FUNCX_SCOPE = COMPUTE_SCOPE;
  /** The hub's REST API, for what this class has no method for. It is not throttled. */
  readonly hub: HubClient;
  readonly #clock: Clock;
  readonly #throttling: { isEnabled: boolean };
  readonly #throttled: HubClient;
  readonly #signIn: SignIn;
  readonly #registrations: Registrations;
  readonly #finished: FinishedTasks;

  constructor(options: ClientOptions = {}) {
    const clock = options.clock ?? systemClock;
    const throttling = { isEnabled: options.throttlingEnabled ?? true };
    const { hub, throttled, signIn } = connectHub(options, clock, () => throttling.isEnabled);
    super(throttled);
    this.hub = hub;
    this.#clock = clock;
    this.#throttling = throttling;
    this.#throttled = throttled;
    this.#signIn = signIn;
    this.#registrations = new Registrations(hub);
    this.#finished = new FinishedTasks(options.resultCacheBytes ?? RESULT_CACHE_BYTES);
  }

  /** Whether this client keeps to 20 requests in 10 seconds and to 5 MB in one; may be changed at any time. */
  get throttlingEnabled(): boolean {
    return this.#throttling.isEnabled;
  }

  set throttlingEnabled(isEnabled: boolean) {
    this.#throttling.isEnabled = isEnabled;
  }

  /** Signs in now and not at the first request; with `force`, although there are tokens. */
  async ensureLoggedIn(options: LoginOptions = {}): Promise<void> {
    await this.#signIn.ensure(options);
  }

  /** Signs out, and forgets what this client had remembered. The next request signs in again. */
  async logout(): Promise<void> {
    this.#registrations.clear();
    this.#finished.clear();
    await this.#signIn.end();
  }

  /** Registers a JavaScript function. It is sent as source: it must not use variables from around it. */
  async registerFunction<Args extends readonly unknown[], Result>(
    fn: (...args: Args) => Result,
    options?: RegisterOptions,
  ): Promise<RegisteredFunction<Args, Awaited<Result>>>;
  /** Registers a source text. */
  async registerFunction<Args extends readonly unknown[] = readonly unknown[], Result = unknown>(
    source: string,
    options?: RegisterOptions,
  ): Promise<RegisteredFunction<Args, Result>>;
  async registerFunction(
    fn: AnyFunction | string,
    options: RegisterOptions = {},
  ): Promise<RegisteredFunction> {
    const source =
      typeof fn === 'string'
        ? sourceOfText(fn, options.language ?? 'javascript', options.name)
        : sourceOfFunction(fn, options.name);
    return await register(this.#throttled, source, options);
  }

  /** Registers a Python function by its source; the name may be left out when there is only one. */
  async registerPythonFunction<
    Args extends readonly unknown[] = readonly unknown[],
    Result = unknown,
  >(
    source: string,
    options: string | Omit<RegisterOptions, 'language'> = {},
  ): Promise<RegisteredFunction<Args, Result>> {
    const settings = typeof options === 'string' ? { name: options } : options;
    return await this.registerFunction<Args, Result>(source, { ...settings, language: 'python' });
  }

  /**
   * Registers a function that a JavaScript or TypeScript module exports, with the packages that it imports, bundled into one
   * text. A relative path is looked for from the working directory; `new URL('./module.ts', import.meta.url)` from the file.
   *
   * @template Fn - The type of the function, as `typeof countWords` of an `import type`.
   */
  async registerModule<Fn extends AnyFunction = (...args: unknown[]) => unknown>(
    module: string | URL,
    exportName = 'default',
    options: RegisterModuleOptions = {},
  ): Promise<RegisteredFunction<Parameters<Fn>, Awaited<ReturnType<Fn>>>> {
    const { bundleModule } = await import('./module-bundle.ts');
    const source = await bundleModule(module, exportName, options);
    return (await register(this.#throttled, source, options)) as RegisteredFunction<
      Parameters<Fn>,
      Awaited<ReturnType<Fn>>
    >;
  }

  /** Submits one task and returns its id; `getResult` or `waitForResult` has the result. */
  async run<Args extends readonly unknown[], Result>(
    fn: FunctionReference<Args, Result>,
    call: RunCall<Args>,
  ): Promise<TaskId<Result>>;
  /** The same with positional arguments last. */
  async run<Args extends readonly unknown[], Result>(
    fn: FunctionReference<Args, Result>,
    endpointId: string,
    args: readonly [...Args],
    options?: RunOptions,
  ): Promise<TaskId<Result>>;
  async run(
    fn: FunctionReference<readonly unknown[]>,
    where: string | RunCall<readonly unknown[]>,
    args: readonly unknown[] = [],
    options: RunOptions = {},
  ): Promise<string> {
    const call = typeof where === 'string' ? { ...options, endpointId: where, args } : where;
    const task = batchTask(fn, call);
    const { endpointId, functionId, payload } = task;
    const accepted = await this.#throttled.submit(
      endpointId,
      {
        ...submissionSettings(call, false),
        ...resultSerializersOf(task),
        tasks: { [functionId]: [payload] },
      },
      {
        idempotencyKey: randomUUID(),
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      },
    );
    const taskId = accepted.tasks[functionId]?.[0];
    if (taskId === undefined) {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `the hub took the submission to endpoint ${endpointId} but named no task for function ${functionId}`,
      );
    }
    return taskId;
  }

  /** An empty batch, to which tasks for any endpoints are added; `batchRun` submits it. */
  createBatch(options: TaskSettings = {}): Batch {
    return new Batch(options);
  }

  /**
   * Submits a batch and returns the ids of its tasks in the order in which they were added, without waiting for results. A
   * batch may be run again, as new tasks.
   *
   * @throws BatchError when some tasks were not accepted: it has the ids of the others.
   */
  async batchRun(batch: Batch, options: CallOptions = {}): Promise<TaskId[]> {
    return await runBatch(batch, {
      hub: this.#throttled,
      clock: this.#clock,
      retryForMs: RETRY_FOR_MS,
      signal: options.signal ?? new AbortController().signal,
    });
  }

  /** How a task stands: pending, its result, or its exception. */
  async getTask<T = unknown>(
    taskId: string | TaskId<T>,
    options: CallOptions = {},
  ): Promise<TaskRecord<T>> {
    return await this.#record<T>(this.#throttled, taskId, options);
  }

  /** The result of a task. @throws TaskPendingError while it has not ended; TaskExecutionError when it failed. */
  async getResult<T = unknown>(taskId: string | TaskId<T>, options: CallOptions = {}): Promise<T> {
    return await this.#result<T>(this.#throttled, taskId, options);
  }

  /**
   * How many tasks stand, by id, in the order of the ids: those that have ended with their result or exception, the others
   * with their state. An id that the hub does not know is pending with the status `unknown`. Never waits for a task.
   */
  async getBatchResult<T = unknown>(
    taskIds: readonly (string | TaskId<T>)[],
    options: CallOptions = {},
  ): Promise<Map<string, TaskRecord<T>>> {
    taskIds.forEach(requireTaskId);
    // Looked up once: what is kept may be dropped for something else while the hub is asked.
    const known = new Map(taskIds.map((taskId) => [taskId, this.#finished.get(taskId)] as const));
    const unknown = taskIds.filter((taskId) => known.get(taskId) === undefined);
    const documents =
      unknown.length === 0 ? {} : await this.#throttled.tasks(unknown, options.signal);
    for (const [taskId, document] of Object.entries(documents)) {
      documents[taskId] = await documentInFull(this.#throttled, document, options.signal);
    }
    const records = taskIds.map((taskId): [string, TaskRecord<T>] => {
      const document = documents[taskId] ?? known.get(taskId);
      return [taskId, taskRecord(document) as TaskRecord<T>];
    });
    Object.entries(documents).forEach(([taskId, document]) => {
      this.#finished.add(taskId, document);
    });
    return new Map(records);
  }

  /**
   * Waits for a task by asking again and again, ever more slowly, also while the hub is away for up to five minutes; a signal ends
   * the waiting, not the task.
   *
   * @throws UnavailableError TIMED_OUT, and as `getResult`.
   */
  async waitForResult<T = unknown>(
    taskId: string | TaskId<T>,
    options: WaitOptions = {},
  ): Promise<T> {
    const startedMs = this.#clock.monotonicMs();
    let answeredMs = startedMs;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#result<T>(this.hub, taskId, options);
      } catch (error) {
        const nowMs = this.#clock.monotonicMs();
        if (error instanceof TaskPendingError) {
          answeredMs = nowMs;
        } else if (!mayPass(error) || nowMs - answeredMs > RETRY_FOR_MS) {
          throw error;
        }
        const leftMs = (options.timeoutMs ?? Infinity) - (nowMs - startedMs);
        if (leftMs <= 0) {
          const reason = error instanceof TaskPendingError ? error.reason : error.message;
          throw new UnavailableError(
            'TIMED_OUT',
            `task ${taskId} did not end within ${(options.timeoutMs ?? 0) / 1000} s (${reason}). It goes on: ` +
              'ask again later, and check with client.getEndpointStatus() that its endpoint is online.',
            { cause: error },
          );
        }
        await sleep(this.#clock, Math.min(backoffDelayMs(attempt, POLL), leftMs), options.signal);
      }
    }
  }

  /**
   * The registration of a function, made at its first use.
   *
   * @internal
   */
  async registrationOf(fn: AnyFunction | FunctionSource): Promise<RegisteredFunction<never>> {
    return await this.#registrations.of(fn);
  }

  async #document(hub: HubClient, taskId: string, options: CallOptions): Promise<TaskDocument> {
    requireTaskId(taskId);
    const known = this.#finished.get(taskId);
    if (known !== undefined) {
      options.signal?.throwIfAborted();
      return known;
    }
    const { signal } = options;
    const document = await documentInFull(hub, await hub.task(taskId, signal), signal);
    this.#finished.add(taskId, document);
    return document;
  }

  async #record<T>(hub: HubClient, taskId: string, options: CallOptions): Promise<TaskRecord<T>> {
    return taskRecord(await this.#document(hub, taskId, options)) as TaskRecord<T>;
  }

  async #result<T>(hub: HubClient, taskId: string, options: CallOptions): Promise<T> {
    const record = await this.#record<T>(hub, taskId, options);
    if (record.pending) {
      throw new TaskPendingError(taskId, record.status);
    }
    if (record.status === 'failed') {
      throw record.exception;
    }
    return record.result;
  }
}

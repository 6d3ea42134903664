/**
 * The client: registers functions, runs them one at a time, asks for results. For many tasks and for results as they
 * come, use the Executor, which streams them.
 */
import { randomUUID } from 'node:crypto';

import { backoffDelayMs } from '../base/backoff.ts';
import { sleep, systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { ConflictError, UnavailableError } from '../base/errors.ts';
import { HubClient } from '../client/hub-client.ts';
import { COMPUTE_SCOPE } from '../protocol/rest.ts';
import type { EndpointStatus, FunctionRegistration, Submission } from '../protocol/rest.ts';
import type { Language } from '../protocol/serialization.ts';
import { clientCredentialsTokenSource } from '../transport/oauth/client-credentials.ts';
import type { TokenSource } from '../transport/oauth/client-credentials.ts';
import { authoritiesFrom, credentialsFrom, hubUrlFrom, processEnvironment } from './environment.ts';
import type { Environment } from './environment.ts';
import { TaskPendingError } from './errors.ts';
import { codeId, packFunctionCode, sourceOfFunction, sourceOfText } from './function-source.ts';
import type { AnyFunction, FunctionSource } from './function-source.ts';
import { outcomeOfDocument } from './outcome.ts';
import type { TaskOutcome } from './outcome.ts';
import { RegisteredFunction } from './registered-function.ts';
import type { FunctionReference } from './registered-function.ts';
import { resultSerializersFor, serializeArguments } from './serializers.ts';
import type { ArgumentFormat } from './serializers.ts';
import { RETRY_FOR_MS, mayPass } from './until-available.ts';

/** Settings of a {@link Client}; what is absent comes from the environment. */
export interface ClientOptions {
  /** Default OUTPOST_HUB_URL, else http://localhost:5000. */
  readonly hubUrl?: string;
  /** With `clientSecret`. Default the first complete pair of OUTPOST_CLIENT_ID/SECRET, GLOBUS_COMPUTE_…, FUNCX_SDK_…. */
  readonly clientId?: string;
  readonly clientSecret?: string;
  /** Default the token endpoint of the hub. */
  readonly tokenEndpoint?: string;
  /** In place of client credentials: any source of access tokens. */
  readonly tokens?: TokenSource;
  /** Variables to take defaults from. Default those of the process. */
  readonly environment?: Environment;
  /** Limit for one HTTP request. Default 30 s. */
  readonly timeoutMs?: number;
  /** HTTP attempts after the first. Default 4. */
  readonly retries?: number;
  /** Authorities of hub and broker that are trusted beside the system's (PEM). Default what the file OUTPOST_CA_FILE holds. */
  readonly ca?: string;
  /** For a proxy: a fetch that knows it; then `ca` is its affair, except at the broker. */
  readonly fetch?: typeof fetch;
  readonly clock?: Clock;
}

/** Options of every request: `signal` ends it with the signal's reason, as it does for `fetch`. */
export interface CallOptions {
  readonly signal?: AbortSignal;
}

/** How a function is registered. */
export interface RegisterOptions extends CallOptions {
  /** Default the function's own name. */
  readonly name?: string;
  /** Language of a source text. Default `javascript`. */
  readonly language?: Language;
  readonly description?: string;
  /** Whether everybody at the hub may run it. Default false. */
  readonly public?: boolean;
  /** Group whose members may run it. */
  readonly group?: string;
}

/** How a task is run. */
export interface RunOptions extends CallOptions {
  readonly kwargs?: Readonly<Record<string, unknown>>;
  /** Default `json`. */
  readonly argumentFormat?: ArgumentFormat;
  readonly taskGroupId?: string;
  readonly resourceSpecification?: Readonly<Record<string, unknown>>;
}

/** How to wait for a result. */
export interface WaitOptions extends CallOptions {
  /** Default none: waits until the task ends. */
  readonly timeoutMs?: number;
}

const POLL = { baseMs: 200, maxMs: 5_000 };
const USER_AGENT = 'outpost-sdk';
/** Enough for any program but one that writes functions; that one registers some again. */
const REGISTRATIONS_KEPT = 1024;

/** Client of a hub. Makes no request before it has to. */
export class Client {
  /** The hub's REST API, for what this class has no method for. */
  readonly hub: HubClient;
  readonly #clock: Clock;
  readonly #registrations = new Map<string, Promise<RegisteredFunction<never>>>();
  /** The same by the function itself, whose source then need not be looked at. */
  readonly #known = new WeakMap<object, Promise<RegisteredFunction<never>>>();

  constructor(options: ClientOptions = {}) {
    const environment = options.environment ?? processEnvironment();
    const hubUrl = (options.hubUrl ?? hubUrlFrom(environment)).replace(/\/+$/, '');
    this.#clock = options.clock ?? systemClock;
    const ca = options.ca ?? authoritiesFrom(environment);
    const http = {
      clock: this.#clock,
      userAgent: USER_AGENT,
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
      ...(options.retries === undefined ? {} : { retries: options.retries }),
      ...(ca === undefined ? {} : { ca }),
      ...(options.fetch === undefined ? {} : { fetch: options.fetch }),
    };
    const tokens = options.tokens ?? tokensFrom(options, environment, hubUrl, http);
    this.hub = new HubClient({ ...http, hubUrl, tokens });
  }

  /** Registers a JavaScript function. It is sent as source: it must not use variables from around it. */
  async registerFunction<Args extends readonly unknown[], Result>(
    fn: (...args: Args) => Result,
    options?: RegisterOptions,
  ): Promise<RegisteredFunction<Args, Awaited<Result>>>;
  /** Registers a source text. */
  async registerFunction(source: string, options?: RegisterOptions): Promise<RegisteredFunction>;
  async registerFunction(
    fn: AnyFunction | string,
    options: RegisterOptions = {},
  ): Promise<RegisteredFunction> {
    const source =
      typeof fn === 'string'
        ? sourceOfText(fn, options.language ?? 'javascript', options.name)
        : sourceOfFunction(fn, options.name);
    return await this.#register(source, options);
  }

  /** Registers a Python function by its source; the name may be left out when there is only one. */
  async registerPythonFunction(
    source: string,
    options: string | Omit<RegisterOptions, 'language'> = {},
  ): Promise<RegisteredFunction> {
    const settings = typeof options === 'string' ? { name: options } : options;
    return await this.registerFunction(source, { ...settings, language: 'python' });
  }

  /** Submits one task and returns its id; `getResult` or `waitForResult` has the result. */
  async run<Args extends readonly unknown[]>(
    fn: FunctionReference<Args>,
    endpointId: string,
    args: readonly [...Args],
    options: RunOptions = {},
  ): Promise<string> {
    const functionId = typeof fn === 'string' ? fn : fn.id;
    const format = options.argumentFormat ?? 'json';
    const submission: Submission = {
      create_queue: false,
      tasks: { [functionId]: [serializeArguments(args, options.kwargs ?? {}, format)] },
      ...resultSerializersFor(typeof fn === 'string' ? undefined : fn.language, format),
      ...(options.taskGroupId === undefined ? {} : { task_group_id: options.taskGroupId }),
      ...(options.resourceSpecification === undefined
        ? {}
        : { resource_specification: options.resourceSpecification }),
    };
    const accepted = await this.hub.submit(endpointId, submission, {
      idempotencyKey: randomUUID(),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    const taskId = accepted.tasks[functionId]?.[0];
    if (taskId === undefined) {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `the hub took the submission to endpoint ${endpointId} but named no task for function ${functionId}`,
      );
    }
    return taskId;
  }

  /** How a task stands: pending, its value, or its error. */
  async getTask(taskId: string, options: CallOptions = {}): Promise<TaskOutcome> {
    return outcomeOfDocument(await this.hub.task(taskId, options.signal));
  }

  /** The value of a task. @throws TaskPendingError while it has not ended; TaskExecutionError when it failed. */
  async getResult<T = unknown>(taskId: string, options: CallOptions = {}): Promise<T> {
    const outcome = await this.getTask(taskId, options);
    switch (outcome.status) {
      case 'success':
        return outcome.value as T;
      case 'failed':
        throw outcome.error;
      case 'pending':
        throw new TaskPendingError(taskId, outcome.reason);
    }
  }

  /** How many tasks stand, by id; an id that the hub does not know is pending with the reason `unknown`. */
  async getBatchResult(
    taskIds: readonly string[],
    options: CallOptions = {},
  ): Promise<Map<string, TaskOutcome>> {
    const documents = await this.hub.tasks(taskIds, options.signal);
    return new Map(
      taskIds.map((taskId) => {
        const document = documents[taskId];
        return [
          taskId,
          document === undefined
            ? { status: 'pending', reason: 'unknown' }
            : outcomeOfDocument(document),
        ];
      }),
    );
  }

  /**
   * Waits for a task by asking again and again, ever more slowly, also while the hub is away for up to five minutes; a signal ends
   * the waiting, not the task.
   *
   * @throws UnavailableError TIMED_OUT, and as `getResult`.
   */
  async waitForResult<T = unknown>(taskId: string, options: WaitOptions = {}): Promise<T> {
    const startedMs = this.#clock.monotonicMs();
    let answeredMs = startedMs;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.getResult<T>(taskId, options);
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

  /** Whether an endpoint is online, with the figures of its last heartbeat. */
  async getEndpointStatus(endpointId: string, options: CallOptions = {}): Promise<EndpointStatus> {
    return await this.hub.endpointStatus(endpointId, options.signal);
  }

  /**
   * The registration of a function, made at its first use and remembered by its source, so that a function expression
   * inside a loop is registered once.
   *
   * @internal
   */
  async registrationOf(fn: AnyFunction | FunctionSource): Promise<RegisteredFunction<never>> {
    const known = this.#known.get(fn);
    if (known !== undefined) {
      return await known;
    }
    const source = typeof fn === 'function' ? sourceOfFunction(fn) : fn;
    const key = packFunctionCode(source);
    const registration = this.#registrations.get(key) ?? this.#register(source, {});
    this.#registrations.set(key, registration);
    this.#known.set(fn, registration);
    const [oldest] = this.#registrations.keys();
    if (this.#registrations.size > REGISTRATIONS_KEPT && oldest !== undefined) {
      this.#registrations.delete(oldest);
    }
    try {
      return await registration;
    } catch (error) {
      // The next use tries again.
      if (this.#registrations.get(key) === registration) {
        this.#registrations.delete(key);
      }
      this.#known.delete(fn);
      throw error;
    }
  }

  async #register(source: FunctionSource, options: RegisterOptions): Promise<RegisteredFunction> {
    const body: FunctionRegistration = {
      function_name: source.name,
      function_code: packFunctionCode(source),
      meta: { serde_identifier: codeId(source.language), sdk: USER_AGENT },
      ...(options.description === undefined ? {} : { description: options.description }),
      ...(options.public === true ? { public: true } : {}),
      ...(options.group === undefined ? {} : { group: options.group }),
    };
    const { function_uuid: functionId } = await this.hub.registerFunction(body, options.signal);
    return new RegisteredFunction(functionId, source.name, source.language);
  }
}

function tokensFrom(
  options: ClientOptions,
  environment: Environment,
  hubUrl: string,
  http: { readonly clock: Clock },
): TokenSource {
  const { clientId, clientSecret } = credentialsFrom(environment, options);
  return clientCredentialsTokenSource({
    ...http,
    tokenEndpoint: options.tokenEndpoint ?? `${hubUrl}/v2/oauth2/token`,
    clientId,
    clientSecret: () => clientSecret,
    scope: COMPUTE_SCOPE,
  });
}

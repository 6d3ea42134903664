/** What an executor and its calls can be told, and the defaults. */
import type { Clock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Client } from './client.ts';
import type { ArgumentFormat } from './serializers.ts';
import { RETRY_FOR_MS } from './until-available.ts';

/** Settings of an {@link Executor}. */
export interface ExecutorOptions {
  readonly client: Client;
  /** Where tasks run. May be left out by a program that only reads the results of an earlier one. */
  readonly endpointId?: string;
  /** Group to add tasks to. Default a new one. */
  readonly taskGroupId?: string;
  /** Most tasks in one request. Default 512. */
  readonly batchSize?: number;
  /**
   * Most bytes of arguments in one request, as they are on the wire. A task that is larger goes alone. Default 4 MiB: a
   * Globus Compute service takes 5 or 10 MB, a hub of ours 16 MiB unless its operator says otherwise.
   */
  readonly batchBytes?: number;
  /** Most submissions in flight. Default 2. With 1, tasks reach the hub in the order in which they were submitted. */
  readonly maxConcurrentSubmissions?: number;
  /**
   * Tasks that may be open (submitted here, not settled) while `ready()` and `map` still let more come. Default 4096.
   * `submit` itself is not held up.
   */
  readonly maxOpenTasks?: number;
  /** The same for bytes of arguments that the hub has not taken yet. Default 64 MiB. */
  readonly maxUnsentBytes?: number;
  /**
   * How long a submission is tried again, under the same Idempotency-Key, while the hub cannot be reached or answers 429 or
   * 5xx. Default 5 minutes; then the futures of the batch reject with SubmissionError. Infinity tries for ever.
   */
  readonly retryForMs?: number;
  /** Default `json`; `v8` keeps Map, Date, bigint and binary data, for JavaScript functions. */
  readonly argumentFormat?: ArgumentFormat;
  /** Import paths of result strategies, in place of JSON. */
  readonly resultSerializers?: readonly string[];
  readonly resourceSpecification?: Readonly<Record<string, unknown>>;
  readonly userEndpointConfig?: Readonly<Record<string, unknown>>;
  /** How long a connection without unsettled futures is kept. Default 2 s. */
  readonly idleMs?: number;
  /** Authorities of the broker that are trusted beside the system's (PEM). Default those of the client. */
  readonly ca?: string;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

/** Settings of `Executor.reattach`. */
export interface ReattachOptions extends Omit<ExecutorOptions, 'taskGroupId'> {
  /** Ends the waiting for the tasks of the group. */
  readonly signal?: AbortSignal;
}

/** Options of one submission. */
export interface SubmitOptions {
  /**
   * When it is aborted, the future rejects with AbortError. A task that has not been sent is dropped; one that has been sent
   * is not ended at its endpoint.
   */
  readonly signal?: AbortSignal;
}

/** Options of `map`. */
export interface MapOptions extends SubmitOptions {
  /**
   * Items in one task. Default 1. More make cheap functions faster, because the cost of a task is shared; they run one after
   * the other, and a worker that is lost fails all items of its task. For JavaScript functions that are given as functions.
   */
  readonly chunk?: number;
  /** Whether results come in the order of their items. Default true; false gives each as soon as it is there. */
  readonly ordered?: boolean;
}

/** Options of `shutdown`. */
export interface ShutdownOptions {
  /** Whether to wait until every future is settled and nothing is open any more. Default true. */
  readonly wait?: boolean;
  /** Whether futures that are not settled are rejected instead of waited for. Default false. */
  readonly cancelPending?: boolean;
}

const MIB = 1024 * 1024;

/** The numbers of an executor. @throws UsageError when one cannot be used. */
export function executorSettings(options: ExecutorOptions): {
  batchSize: number;
  batchBytes: number;
  maxConcurrentSubmissions: number;
  maxOpenTasks: number;
  maxUnsentBytes: number;
  retryForMs: number;
  idleMs: number;
  argumentFormat: ArgumentFormat;
} {
  const atLeast = (name: keyof ExecutorOptions, least: number, given: number): number => {
    if (!(given >= least)) {
      throw new UsageError(`${name} is ${given}, but must be a number of at least ${least}`);
    }
    return given;
  };
  return {
    batchSize: atLeast('batchSize', 1, options.batchSize ?? 512),
    batchBytes: atLeast('batchBytes', 1, options.batchBytes ?? 4 * MIB),
    maxConcurrentSubmissions: atLeast(
      'maxConcurrentSubmissions',
      1,
      options.maxConcurrentSubmissions ?? 2,
    ),
    maxOpenTasks: atLeast('maxOpenTasks', 1, options.maxOpenTasks ?? 4096),
    maxUnsentBytes: atLeast('maxUnsentBytes', 1, options.maxUnsentBytes ?? 64 * MIB),
    retryForMs: atLeast('retryForMs', 0, options.retryForMs ?? RETRY_FOR_MS),
    idleMs: atLeast('idleMs', 0, options.idleMs ?? 2_000),
    argumentFormat: options.argumentFormat ?? 'json',
  };
}

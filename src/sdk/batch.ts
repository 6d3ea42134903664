/**
 * Tasks that are submitted together. Arguments are serialized when a task is added, so what the program changes afterwards
 * does not count, and an argument that cannot be sent is told where it is given.
 */
import { UsageError } from '../base/errors.ts';
import { requireArguments, requireRegistered } from './given.ts';
import { RegisteredFunction } from './registered-function.ts';
import type { FunctionReference } from './registered-function.ts';
import { requestBytes, resultSerializersFor, serializeArguments } from './serializers.ts';
import type { ArgumentFormat } from './serializers.ts';
import type { QueuedTask } from './submission-queue.ts';
import type { TaskSettings } from './submitter.ts';

/** Where a task runs and with which keyword arguments: everything about a call but its positional arguments. */
export interface CallSettings {
  readonly endpointId: string;
  readonly kwargs?: Readonly<Record<string, unknown>>;
  /** Default `json`. */
  readonly argumentFormat?: ArgumentFormat;
}

/** Positional arguments; they may be left out when the function takes none. */
export type PositionalArguments<Args extends readonly unknown[]> = [] extends Args
  ? { readonly args?: readonly [...Args] }
  : { readonly args: readonly [...Args] };

/** One call of a function: its arguments, and apart from them where it runs. */
export type TaskCall<Args extends readonly unknown[]> = CallSettings & PositionalArguments<Args>;

/** A task of a batch. */
export interface BatchTask extends QueuedTask {
  readonly endpointId: string;
  readonly functionName: string;
}

/** Tasks for `client.batchRun`; made by `client.createBatch`. */
export class Batch {
  readonly options: TaskSettings;
  readonly #tasks: BatchTask[] = [];

  constructor(options: TaskSettings = {}) {
    this.options = options;
  }

  /** The tasks in the order in which they were added. */
  get tasks(): readonly BatchTask[] {
    return this.#tasks;
  }

  /** Adds a task and returns its place, which is that of its id in what `batchRun` returns. @throws SerializationError. */
  add<Args extends readonly unknown[], Result>(
    fn: FunctionReference<Args, Result>,
    call: TaskCall<Args>,
  ): number {
    return this.#tasks.push(batchTask(fn, call)) - 1;
  }
}

/** A call ready to be sent. @throws SerializationError; UsageError when function, endpoint or arguments are not what they should be. */
export function batchTask<Args extends readonly unknown[], Result>(
  fn: FunctionReference<Args, Result>,
  call: TaskCall<Args>,
): BatchTask {
  const { endpointId, kwargs = {}, args = [], argumentFormat: format = 'json' } = call;
  if (typeof endpointId !== 'string' || endpointId === '') {
    throw new UsageError(
      'on which endpoint shall it run? Say { endpointId: "…" }; client.getEndpoints() lists yours',
    );
  }
  requireRegistered(fn);
  requireArguments(args);
  const language = fn instanceof RegisteredFunction ? fn.language : undefined;
  const payload = serializeArguments(args, kwargs, format);
  return {
    endpointId,
    functionId: typeof fn === 'string' ? fn : fn.id,
    functionName: typeof fn === 'string' ? fn : fn.name,
    payload,
    bytes: requestBytes(payload),
    resultSerializers: resultSerializersFor(language, format).result_serializers ?? [],
  };
}

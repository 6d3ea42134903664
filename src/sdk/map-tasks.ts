/** Builds the flow of `executor.map`: one item a task, or a chunk of them through a function that is made for it. */
import { UsageError } from '../base/errors.ts';
import { chunkedSource, errorOfItem } from './chunked-function.ts';
import type { ItemOutcome } from './chunked-function.ts';
import type { ComputeFuture } from './compute-future.ts';
import { SerializationError } from './errors.ts';
import type { MapOptions } from './executor-options.ts';
import type { AnyFunction, FunctionSource } from './function-source.ts';
import type { FunctionReference } from './registered-function.ts';
import { TaskFlow } from './task-flow.ts';
import type { Items, SettledTask } from './task-flow.ts';
import { TaskMap, valueOf } from './task-map.ts';

/** The part of an executor that mapping needs. */
export interface MapTarget {
  readonly endpointId: string | undefined;
  readonly maxOpenTasks: number;
  readonly ready: (signal: AbortSignal) => Promise<void>;
  readonly submit: (
    fn: AnyFunction | FunctionSource | FunctionReference,
    args: readonly unknown[],
  ) => ComputeFuture<unknown>;
}

/** Maps a function over items. @throws UsageError, SerializationError when the function cannot be sent. */
export function mapTasks<Item, Result>(
  target: MapTarget,
  fn: AnyFunction | FunctionReference,
  items: Items<Item>,
  { chunk = 1, ordered = true, signal }: MapOptions,
): TaskMap<Awaited<Result>> {
  if (!Number.isInteger(chunk) || chunk < 1) {
    throw new UsageError(`chunk is ${chunk}, but must be a whole number of at least 1`);
  }
  const flow = new TaskFlow<Item, Awaited<Result>>({
    items,
    chunk,
    isOrdered: ordered,
    window: target.maxOpenTasks,
    signal,
    ready: target.ready,
    ...(chunk === 1 ? singly(target, fn) : inChunks(target, fn)),
  });
  return new TaskMap(flow, valueOf);
}

/** How items become a task, and its value their outcomes. */
interface Packing<T> {
  readonly submit: (items: readonly unknown[]) => ComputeFuture<unknown>;
  readonly split: (value: unknown, taskId: string, first: number) => readonly SettledTask<T>[];
}

function singly<T>(target: MapTarget, fn: AnyFunction | FunctionReference): Packing<T> {
  return {
    submit: (items) => target.submit(fn, items),
    split: (value, _taskId, index) => [{ status: 'fulfilled', index, value: value as T }],
  };
}

function inChunks<T>(target: MapTarget, fn: AnyFunction | FunctionReference): Packing<T> {
  if (typeof fn !== 'function') {
    throw new UsageError(
      'map with a chunk needs the JavaScript function itself, to make one of it that takes a list; write a registered ' +
        'function so that it takes a list, and map it over lists',
    );
  }
  const source = chunkedSource(fn);
  const context = {
    functionName: source.name,
    ...(target.endpointId === undefined ? {} : { endpointId: target.endpointId }),
  };
  return {
    submit: (items) => target.submit(source, [items]),
    split: (value, taskId, first) => {
      if (!Array.isArray(value)) {
        throw new SerializationError(`task ${taskId} of map did not return a list of outcomes`);
      }
      return (value as ItemOutcome[]).map(({ thrown, value: result }, offset) => {
        const index = first + offset;
        return thrown === undefined
          ? { status: 'fulfilled', index, value: result as T }
          : { status: 'rejected', index, reason: errorOfItem(thrown, taskId, context) };
      });
    },
  };
}

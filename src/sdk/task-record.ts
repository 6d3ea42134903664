/** How a task stands, in the shape that Globus Compute's `get_batch_result` made known. */
import type { TaskDocument } from '../protocol/rest.ts';
import type { TaskState } from '../protocol/task-state.ts';
import type { SerializationError, TaskExecutionError } from './errors.ts';
import { outcomeOfDocument } from './outcome.ts';

declare const result: unique symbol;

/** Id of a task, with the type of its value: a text like any other. */
export type TaskId<T = unknown> = string & { readonly [result]?: T };

/** State of a task that has not ended, such as `waiting-for-ep` or `running`; `unknown` when the hub does not know it. */
export type PendingStatus = Exclude<TaskState, 'success' | 'failed'> | 'unknown';

/** A task: pending with its state, ended with its value, or ended with its exception. */
export type TaskRecord<T = unknown> =
  | {
      readonly pending: true;
      readonly status: PendingStatus;
    }
  | {
      readonly pending: false;
      readonly status: 'success';
      readonly result: T;
      /** When it ended, in seconds since the epoch. */
      readonly completion_t?: string;
    }
  | {
      readonly pending: false;
      readonly status: 'failed';
      readonly exception: TaskExecutionError | SerializationError;
      /** When it ended, in seconds since the epoch. */
      readonly completion_t?: string;
    };

/** The record of a task; undefined stands for one that the hub does not know. */
export function taskRecord(document: TaskDocument | undefined): TaskRecord {
  if (document === undefined) {
    return { pending: true, status: 'unknown' };
  }
  const outcome = outcomeOfDocument(document);
  const { completion_t: completed } = document;
  const ended = completed === undefined ? {} : { completion_t: completed };
  switch (outcome.status) {
    case 'pending':
      return { pending: true, status: outcome.reason as PendingStatus };
    case 'success':
      return { pending: false, status: 'success', result: outcome.value, ...ended };
    case 'failed':
      return { pending: false, status: 'failed', exception: outcome.error, ...ended };
  }
}

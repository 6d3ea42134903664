/**
 * How a task ended, read from the two forms in which the hub tells it: a `Result` message of a result queue, and the
 * document of a task. Both give the same outcome.
 */
import { errorText } from '../base/errors.ts';
import type { TaskOutput } from '../protocol/host-frames.ts';
import type { Result } from '../protocol/messages.ts';
import type { TaskDocument } from '../protocol/rest.ts';
import { SerializationError, TaskExecutionError } from './errors.ts';
import type { TaskFailure } from './errors.ts';
import { deserializeResult } from './serializers.ts';

/** A task that ended, or did not yet. */
export type TaskOutcome<T = unknown> =
  | { readonly status: 'pending'; readonly reason: string }
  | { readonly status: 'success'; readonly value: T }
  | { readonly status: 'failed'; readonly error: TaskExecutionError | SerializationError };

/** What the program knows about a task beside its id, for messages. */
export interface TaskContext {
  readonly functionName?: string;
  readonly endpointId?: string;
}

/** Outcome of a `Result` message. */
export function outcomeOfResult(
  result: Result,
  output: TaskOutput | undefined,
  context: TaskContext = {},
): TaskOutcome {
  const error = result.error_details;
  if (error === null) {
    return succeeded(result.task_id, result.data, context);
  }
  return failed({
    ...context,
    taskId: result.task_id,
    code: error.code,
    ...(error.exception === undefined
      ? {}
      : { type: error.exception.type, message: error.exception.message }),
    traceback: result.data,
    ...outputOf(output?.stdout, output?.stderr),
  });
}

/** Outcome of a task document. */
export function outcomeOfDocument(document: TaskDocument, context: TaskContext = {}): TaskOutcome {
  const { task_id: taskId, result, exception, reason, outpost } = document;
  const status = document.status.toLowerCase();
  if (status === 'success' && result !== undefined) {
    return succeeded(taskId, result, context);
  }
  if (status !== 'success' && status !== 'failed') {
    return { status: 'pending', reason: document.status };
  }
  const error = outpost?.error;
  return failed({
    ...context,
    taskId,
    code: error?.code ?? 'RemoteExecutionError',
    ...(error?.type === undefined ? {} : { type: error.type }),
    ...(error?.message === undefined ? {} : { message: error.message }),
    traceback: exception ?? reason ?? 'the hub has neither a result nor a reason',
    ...outputOf(outpost?.stdout, outpost?.stderr),
  });
}

function outputOf(
  stdout: string | undefined,
  stderr: string | undefined,
): Pick<TaskFailure, 'stdout' | 'stderr'> {
  return {
    ...(stdout === undefined ? {} : { stdout }),
    ...(stderr === undefined ? {} : { stderr }),
  };
}

function failed(failure: TaskFailure): TaskOutcome {
  return { status: 'failed', error: new TaskExecutionError(failure) };
}

function succeeded(taskId: string, data: string, context: TaskContext): TaskOutcome {
  try {
    return { status: 'success', value: deserializeResult(data) };
  } catch (error) {
    const name = context.functionName === undefined ? 'a function' : `"${context.functionName}"`;
    const message = `task ${taskId} of ${name} succeeded, but its result cannot be read: ${errorText(error)}`;
    return { status: 'failed', error: new SerializationError(message, { cause: error }) };
  }
}

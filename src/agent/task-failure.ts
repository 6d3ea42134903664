/**
 * Results that the agent packs itself, because no worker could: every accepted task ends in a named failure at worst (I2).
 * Shapes follow protocol.md 7.3; codes beyond Globus's five are ours, and no client branches on them.
 */
import type { TaskFailureCode } from '../protocol/host-frames.ts';
import { packResult } from '../protocol/messages.ts';
import type { ResultErrorDetails } from '../protocol/messages.ts';
import { nanoseconds } from '../protocol/task-state.ts';
import type { TaskTransition } from '../protocol/task-state.ts';

/** A failure that is not the function's own. */
export interface TaskFailure {
  readonly code: TaskFailureCode;
  /** What happened and who can do what about it, for the person who submitted the task. */
  readonly message: string;
}

/** Packs the Result of a task that our machinery ended. `endedAtMs` is milliseconds since the epoch. */
export function packFailure(taskId: string, failure: TaskFailure, endedAtMs: number): Buffer {
  const ended: TaskTransition = {
    timestamp: nanoseconds(endedAtMs),
    state: 'execution-end',
    actor: 'interchange',
  };
  return packResult({
    task_id: taskId,
    data: failureText(failure),
    details: null,
    error_details: errorDetails(failure),
    task_statuses: [ended],
  });
}

function failureText({ code, message }: TaskFailure): string {
  if (code === 'ENVELOPE_INVALID') {
    return `CouldNotExecuteUserTaskError(${JSON.stringify(message)})`;
  }
  return code === 'FUNCTION_NOT_ALLOWED' ? message : `${code}: ${message}`;
}

function errorDetails({ code, message }: TaskFailure): ResultErrorDetails {
  if (code === 'ENVELOPE_INVALID') {
    return { code: 'CouldNotExecuteUserTaskError', user_message: `remote error: ${message}` };
  }
  return { code, user_message: message };
}

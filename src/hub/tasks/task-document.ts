/**
 * The status document of a task (protocol.md 6.6).
 *
 * Absent keys stay absent: a `result` that is there, even null, wins over `exception` in the Python SDK. `details` is
 * given only when the endpoint gave some, because the SDK warns about details without a Python version.
 */
import type { TaskOutput } from '../../protocol/host-frames.ts';
import { unpackResult } from '../../protocol/messages.ts';
import type { Result } from '../../protocol/messages.ts';
import type { TaskDocument } from '../../protocol/rest.ts';
import type { TaskState } from '../../protocol/task-state.ts';

/** What the database knows about a task. */
export interface TaskRow {
  readonly state: TaskState;
  readonly completed_at: Date | null;
  readonly result: Buffer | null;
  readonly output: TaskOutput | null;
  /** The hub gave the task up; a real result may still come. */
  readonly provisional: boolean;
}

const NS_PER_US = 1_000n;
const US_PER_S = 1e6;

/** Makes the document; `taskId` is the id as the caller spelt it. */
export function taskDocument(taskId: string, row: TaskRow): TaskDocument {
  if (row.completed_at === null || row.result === null) {
    return { task_id: taskId, status: row.state };
  }
  const result = unpackResult(row.result);
  const isError = result.error_details !== null;
  const outpost = extras(result, row);
  return {
    task_id: taskId,
    status: isError ? 'failed' : 'success',
    ...(isError ? { exception: result.data } : { result: result.data }),
    completion_t: String(row.completed_at.getTime() / 1000),
    ...(result.details !== null && {
      details: { ...result.details, ...transitions(result) },
    }),
    ...(outpost !== undefined && { outpost }),
  };
}

function transitions(result: Result): Record<string, unknown> {
  const seconds: Record<string, number> = {};
  for (const { state, timestamp } of result.task_statuses ?? []) {
    if (state === 'execution-start' || state === 'execution-end') {
      // By way of microseconds, which a number holds exactly.
      seconds[state] = Number(timestamp / NS_PER_US) / US_PER_S;
    }
  }
  return Object.keys(seconds).length === 0 ? {} : { task_transitions: seconds };
}

function extras(result: Result, { output, provisional }: TaskRow): TaskDocument['outpost'] {
  const error = result.error_details;
  if (error === null && output === null) {
    return undefined;
  }
  return {
    ...(output?.stdout !== undefined && { stdout: output.stdout }),
    ...(output?.stderr !== undefined && { stderr: output.stderr }),
    ...(output?.truncated !== undefined && { output_truncated: output.truncated }),
    ...(output?.blob !== undefined && { blob: output.blob }),
    ...(provisional && { provisional }),
    ...(error !== null && {
      error: {
        code: error.code,
        ...(typeof error.exception?.type === 'string' && { type: error.exception.type }),
        ...(typeof error.exception?.message === 'string' && { message: error.exception.message }),
      },
    }),
  };
}

/**
 * Errors of the SDK, beside those of src/base/errors.ts that it passes on. One class for each thing that a program decides
 * on: not finished yet, failed over there, given up here, not handed over, cannot be converted.
 */
import { ComputeError } from '../base/errors.ts';
import type { ComputeErrorOptions } from '../base/errors.ts';

/** The task has not ended yet: ask again later. */
export class TaskPendingError extends ComputeError {
  readonly taskId: string;
  /** State of the task, such as `waiting-for-ep` or `running`. */
  readonly reason: string;

  constructor(taskId: string, reason: string) {
    super(
      'TASK_PENDING',
      `task ${taskId} has no result yet (${reason}). Ask again later, or await client.waitForResult("${taskId}").`,
      75,
      { details: { taskId, reason } },
    );
    this.taskId = taskId;
    this.reason = reason;
  }

  /** The same as `reason`, by the name that it has in a task's record. */
  get status(): string {
    return this.reason;
  }
}

/** What is known about a task that failed. */
export interface TaskFailure {
  readonly taskId: string;
  /** Upper snake case or Globus's own, such as `RemoteExecutionError`, `TASK_TIMED_OUT`, `WORKER_EXITED`. */
  readonly code: string;
  /** Name of the exception's class, such as `ValueError`, when the worker told it. */
  readonly type?: string;
  /** Text of the exception. */
  readonly message?: string;
  /** Traceback or stack as text, from the machine that ran the function. */
  readonly traceback: string;
  readonly stdout?: string;
  readonly stderr?: string;
  readonly functionName?: string;
  readonly endpointId?: string;
}

const NOT_ALONE =
  'A function is sent as its source: it cannot use variables, functions or imports from around it. Pass values as arguments, import ' +
  'inside of it, or send a module with all that it needs: client.registerModule().';
const TOO_LARGE =
  'The result is larger than the endpoint takes (`result_chars_max` of its config.yaml): return less, or write a file and return its name.';

/** What to do about failures that everybody meets once. */
const HINTS: Readonly<Record<string, string>> = {
  ReferenceError: NOT_ALONE,
  NameError: NOT_ALONE,
  MaxResultSizeExceeded: TOO_LARGE,
};

function hintOn({ type, code }: TaskFailure): string {
  const hint = HINTS[type ?? code];
  return hint === undefined ? '' : `\n\n${hint}`;
}

/** The task ended in a failure: the function threw, or its worker could not bring it to an end. */
export class TaskExecutionError extends ComputeError {
  readonly taskId: string;
  /** Name of the remote exception's class, when known. */
  readonly type: string | undefined;
  /** Message of the remote exception, without what this class adds around it. */
  readonly remoteMessage: string;
  readonly traceback: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly endpointId: string | undefined;

  constructor(failure: TaskFailure, options: ComputeErrorOptions = {}) {
    const remoteMessage = failure.message ?? lastLine(failure.traceback);
    const what = failure.type === undefined ? remoteMessage : `${failure.type}: ${remoteMessage}`;
    const who = failure.functionName === undefined ? 'the function' : `"${failure.functionName}"`;
    const where = failure.endpointId === undefined ? '' : ` on endpoint ${failure.endpointId}`;
    super(
      failure.code,
      `${who} failed${where} (task ${failure.taskId}, ${failure.code}): ${what}` +
        (failure.traceback === '' || failure.traceback === remoteMessage
          ? ''
          : `\n\nRemote traceback:\n${indent(failure.traceback)}`) +
        hintOn(failure),
      70,
      { ...options, details: { taskId: failure.taskId, endpointId: failure.endpointId } },
    );
    this.taskId = failure.taskId;
    this.type = failure.type;
    this.remoteMessage = remoteMessage;
    this.traceback = failure.traceback;
    this.stdout = failure.stdout ?? '';
    this.stderr = failure.stderr ?? '';
    this.endpointId = failure.endpointId;
  }
}

/** The program stopped waiting, by `cancel()` or `shutdown()`; the task itself goes on at its endpoint. */
export class FutureCancelledError extends ComputeError {
  /** Absent when the task was never sent. */
  readonly taskId: string | undefined;

  constructor(taskId: string | undefined, why = 'the executor was shut down') {
    super('FUTURE_CANCELLED', `${why} ${afterwards(taskId)}`, 75, { details: { taskId } });
    this.taskId = taskId;
  }
}

/**
 * A signal was aborted while its task was awaited; `cause` is the signal's reason. It has the name that the platform gives
 * its own, so `error.name === 'AbortError'` tells both. The task itself goes on at its endpoint, if it was sent.
 */
export class AbortError extends ComputeError {
  /** Absent when the task was never sent. */
  readonly taskId: string | undefined;

  constructor(taskId: string | undefined, reason: unknown, then = afterwards(taskId)) {
    super('ABORTED', `the signal was aborted ${then}`, 75, {
      cause: reason,
      details: { taskId },
    });
    this.taskId = taskId;
  }
}

/** What becomes of a task that nobody waits for any more. */
function afterwards(taskId: string | undefined): string {
  return taskId === undefined
    ? 'before this task was submitted'
    : `before task ${taskId} ended. It goes on at its endpoint: client.getResult("${taskId}") has its result later.`;
}

/** A batch could not be handed to the hub, however often it was tried; `cause` is the last failure. */
export class SubmissionError extends ComputeError {
  /** Requests that were made; each of them was repeated by the HTTP client already. */
  readonly attempts: number;

  constructor(taskCount: number, attempts: number, afterMs: number, cause: Error) {
    super(
      'SUBMISSION_FAILED',
      `${taskCount === 1 ? 'a task' : `${taskCount} tasks`} could not be handed to the hub within ${Math.ceil(afterMs / 1000)} s ` +
        `(${attempts} attempts): ${cause.message} The hub may have taken the tasks without its answer getting here: look into ` +
        'the task group with executor.reloadTasks() before you submit them again.',
      75,
      { cause, details: { attempts } },
    );
    this.attempts = attempts;
  }
}

/** A task of a batch that the hub did not take. */
export interface BatchFailure {
  /** Its place in the batch. */
  readonly index: number;
  readonly functionId: string;
  readonly endpointId: string;
  readonly error: Error;
}

/** Some tasks of a batch were not accepted; the others run. */
export class BatchError extends ComputeError {
  /** Ids in the order of the batch; undefined where a task was not accepted. */
  readonly taskIds: readonly (string | undefined)[];
  readonly failures: readonly BatchFailure[];

  constructor(taskIds: readonly (string | undefined)[], failures: readonly BatchFailure[]) {
    const [first] = failures;
    const which =
      first === undefined
        ? ''
        : ` (task ${first.index} of the batch, for function ${first.functionId})`;
    super(
      'BATCH_INCOMPLETE',
      `${failures.length} of ${taskIds.length} tasks were not accepted, the first of them${which} because: ` +
        `${first?.error.message ?? ''}\nThe others run: error.taskIds has their ids, error.failures says what became of the rest. ` +
        'Submit only those again.',
      first?.error instanceof ComputeError ? first.error.exitCode : 75,
      { cause: first?.error, details: { failureCount: failures.length } },
    );
    this.taskIds = taskIds;
    this.failures = failures;
  }
}

/** A function, an argument or a result has no form that the other side understands. */
export class SerializationError extends ComputeError {
  constructor(message: string, options: ComputeErrorOptions = {}) {
    super('SERIALIZATION', message, 65, options);
  }
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1)?.trim() ?? '';
}

function indent(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n');
}

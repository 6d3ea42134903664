/**
 * The error taxonomy: one abstract class, subclasses by who must act (not by where it was thrown).
 *
 * Every code is registered here once with the class that owns it; exit codes and HTTP statuses follow
 * from the class unless the code says otherwise. `message` says what happened and what to do next;
 * `details` are safe to log (never a secret). Programmer errors are `InvariantError` and crash.
 */

/** Values that may stand in a log line beside an error. Never put a secret here. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/** Options common to all errors of the product. */
export interface ComputeErrorOptions {
  readonly cause?: unknown;
  readonly details?: ErrorDetails;
}

/** Base of every error that the product throws on purpose. */
export abstract class ComputeError extends Error {
  /** Stable, upper snake case; documented in docs/errors.md. */
  readonly code: string;
  readonly details: ErrorDetails;
  /** Process exit code when this error ends a command (sysexits.h). */
  readonly exitCode: number;

  constructor(code: string, message: string, exitCode: number, options: ComputeErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.exitCode = exitCode;
    this.details = options.details ?? {};
  }
}

/** One wrong setting: where it came from and what was expected instead. */
export interface ConfigProblem {
  readonly key: string;
  /** File, environment variable or flag that the value came from. */
  readonly source: string;
  /** The offending value as text, or undefined for a secret or an absent value. */
  readonly value?: string;
  readonly expected: string;
}

/** The operator must change the configuration; carries every problem at once. */
export class ConfigError extends ComputeError {
  readonly problems: readonly ConfigProblem[];

  constructor(
    message: string,
    problems: readonly ConfigProblem[] = [],
    options: ComputeErrorOptions = {},
  ) {
    const lines = problems.map(
      (problem) =>
        `  ${problem.key} (${problem.source})${problem.value === undefined ? '' : ` = ${problem.value}`}: ${problem.expected}`,
    );
    super('CONFIG_INVALID', [message, ...lines].join('\n'), 78, options);
    this.problems = problems;
  }
}

/** The command line is wrong. */
export class UsageError extends ComputeError {
  constructor(message: string, options: ComputeErrorOptions = {}) {
    super('USAGE', message, 64, options);
  }
}

/** Codes of {@link AuthError}. */
export type AuthErrorCode =
  'INVALID_CLIENT' | 'TOKEN_REJECTED' | 'SCOPE_MISSING' | 'CREDENTIALS_MISSING' | 'FORBIDDEN';

/** Credentials are missing or were refused. */
export class AuthError extends ComputeError {
  declare readonly code: AuthErrorCode;

  constructor(code: AuthErrorCode, message: string, options: ComputeErrorOptions = {}) {
    super(code, message, 77, options);
  }
}

/** Codes of {@link UnavailableError}. */
export type UnavailableErrorCode =
  | 'BLOB_STORE_UNREACHABLE'
  | 'BROKER_UNREACHABLE'
  | 'CERTIFICATE_REFUSED'
  | 'HUB_UNREACHABLE'
  | 'DATABASE_UNREACHABLE'
  | 'PUBLISH_UNCONFIRMED'
  | 'CHANNEL_CLOSED'
  | 'RATE_LIMITED'
  | 'TIMED_OUT'
  | 'PORT_IN_USE'
  | 'NOT_INSTALLED'
  | 'START_FAILED'
  | 'JOURNAL_FULL'
  | 'JOURNAL_UNREADABLE';

/** Something that is needed is not there now; trying again later may work. */
export class UnavailableError extends ComputeError {
  declare readonly code: UnavailableErrorCode;

  constructor(code: UnavailableErrorCode, message: string, options: ComputeErrorOptions = {}) {
    super(code, message, code === 'NOT_INSTALLED' ? 69 : 75, options);
  }
}

/** Codes of {@link ConflictError}. */
export type ConflictErrorCode =
  | 'ALREADY_RUNNING'
  | 'NOT_RUNNING'
  | 'ENDPOINT_LOCKED'
  | 'ENDPOINT_NOT_FOUND'
  | 'ENDPOINT_EXISTS'
  | 'TASK_NOT_FOUND'
  | 'PRECONDITION_FAILED';

/** Another instance, a locked or unknown thing, an incompatible declaration. */
export class ConflictError extends ComputeError {
  declare readonly code: ConflictErrorCode;

  constructor(code: ConflictErrorCode, message: string, options: ComputeErrorOptions = {}) {
    super(code, message, CONFLICT_EXIT_CODES[code] ?? 69, options);
  }
}

const CONFLICT_EXIT_CODES: Partial<Record<ConflictErrorCode, number>> = {
  ALREADY_RUNNING: 73,
  ENDPOINT_EXISTS: 73,
  // A lock ends by itself.
  ENDPOINT_LOCKED: 75,
};

/** Codes of {@link ProtocolError}. */
export type ProtocolErrorCode =
  | 'ENVELOPE_INVALID'
  | 'MESSAGE_TYPE_UNKNOWN'
  | 'BUFFER_INVALID'
  | 'FRAME_INVALID'
  | 'PAYLOAD_TOO_LARGE'
  | 'RESPONSE_INVALID'
  | 'REQUEST_REFUSED';

/** The peer sent what cannot be accepted. */
export class ProtocolError extends ComputeError {
  declare readonly code: ProtocolErrorCode;

  constructor(code: ProtocolErrorCode, message: string, options: ComputeErrorOptions = {}) {
    super(code, message, 65, options);
  }
}

/** A bug of ours: a state that cannot be. Crashes the process; the journal stays intact. */
export class InvariantError extends ComputeError {
  constructor(message: string, options: ComputeErrorOptions = {}) {
    super('INVARIANT', message, 70, options);
  }
}

/** Asserts an invariant of ours. @throws InvariantError when `condition` is false. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) {
    throw new InvariantError(message);
  }
}

/** The text of anything that was thrown, for a message that names its cause. */
export function errorText(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map((inner) => errorText(inner)).join('; ');
  }
  return error instanceof Error ? error.message : String(error);
}

/** The `code` property of a system or library error, if it has one. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error === 'object' && error !== null && 'code' in error) {
    return typeof error.code === 'string' ? error.code : undefined;
  }
  return undefined;
}

/** What PostgreSQL's error codes mean to us. Decided by SQLSTATE, never by the text. */
import { errorCode } from '../../base/errors.ts';

/** A unique constraint refused a row. */
export function isUniqueViolation(error: unknown): boolean {
  return errorCode(error) === '23505';
}

/** A text cannot be stored: PostgreSQL holds no NUL character. */
export function isUnstorableText(error: unknown): boolean {
  const code = errorCode(error);
  return code === '22021' || code === '22P05';
}

/** A lock was waited for longer than `lock_timeout` allows. */
export function isLockTimeout(error: unknown): boolean {
  return errorCode(error) === '55P03';
}

const CONNECTION_MESSAGES: readonly string[] = [
  'timeout exceeded when trying to connect',
  'Connection terminated',
  'Connection terminated unexpectedly',
  'Connection terminated due to connection timeout',
  'Client has encountered a connection error and is not queryable',
  'Client was closed and is not queryable',
];

/** The server is not there or went away; the statement may be tried again. */
export function isConnectionFailure(error: unknown): boolean {
  const code = errorCode(error) ?? '';
  return (
    code.startsWith('08') ||
    code.startsWith('57P') ||
    code === '53300' ||
    ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOENT'].includes(code) ||
    // node-postgres gives these no code.
    (error instanceof Error && CONNECTION_MESSAGES.includes(error.message))
  );
}

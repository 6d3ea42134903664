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

/** The server is not there or went away; the statement may be tried again. */
export function isConnectionFailure(error: unknown): boolean {
  const code = errorCode(error) ?? '';
  return (
    code.startsWith('08') ||
    code.startsWith('57P') ||
    code === '53300' ||
    ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOENT'].includes(code) ||
    // node-postgres gives these two no code.
    (error instanceof Error &&
      ['timeout exceeded when trying to connect', 'Connection terminated unexpectedly'].includes(
        error.message,
      ))
  );
}

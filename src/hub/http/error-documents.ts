/**
 * From whatever was thrown to the one error body of the API (protocol.md 3.2).
 *
 * `code` and `detail` are always strings, because the Globus SDK shows nothing else. What we did not expect says
 * nothing about our insides: the log has it under the request id that the caller is told.
 */
import { UnavailableError, errorCode } from '../../base/errors.ts';
import type { ErrorDocument } from '../../protocol/rest.ts';
import { isConnectionFailure, isUnstorableText } from '../db/postgres-errors.ts';
import { HubError } from '../hub-error.ts';

/** The framework quotes what it refuses, such as a path of any length. */
const MESSAGE_CHARS_MAX = 500;

/** What to answer, and whether it is a failure of ours. */
export interface ErrorAnswer {
  readonly document: ErrorDocument;
  /** Seconds; only where trying again helps. */
  readonly retryAfterS?: number;
  readonly isOurs: boolean;
}

/** Makes an error body. */
export function errorDocument(httpStatus: number, code: string, detail: string): ErrorDocument {
  return {
    status: 'Failed',
    code,
    error_args: [],
    http_status_code: httpStatus,
    detail,
    reason: detail,
  };
}

function refused(httpStatus: number, code: string, detail: string): ErrorAnswer {
  return { document: errorDocument(httpStatus, code, detail), isOurs: false };
}

function unavailable(code: string, detail: string): ErrorAnswer {
  return { document: errorDocument(503, code, detail), retryAfterS: 1, isOurs: true };
}

/** Fastify's own errors, by their code. */
function frameworkAnswer(
  code: string,
  httpStatus: number,
  message: string,
  bodyBytesMax: number,
): ErrorAnswer | undefined {
  switch (code) {
    case 'FST_ERR_VALIDATION':
      return refused(422, 'SEMANTICALLY_INVALID', `Request payload failed validation: ${message}`);
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return refused(
        413,
        'TASK_PAYLOAD_TOO_LARGE',
        `the request is larger than the ${bodyBytesMax} bytes allowed (OUTPOST_HUB_SUBMISSION_BYTES_MAX); submit fewer tasks at a time, or pass large data by file`,
      );
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return refused(415, 'REQUEST_MALFORMED', 'the request body must be application/json');
    default:
      // A path that is too long, a body that is no JSON, and what else it blames the caller for.
      return code.startsWith('FST_ERR_') && httpStatus >= 400 && httpStatus < 500
        ? refused(httpStatus, 'REQUEST_MALFORMED', message.slice(0, MESSAGE_CHARS_MAX))
        : undefined;
  }
}

/** The answer to a failed request. */
export function errorAnswer(error: unknown, requestId: string, bodyBytesMax: number): ErrorAnswer {
  if (error instanceof HubError) {
    return {
      ...refused(error.httpStatus, error.code, error.detail),
      isOurs: error.httpStatus >= 500,
    };
  }
  if (error instanceof UnavailableError) {
    return unavailable(
      error.code,
      'the hub cannot reach its broker or database at the moment; try again',
    );
  }
  if (isConnectionFailure(error)) {
    return unavailable(
      'DATABASE_UNREACHABLE',
      'the hub cannot reach its database at the moment; try again',
    );
  }
  if (isUnstorableText(error)) {
    return refused(
      422,
      'SEMANTICALLY_INVALID',
      'Request payload failed validation: a text holds a NUL character, which cannot be stored',
    );
  }
  const answer = frameworkAnswer(
    errorCode(error) ?? '',
    error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : 0,
    error instanceof Error ? error.message : '',
    bodyBytesMax,
  );
  return (
    answer ?? {
      document: errorDocument(
        500,
        'UNKNOWN_ERROR',
        `the hub failed on this request; its log has the reason under request id ${requestId}`,
      ),
      isOurs: true,
    }
  );
}

/**
 * What an error status of the hub means (protocol.md 3.2): the class says who must act, the message carries the hub's
 * `detail`, `details` carry its `code` and the status. Decided by status and code, never by reading texts.
 */
import { AuthError, ConflictError, ProtocolError, UnavailableError } from '../base/errors.ts';
import type { ComputeError, ConflictErrorCode, ErrorDetails } from '../base/errors.ts';
import { retryAfterMs } from '../transport/http/http-transport.ts';
import type { JsonReply } from '../transport/http/json-client.ts';

/** The hub's own words, from a body that may be anything. */
function readError(reply: JsonReply): { code?: string; detail: string } {
  const body = reply.body;
  const fields: Record<string, unknown> =
    typeof body === 'object' && body !== null ? { ...body } : {};
  const { code, detail, reason } = fields;
  const text = [detail, reason].find((value) => typeof value === 'string' && value !== '');
  // A list of validation problems has no text of its own.
  const fallback = detail === undefined ? reply.text : JSON.stringify(detail);
  return {
    ...(typeof code === 'string' ? { code } : {}),
    detail: typeof text === 'string' ? text : fallback === '' ? 'no explanation given' : fallback,
  };
}

function conflictCode(status: number, code: string | undefined): ConflictErrorCode {
  if (code === 'ENDPOINT_NOT_FOUND') {
    return 'ENDPOINT_NOT_FOUND';
  }
  return status === 423 ? 'ENDPOINT_LOCKED' : 'PRECONDITION_FAILED';
}

/** The error for a reply whose status is no success; `what` says what was tried ("submit to endpoint …"). */
export function hubError(what: string, hubUrl: string, reply: JsonReply): ComputeError {
  const { code, detail } = readError(reply);
  const { status } = reply;
  const waitMs = retryAfterMs(reply.headers, Date.now());
  const details: ErrorDetails = {
    status,
    ...(code === undefined ? {} : { hubCode: code }),
    ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }),
  };
  const said = (advice: string): string =>
    `${what} failed: ${detail.replace(/\.$/, '')} (${status}${code === undefined ? '' : ` ${code}`}).${advice === '' ? '' : ` ${advice}`}`;
  if (status === 401) {
    const advice = `The hub at ${hubUrl} does not accept the access token, not even a new one. Check client id and secret.`;
    return new AuthError('TOKEN_REJECTED', said(advice), { details });
  }
  if (status === 403) {
    return new AuthError(
      code === 'INSUFFICIENT_AUTH_SCOPE' ? 'SCOPE_MISSING' : 'FORBIDDEN',
      said('Ask the owner to share it with you, or check whose credentials these are.'),
      { details },
    );
  }
  if (status === 404 || status === 409 || status === 423) {
    return new ConflictError(conflictCode(status, code), said(conflictAdvice(status)), { details });
  }
  if (status === 413) {
    const advice =
      'Send less at a time, or pass large data by a file or URL that the function reads.';
    return new ProtocolError('PAYLOAD_TOO_LARGE', said(advice), { details });
  }
  if (status === 429) {
    const when = waitMs === undefined ? 'later' : `in ${Math.ceil(waitMs / 1000)} s`;
    return new UnavailableError('RATE_LIMITED', said(`Try again ${when}.`), { details });
  }
  if (status >= 500) {
    const advice = `The hub at ${hubUrl} is in trouble: try again; when it lasts, its log says why.`;
    return new UnavailableError('HUB_UNREACHABLE', said(advice), { details });
  }
  if (status < 400) {
    const advice = `The hub at ${hubUrl} redirects, which is not followed: use the URL that it points to.`;
    return new ProtocolError('RESPONSE_INVALID', said(advice), { details });
  }
  return new ProtocolError('REQUEST_REFUSED', said(''), { details });
}

function conflictAdvice(status: number): string {
  if (status === 404) {
    return 'Check the id, and that it was made at this hub.';
  }
  return status === 423 ? 'It is locked for a short time: try again in a minute.' : '';
}

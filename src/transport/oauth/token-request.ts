/** Forms that are sent to the token endpoint and its neighbours, and what comes back (RFC 6749 4 and 5, RFC 8628 3). */
import { UnavailableError } from '../../base/errors.ts';
import { retryAfterMs } from '../http/http-transport.ts';
import type { HttpTransport } from '../http/http-transport.ts';

/** A form and where it goes. */
export interface TokenRequest {
  readonly url: URL;
  readonly fields: Readonly<Record<string, string>>;
  /** Where the application has a secret. */
  readonly authorization?: string;
  readonly idempotent: boolean;
  readonly signal?: AbortSignal | undefined;
  /** How messages name the server. */
  readonly server: string;
}

/** An answer; `body` has nothing in it where that was no JSON object. */
export interface TokenReply {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  /** Whether the server says in a header how one signs in there (RFC 9110 11.6.1): then it did not like how it was done. */
  readonly hasChallenge: boolean;
}

/** Sends a form. @throws UnavailableError HUB_UNREACHABLE, RATE_LIMITED or TIMED_OUT when there is no answer to it. */
export async function sendForm(
  transport: HttpTransport,
  { url, fields, authorization, idempotent, signal, server }: TokenRequest,
): Promise<TokenReply> {
  const { status, headers, text } = await transport.send({
    method: 'POST',
    url,
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      ...(authorization !== undefined && { authorization }),
    },
    body: new URLSearchParams(fields).toString(),
    idempotent,
    ...(signal !== undefined && { signal }),
  });
  if (status === 429 || status >= 500) {
    throw unavailable(server, status, retryAfterMs(headers, Date.now()));
  }
  return { status, body: objectOf(text), hasChallenge: headers.get('www-authenticate') !== null };
}

/** What an error says, when it is one (RFC 6749 5.2). */
export function refusalIn({ status, body }: TokenReply): string | undefined {
  const { error, error_description: description } = body;
  if (status < 400 || typeof error !== 'string' || error === '') {
    return undefined;
  }
  return typeof description === 'string' ? `${error}: ${description}` : error;
}

function unavailable(server: string, status: number, waitMs: number | undefined): UnavailableError {
  const when = waitMs === undefined ? 'later' : `in ${Math.ceil(waitMs / 1000)} s`;
  const isLimited = status === 429;
  return new UnavailableError(
    isLimited ? 'RATE_LIMITED' : 'HUB_UNREACHABLE',
    isLimited
      ? `${server} has had too many requests (429). Try again ${when}.`
      : `${server} answered ${status}. Try again ${when}; when it lasts, the hub's log says why.`,
    { details: { status, ...(waitMs !== undefined && { retryAfterMs: waitMs }) } },
  );
}

function objectOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    // A page of a proxy, for one; whoever needs the fields says that they are missing.
    return {};
  }
}

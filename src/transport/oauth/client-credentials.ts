/**
 * Access tokens by the client credentials grant (RFC 6749 4.4; protocol.md 2.5).
 *
 *   age of the token   0 ───────── half life ───────── expiry
 *   accessToken()      cached      renewed; when the   renewed; a
 *                                  server is away,     failure is
 *                                  the old one         the caller's
 *
 * One grant is in flight at a time and is shared: a caller's signal ends its waiting, not the grant. The secret is asked
 * for at every grant, so a rotated one is picked up without a restart, and is never kept or logged.
 */
import * as oauth from 'oauth4webapi';

import { raceAbort } from '../../base/abort.ts';
import type { Clock } from '../../base/clock.ts';
import { AuthError, ProtocolError, UnavailableError, errorText } from '../../base/errors.ts';
import { HttpTransport, retryAfterMs } from '../http/http-transport.ts';
import { parseServerUrl } from '../http/secure-url.ts';

/** What `accessToken` may be asked for. */
export interface AccessTokenOptions {
  /** Force a new token, because the last one was refused. */
  readonly refresh?: boolean;
  readonly signal?: AbortSignal;
}

/** Source of access tokens. */
export interface TokenSource {
  /** A valid access token; `refresh` forces a new one after a 401. */
  accessToken: (options?: AccessTokenOptions) => Promise<string>;
  /** When the token that is held ends, in milliseconds since the epoch; undefined before the first. */
  expiresAt?: () => number | undefined;
}

/** Settings of {@link clientCredentialsTokenSource}. */
export interface ClientCredentialsOptions {
  readonly tokenEndpoint: string;
  readonly clientId: string;
  readonly clientSecret: () => string | Promise<string>;
  readonly scope: string;
  readonly clock: Clock;
  readonly timeoutMs?: number;
  readonly retries?: number;
  readonly userAgent?: string;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  readonly fetch?: typeof fetch;
}

/** A token as granted, on the monotonic clock. */
interface Grant {
  readonly accessToken: string;
  readonly renewAtMs: number;
  readonly expiresAtMs: number;
}

/** Assumed when the server does not say; short, because a wrong guess costs a grant and not a failure. */
const EXPIRES_IN_S = 300;
/** A token this close to its end may be refused on arrival. */
const EXPIRY_MARGIN_MS = 5_000;

/**
 * Makes a token source for one client.
 *
 * Its `accessToken` throws AuthError INVALID_CLIENT when the credentials are refused, SCOPE_MISSING when the scope is,
 * UnavailableError HUB_UNREACHABLE or TIMED_OUT when the server cannot be asked.
 *
 * @throws ConfigError when the token endpoint is plain http on another machine.
 */
export function clientCredentialsTokenSource(options: ClientCredentialsOptions): TokenSource {
  const { clock } = options;
  const request = grantRequest(options);
  let current: Grant | undefined;
  let inFlight: Promise<Grant> | undefined;

  const renew = async (): Promise<Grant> => {
    inFlight ??= request()
      .then((grant) => {
        current = grant;
        return grant;
      })
      .finally(() => {
        inFlight = undefined;
      });
    return await inFlight;
  };

  return {
    expiresAt: () =>
      current === undefined ? undefined : clock.now() + current.expiresAtMs - clock.monotonicMs(),
    accessToken: async ({ refresh = false, signal } = {}) => {
      signal?.throwIfAborted();
      const held = current;
      if (!refresh && held !== undefined && clock.monotonicMs() < held.renewAtMs) {
        return held.accessToken;
      }
      try {
        return (await raceAbort(renew(), signal)).accessToken;
      } catch (error) {
        const usable = held !== undefined && clock.monotonicMs() < held.expiresAtMs;
        if (!refresh && usable && error instanceof UnavailableError) {
          return held.accessToken;
        }
        throw error;
      }
    },
  };
}

/** One grant, retried while the server is away. */
function grantRequest(options: ClientCredentialsOptions): () => Promise<Grant> {
  const endpoint = parseServerUrl(options.tokenEndpoint, 'the token endpoint');
  const transport = new HttpTransport({ ...options, serverName: 'the token endpoint' });
  const server: oauth.AuthorizationServer = {
    issuer: endpoint.origin,
    token_endpoint: endpoint.href,
  };
  const client: oauth.Client = { client_id: options.clientId };
  const { clock } = options;

  const send = async (
    url: string,
    init: oauth.CustomFetchOptions<'POST', URLSearchParams>,
  ): Promise<Response> => {
    const reply = await transport.send({
      method: 'POST',
      url: new URL(url),
      headers: init.headers,
      body: init.body.toString(),
      idempotent: true,
    });
    if (reply.status === 429 || reply.status >= 500) {
      throw unavailable(options, reply.status, retryAfterMs(reply.headers, clock.now()));
    }
    return new Response(reply.status === 204 || reply.status === 304 ? null : reply.text, {
      status: reply.status,
      headers: reply.headers,
    });
  };

  return async () => {
    const secret = await options.clientSecret();
    const startedMs = clock.monotonicMs();
    try {
      const response = await oauth.clientCredentialsGrantRequest(
        server,
        client,
        basicAuthentication(secret),
        { scope: options.scope },
        // Marked as deprecated to stand out; safe here, since parseServerUrl admits plain http on loopback only.
        // eslint-disable-next-line @typescript-eslint/no-deprecated
        { [oauth.allowInsecureRequests]: true, [oauth.customFetch]: send },
      );
      const token = await oauth.processClientCredentialsResponse(server, client, response);
      const lifetimeMs = (token.expires_in ?? EXPIRES_IN_S) * 1000;
      return {
        accessToken: token.access_token,
        renewAtMs: startedMs + lifetimeMs / 2,
        expiresAtMs: startedMs + lifetimeMs - EXPIRY_MARGIN_MS,
      };
    } catch (error) {
      throw translate(options, error);
    }
  };
}

/**
 * HTTP Basic with form encoding, as RFC 6749 2.3.1 asks, that leaves `-`, `.` and `_` alone. The one of oauth4webapi
 * escapes them, and a server that does not decode (there are some) would then not know a UUID.
 */
function basicAuthentication(secret: string): oauth.ClientAuth {
  const encode = (text: string): string => new URLSearchParams({ k: text }).toString().slice(2);
  return (_server, client, _body, headers) => {
    const pair = `${encode(client.client_id)}:${encode(secret)}`;
    headers.set('authorization', `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`);
  };
}

function unavailable(
  { tokenEndpoint }: ClientCredentialsOptions,
  status: number,
  waitMs: number | undefined,
): UnavailableError {
  const limited = status === 429;
  const when = waitMs === undefined ? 'later' : `in ${Math.ceil(waitMs / 1000)} s`;
  return new UnavailableError(
    limited ? 'RATE_LIMITED' : 'HUB_UNREACHABLE',
    limited
      ? `the token endpoint ${tokenEndpoint} has had too many requests (429). Try again ${when}.`
      : `the token endpoint ${tokenEndpoint} answered ${status}. Try again ${when}; when it lasts, the hub's log says why.`,
    { details: { status, ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }) } },
  );
}

function translate(options: ClientCredentialsOptions, error: unknown): unknown {
  const { clientId, tokenEndpoint, scope } = options;
  if (error instanceof oauth.ResponseBodyError && error.error === 'invalid_scope') {
    return new AuthError(
      'SCOPE_MISSING',
      `client ${clientId} may not have the scope ${scope} at ${tokenEndpoint}. Ask the hub's administrator to allow it.`,
      { cause: error },
    );
  }
  const refused =
    error instanceof oauth.ResponseBodyError
      ? `${error.error}${error.error_description === undefined ? '' : `: ${error.error_description}`}`
      : error instanceof oauth.WWWAuthenticateChallengeError
        ? `status ${error.status}`
        : undefined;
  if (refused !== undefined) {
    return new AuthError(
      'INVALID_CLIENT',
      `the hub at ${tokenEndpoint} refused client ${clientId} (${refused}). Check the client id and secret ` +
        '(OUTPOST_CLIENT_ID, OUTPOST_CLIENT_SECRET), and that they belong to this hub.',
      { cause: error },
    );
  }
  if (
    error instanceof oauth.OperationProcessingError ||
    error instanceof oauth.UnsupportedOperationError
  ) {
    return new ProtocolError(
      'RESPONSE_INVALID',
      `${tokenEndpoint} did not answer like an OAuth token endpoint: ${errorText(error)}. Check the hub's URL.`,
      { cause: error },
    );
  }
  return error;
}

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
import { raceAbort } from '../../base/abort.ts';
import type { Clock } from '../../base/clock.ts';
import { AuthError, ProtocolError, UnavailableError } from '../../base/errors.ts';
import { HttpTransport } from '../http/http-transport.ts';
import { parseServerUrl } from '../http/secure-url.ts';
import { refusalIn, sendForm } from './token-request.ts';
import type { TokenReply } from './token-request.ts';

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
  const { clientId, scope, clock } = options;
  const url = parseServerUrl(options.tokenEndpoint, 'the token endpoint');
  const transport = new HttpTransport({ ...options, serverName: 'the token endpoint' });
  return async () => {
    const secret = await options.clientSecret();
    const startedMs = clock.monotonicMs();
    const reply = await sendForm(transport, {
      url,
      fields: { grant_type: 'client_credentials', scope },
      authorization: basicAuthorization(clientId, secret),
      // A token that is lost on its way is another one that runs out.
      idempotent: true,
      server: `the token endpoint ${options.tokenEndpoint}`,
    });
    const { accessToken, lifetimeS } = grantedToken(options, reply);
    return {
      accessToken,
      renewAtMs: startedMs + (lifetimeS * 1000) / 2,
      expiresAtMs: startedMs + lifetimeS * 1000 - EXPIRY_MARGIN_MS,
    };
  };
}

/**
 * HTTP Basic with form encoding, as RFC 6749 2.3.1 asks. It leaves `-`, `.` and `_` alone: some servers do not decode, and would not
 * know a UUID whose hyphens are escaped.
 */
function basicAuthorization(clientId: string, secret: string): string {
  const encode = (text: string): string => new URLSearchParams({ k: text }).toString().slice(2);
  const pair = `${encode(clientId)}:${encode(secret)}`;
  return `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`;
}

/** Reads a successful answer (RFC 6749 5.1). @throws AuthError SCOPE_MISSING or INVALID_CLIENT, ProtocolError RESPONSE_INVALID. */
function grantedToken(
  options: ClientCredentialsOptions,
  reply: TokenReply,
): { readonly accessToken: string; readonly lifetimeS: number } {
  const { status, body } = reply;
  if (status !== 200) {
    throw refusal(options, reply);
  }
  const { access_token: accessToken, token_type: type, expires_in: expiresIn } = body;
  if (typeof accessToken !== 'string' || accessToken === '') {
    throw invalid(options, 'it names no access_token');
  }
  if (typeof type !== 'string' || type.toLowerCase() !== 'bearer') {
    throw invalid(options, `its token_type is ${JSON.stringify(type)} and not bearer`);
  }
  // Some servers write the number as a text.
  const lifetimeS = Number(expiresIn ?? EXPIRES_IN_S);
  if (!(lifetimeS >= 0 && lifetimeS < Infinity)) {
    throw invalid(options, `its expires_in is ${JSON.stringify(expiresIn)} and no number of seconds`); // prettier-ignore
  }
  return { accessToken, lifetimeS };
}

function refusal(options: ClientCredentialsOptions, reply: TokenReply): AuthError | ProtocolError {
  const { clientId, tokenEndpoint, scope } = options;
  const { status, body, hasChallenge } = reply;
  if (body['error'] === 'invalid_scope') {
    return new AuthError(
      'SCOPE_MISSING',
      `client ${clientId} may not have the scope ${scope} at ${tokenEndpoint}. Ask the hub's administrator to allow it.`,
    );
  }
  const said = refusalIn(reply) ?? (hasChallenge ? `status ${status}` : undefined);
  if (said === undefined) {
    return invalid(options, `its status is ${status}`);
  }
  return new AuthError(
    'INVALID_CLIENT',
    `the hub at ${tokenEndpoint} refused client ${clientId} (${said}). Check the client id and secret ` +
      '(OUTPOST_CLIENT_ID, OUTPOST_CLIENT_SECRET), and that they belong to this hub.',
  );
}

function invalid({ tokenEndpoint }: ClientCredentialsOptions, what: string): ProtocolError {
  return new ProtocolError(
    'RESPONSE_INVALID',
    `${tokenEndpoint} did not answer like an OAuth token endpoint: ${what}. Check the hub's URL.`,
  );
}

/**
 * HTTP requests with time-outs, bounded bodies and bounded retries.
 *
 * What is retried, `retries` times at most:
 *
 *   failure                                   idempotent   otherwise
 *   connection refused, name not found        yes          yes: nothing was sent
 *   429                                       yes          yes: nothing was done
 *   502, 503, 504, reset, time-out            yes          no: the server may have acted
 *   any other status                          no           no
 *
 * A Retry-After up to RETRY_AFTER_MS_MAX is waited for; a longer one ends the call with the reply as it is.
 *
 * A certificate that is refused stays refused, so that is not tried again here. The seam for a proxy is the `fetch` option.
 */
import { raceAbort } from '../../base/abort.ts';
import { backoffDelayMs } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import { sleep, systemClock } from '../../base/clock.ts';
import { ProtocolError, UnavailableError, errorCode, errorText } from '../../base/errors.ts';
import {
  certificateRefused,
  isCertificateFailure,
  isNoTls,
  tlsPeer,
} from '../tls/certificate-refused.ts';
import { CONNECT_TIMEOUT, overFetch, overSockets } from './exchange.ts';
import type { HttpExchange, IncomingReply, ReplyHeaders } from './exchange.ts';

const TIMEOUT_MS = 30_000;
const RETRIES = 4;
const BACKOFF = { baseMs: 200, maxMs: 5_000 };
const RETRY_AFTER_MS_MAX = 30_000;
const RESPONSE_BYTES_MAX = 256 * 1024 * 1024;

const RETRIED_STATUSES: ReadonlySet<number> = new Set([429, 502, 503, 504]);
/** Failures before a byte of the request was sent. */
const UNSENT_CODES: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  CONNECT_TIMEOUT,
  // A fetch of the platform's.
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Settings of an {@link HttpTransport}. */
export interface HttpTransportOptions {
  /** How messages name the server, such as "the hub". */
  readonly serverName: string;
  readonly clock?: Clock;
  /** Limit for one attempt, from connecting to the last byte. Default 30 s. */
  readonly timeoutMs?: number;
  /** Attempts after the first. Default 4; 0 turns retrying off. */
  readonly retries?: number;
  readonly userAgent?: string;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  /** Seam for a proxy; then `ca` is its affair. */
  readonly fetch?: typeof fetch;
  /** Told how many bytes a body has, a reply's perhaps more than once; what it throws ends the call. */
  readonly onBodyBytes?: (of: 'request' | 'reply', bytes: number) => void;
}

/** One request. */
export interface HttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** Whether sending it twice has the effect of sending it once. */
  readonly idempotent: boolean;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The reply of the server, whatever its status. */
export interface HttpReply {
  readonly status: number;
  readonly headers: ReplyHeaders;
  readonly text: string;
  /** Number of attempts that were made. */
  readonly attempts: number;
}

/** Sends requests. */
export class HttpTransport {
  readonly #clock: Clock;
  readonly #options: HttpTransportOptions;
  readonly #exchange: HttpExchange;

  constructor(options: HttpTransportOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#options = options;
    this.#exchange =
      options.fetch === undefined ? overSockets(options.ca) : overFetch(options.fetch);
  }

  /**
   * Sends a request and reads the whole reply.
   *
   * @throws UnavailableError HUB_UNREACHABLE, TIMED_OUT or CERTIFICATE_REFUSED when no reply came; the signal's reason when aborted.
   */
  async send(request: HttpRequest): Promise<HttpReply> {
    const retries = this.#options.retries ?? RETRIES;
    for (let attempt = 0; ; attempt += 1) {
      let delayMs = backoffDelayMs(attempt, BACKOFF);
      try {
        const reply = await this.#attempt(request, attempt + 1);
        const retryable = reply.status === 429 || request.idempotent;
        if (attempt >= retries || !retryable || !RETRIED_STATUSES.has(reply.status)) {
          return reply;
        }
        const wantedMs = retryAfterMs(reply.headers, this.#clock.now());
        if (wantedMs !== undefined && wantedMs > RETRY_AFTER_MS_MAX) {
          return reply;
        }
        delayMs = Math.max(delayMs, wantedMs ?? 0);
      } catch (error) {
        if (!(error instanceof UnavailableError) || error.code === 'CERTIFICATE_REFUSED') {
          throw error;
        }
        if (attempt >= retries || !(request.idempotent || error.details['unsent'] === true)) {
          throw error;
        }
      }
      await sleep(this.#clock, delayMs, request.signal);
    }
  }

  async #attempt(request: HttpRequest, attempts: number): Promise<HttpReply> {
    request.signal?.throwIfAborted();
    const limitMs = request.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS;
    const abort = new AbortController();
    const expired = Symbol('time-out');
    const timer = this.#clock.after(limitMs, () => {
      abort.abort(expired);
    });
    const onAbort = (): void => {
      abort.abort();
    };
    request.signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await this.#converse(request, attempts, abort.signal);
    } catch (error) {
      request.signal?.throwIfAborted();
      if (error instanceof ProtocolError) {
        // What is left of the reply is not waited for.
        abort.abort();
        throw error;
      }
      throw abort.signal.reason === expired
        ? this.#timedOut(request, limitMs, attempts)
        : await this.#failure(request, attempts, error);
    } finally {
      timer.cancel();
      request.signal?.removeEventListener('abort', onAbort);
    }
  }

  async #converse(request: HttpRequest, attempts: number, signal: AbortSignal): Promise<HttpReply> {
    const { body } = request;
    const { userAgent, onBodyBytes } = this.#options;
    if (body !== undefined) {
      onBodyBytes?.('request', Buffer.byteLength(body));
    }
    const reply = await this.#exchange(request.url, {
      method: request.method,
      headers: {
        accept: 'application/json',
        ...(userAgent !== undefined && { 'user-agent': userAgent }),
        ...request.headers,
      },
      ...(body !== undefined && { body }),
      signal,
    });
    const { status, headers } = reply;
    const text = await raceAbort(this.#readText(reply, request.url), signal);
    return { status, headers, text, attempts };
  }

  async #readText({ headers, body }: IncomingReply, url: URL): Promise<string> {
    const { onBodyBytes } = this.#options;
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    onBodyBytes?.('reply', Number(headers.get('content-length')));
    for await (const chunk of body) {
      bytes += chunk.length;
      onBodyBytes?.('reply', bytes);
      if (bytes > RESPONSE_BYTES_MAX) {
        throw new ProtocolError(
          'PAYLOAD_TOO_LARGE',
          `the reply of ${url.href} is larger than ${RESPONSE_BYTES_MAX} bytes; ask for less at a time`,
        );
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString('utf8');
  }

  #timedOut(request: HttpRequest, limitMs: number, attempts: number): UnavailableError {
    const { serverName } = this.#options;
    return new UnavailableError(
      'TIMED_OUT',
      `${serverName} at ${request.url.origin} did not answer ${describe(request)} within ${limitMs / 1000} s` +
        `${tries(attempts)}. Check its load and the network in between; it may have acted on the request all the same.`,
      { details: { method: request.method, path: request.url.pathname, attempts } },
    );
  }

  async #failure(
    request: HttpRequest,
    attempts: number,
    error: unknown,
  ): Promise<UnavailableError> {
    // fetch says only "fetch failed"; the reason is its cause.
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    if (!isCertificateFailure(cause)) {
      return this.#unreachable(request, attempts, error, cause);
    }
    return await certificateRefused(tlsPeer(this.#options.serverName, request.url, 443), cause);
  }

  #unreachable(
    request: HttpRequest,
    attempts: number,
    error: unknown,
    cause: unknown,
  ): UnavailableError {
    const { serverName } = this.#options;
    const code = causeCode(cause);
    return new UnavailableError(
      'HUB_UNREACHABLE',
      `cannot reach ${serverName} at ${request.url.origin} for ${describe(request)}${tries(attempts)}: ` +
        `${errorText(cause)}. ${advice(code, cause)}`,
      {
        cause: error,
        details: {
          method: request.method,
          path: request.url.pathname,
          attempts,
          ...(code === undefined ? {} : { code, unsent: UNSENT_CODES.has(code) }),
        },
      },
    );
  }
}

function describe(request: HttpRequest): string {
  return `${request.method} ${request.url.pathname}`;
}

function tries(attempts: number): string {
  return attempts === 1 ? '' : ` (attempt ${attempts})`;
}

/** A host with several addresses fails with one error for each. */
function causeCode(cause: unknown): string | undefined {
  return cause instanceof AggregateError ? errorCode(cause.errors[0]) : errorCode(cause);
}

function advice(code: string | undefined, cause: unknown): string {
  if (code === undefined) {
    return 'Check the network and try again.';
  }
  if (isNoTls(cause)) {
    return 'What listens there speaks no TLS: check that the URL has the right port.';
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return 'Check the host name in the URL.';
  }
  return code === 'ECONNREFUSED'
    ? 'Nothing listens there: check that it is running and that the URL has the right port.'
    : 'Check the network and try again.';
}

/** What `Retry-After` asks for: seconds or a date; undefined when absent or unreadable. */
export function retryAfterMs(headers: ReplyHeaders, nowMs: number): number | undefined {
  const value = headers.get('retry-after');
  if (value === null) {
    return undefined;
  }
  if (/^\d{1,9}$/.test(value.trim())) {
    return Number(value) * 1000;
  }
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

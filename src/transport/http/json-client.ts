/**
 * JSON over HTTP against one base URL. Every status is returned; what an error status means is the caller's to say.
 */
import type { Clock } from '../../base/clock.ts';
import { ProtocolError } from '../../base/errors.ts';
import type { ReplyHeaders } from './exchange.ts';
import { HttpTransport } from './http-transport.ts';
import type { HttpTransportOptions } from './http-transport.ts';
import { parseServerUrl } from './secure-url.ts';

/** Settings of a {@link JsonHttpClient}. */
export interface JsonHttpClientOptions {
  /** May have a path, which then stands before every request's path. */
  readonly baseUrl: string;
  /** Name of the setting that the URL came from, for messages. */
  readonly setting: string;
  readonly serverName: string;
  readonly clock?: Clock;
  readonly timeoutMs?: number;
  readonly retries?: number;
  readonly userAgent?: string;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  readonly fetch?: typeof fetch;
  readonly onBodyBytes?: NonNullable<HttpTransportOptions['onBodyBytes']>;
}

/** One JSON request. */
export interface JsonRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Begins with a slash; parts that come from data are already percent-encoded. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** Sent as JSON; bytes are sent as they are. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether sending it twice has the effect of sending it once. */
  readonly idempotent: boolean;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** A reply; `body` is undefined when there was none or it is not JSON (then `text` has the beginning of it). */
export interface JsonReply {
  readonly status: number;
  readonly headers: ReplyHeaders;
  readonly body: unknown;
  readonly text: string;
}

const TEXT_CHARS_KEPT = 200;

/** Sends JSON requests to one server. @throws ConfigError when the URL is not acceptable. */
export class JsonHttpClient {
  /** Base URL without a slash at its end. */
  readonly baseUrl: string;
  readonly #transport: HttpTransport;

  constructor(options: JsonHttpClientOptions) {
    this.baseUrl = parseServerUrl(options.baseUrl, options.setting).href.replace(/\/+$/, '');
    this.#transport = new HttpTransport(options);
  }

  /** Sends a request. @throws UnavailableError when no reply came. */
  async request(request: JsonRequest): Promise<JsonReply> {
    const url = new URL(this.baseUrl + request.path);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) {
        url.searchParams.set(name, value);
      }
    }
    const { body } = request;
    const reply = await this.#transport.send({
      method: request.method,
      url,
      headers: {
        ...(body === undefined ? {} : { 'content-type': contentType(body) }),
        ...request.headers,
      },
      ...(body === undefined
        ? {}
        : { body: body instanceof Uint8Array ? body : JSON.stringify(body) }),
      idempotent: request.idempotent,
      ...(request.timeoutMs === undefined ? {} : { timeoutMs: request.timeoutMs }),
      ...(request.signal === undefined ? {} : { signal: request.signal }),
    });
    const { status, headers, text } = reply;
    return { status, headers, body: parseJson(text), text: text.slice(0, TEXT_CHARS_KEPT) };
  }
}

function contentType(body: unknown): string {
  return body instanceof Uint8Array ? 'application/octet-stream' : 'application/json';
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // An error page of a proxy, for one. Whoever needs a body says what it got instead.
    return undefined;
  }
}

/** Error for a success whose body is not what the route promises. */
export function responseInvalid(what: string, reply: JsonReply): ProtocolError {
  const got = reply.text === '' ? 'an empty body' : JSON.stringify(reply.text);
  return new ProtocolError(
    'RESPONSE_INVALID',
    `${what}. It answered ${reply.status} with ${got}. Check that the URL is that of a hub and not of something in front of it.`,
    { details: { status: reply.status } },
  );
}

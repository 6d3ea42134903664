/**
 * One request out, one reply in: what {@link HttpTransport} does once, or more often, for each call.
 *
 * The platform's fetch would do it too, but with it an agent needs 15 MB more memory: it brings a parser of its own that is compiled when
 * it is first used. It is taken where a caller brings one, for a proxy.
 */
import { Agent as PlainAgent, request as plainRequest } from 'node:http';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';

import { trusting } from '../tls/trust.ts';

/** Idle connections are closed before servers and proxies do it, so that a request does not meet one that just was. */
const IDLE_MS = 4_000;
/** For the connection and its TLS handshake; what waits longer has not sent anything. */
const CONNECT_MS = 10_000;

/** Code of the error when there was no connection in time. */
export const CONNECT_TIMEOUT = 'CONNECT_TIMEOUT';

/** Headers of a reply, by names in any case. */
export interface ReplyHeaders {
  get: (name: string) => string | null;
}

/** What is sent. */
export interface OutgoingRequest {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  readonly signal: AbortSignal;
}

/** What came back; the body may still be on its way. */
export interface IncomingReply {
  readonly status: number;
  readonly headers: ReplyHeaders;
  readonly body: AsyncIterable<Uint8Array>;
}

/** Sends a request. Rejects with whatever hindered it; a redirect is a reply, since it would carry credentials to a place that nobody named. */
export type HttpExchange = (url: URL, request: OutgoingRequest) => Promise<IncomingReply>;

/** Over connections of this process, which trust these authorities (PEM) beside the system's. */
export function overSockets(ca: string | undefined, connectMs = CONNECT_MS): HttpExchange {
  return async (url, { method, headers, body, signal }) => {
    const isTls = url.protocol === 'https:';
    const outgoing = (isTls ? tlsRequest : plainRequest)(url, {
      method,
      headers: {
        ...headers,
        ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }),
      },
      agent: isTls ? tlsAgent(ca) : plainAgent,
      signal,
    });
    const incoming = await new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.on('response', resolve);
      outgoing.on('error', reject);
      outgoing.on('socket', (socket) => {
        endUnlessConnected(socket, isTls, connectMs);
      });
      outgoing.end(body);
    });
    const get = (name: string): string | null => {
      const value = incoming.headers[name.toLowerCase()];
      return value === undefined ? null : String(value);
    };
    return { status: incoming.statusCode ?? 0, headers: { get }, body: bodyOf(incoming, outgoing) };
  };
}

/** What comes back. A server that has answered reads no more: what it was not sent yet would keep connection and process busy for nothing. */
async function* bodyOf(
  incoming: IncomingMessage,
  outgoing: ClientRequest,
): AsyncGenerator<Uint8Array> {
  try {
    yield* incoming as AsyncIterable<Uint8Array>;
  } finally {
    if (!outgoing.writableFinished) {
      outgoing.destroy();
    }
  }
}

/** Over a fetch that the caller brings. */
export function overFetch(send: typeof fetch): HttpExchange {
  return async (url, { method, headers, body, signal }) => {
    const response = await send(url, {
      method,
      headers,
      ...(body !== undefined && { body }),
      redirect: 'manual',
      signal,
    });
    const chunks = response.body as unknown as AsyncIterable<Uint8Array> | null;
    return { status: response.status, headers: response.headers, body: chunks ?? nothing() };
  };
}

// eslint-disable-next-line @typescript-eslint/require-await -- an iterable of nothing
async function* nothing(): AsyncGenerator<Uint8Array> {
  yield* [];
}

/** Idle connections neither keep the process alive nor stay. */
const kept = { keepAlive: true, timeout: IDLE_MS } as const;
const plainAgent = new PlainAgent(kept);
const tlsAgentOfSystem = new TlsAgent(kept);
const tlsAgents = new WeakMap<SecureContext, TlsAgent>();

function tlsAgent(ca: string | undefined): TlsAgent {
  if (ca === undefined) {
    return tlsAgentOfSystem;
  }
  const secureContext = trusting(ca);
  const agent = tlsAgents.get(secureContext) ?? new TlsAgent({ ...kept, secureContext });
  tlsAgents.set(secureContext, agent);
  return agent;
}

function endUnlessConnected(socket: Socket, isTls: boolean, connectMs: number): void {
  if (!socket.connecting) {
    return; // It was kept from an earlier request.
  }
  const timer = setTimeout(() => {
    const error = new Error(`no connection within ${connectMs / 1000} s`);
    socket.destroy(Object.assign(error, { code: CONNECT_TIMEOUT }));
  }, connectMs);
  const stop = (): void => {
    clearTimeout(timer);
  };
  socket.once(isTls ? 'secureConnect' : 'connect', stop);
  socket.once('close', stop);
}

/**
 * An HTTP proxy in front of the hub, at the address that the unmodified SDK knows: it passes everything on and remembers what
 * was asked, so that the suite can say what each version of the SDK really sends.
 */
import { once } from 'node:events';
import { createServer, request as sendRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** Larger bodies are passed on, but not remembered. */
const REMEMBERED_BYTES_MAX = 64 * 1024;

/** A request as it came. */
export interface RecordedRequest {
  readonly method: string;
  /** With `{id}` for every id, and without a query. */
  readonly route: string;
  readonly headers: IncomingHttpHeaders;
  /** Undefined when there was none, when it was no JSON object, or a large one. */
  readonly body: Readonly<Record<string, unknown>> | undefined;
}

/** The running proxy. */
export interface WireRecorder {
  readonly requests: readonly RecordedRequest[];
  stop: () => Promise<void>;
}

const ID = /\/(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|nonsense)(?=\/|$)/g;

function recorded(request: IncomingMessage, body: Buffer): RecordedRequest {
  const { method = '', url = '', headers } = request;
  const isJson = headers['content-type']?.startsWith('application/json') === true;
  return {
    method,
    route: (url.split('?', 1)[0] ?? '').replaceAll(ID, '/{id}'),
    headers,
    body:
      isJson && body.length > 0 && body.length <= REMEMBERED_BYTES_MAX
        ? (JSON.parse(body.toString('utf8')) as Record<string, unknown>)
        : undefined,
  };
}

async function passOn(
  request: IncomingMessage,
  body: Buffer,
  response: ServerResponse,
  upstream: string,
): Promise<void> {
  const { method, url = '', headers } = request;
  // No connection outlives its request: the hub behind is restarted at times.
  const forwarded = sendRequest(new URL(url, upstream), { method, headers, agent: false });
  const answered = once(forwarded, 'response') as Promise<[IncomingMessage]>;
  // A refusal may come, and the connection end, before all of the body was written.
  forwarded.on('error', () => undefined);
  forwarded.end(body);
  const [answer] = await answered;
  const content = await buffer(answer);
  response.writeHead(answer.statusCode ?? 502, answer.headers).end(content);
}

/** Starts to listen on `port` for `upstream`, a URL. */
export async function startWireRecorder(port: number, upstream: string): Promise<WireRecorder> {
  const requests: RecordedRequest[] = [];
  const server = createServer((request, response) => {
    buffer(request)
      .then(async (body) => {
        requests.push(recorded(request, body));
        await passOn(request, body, response, upstream);
      })
      .catch(() => {
        // The hub is away: to the client it looks as without us.
        request.socket.destroy();
      });
  }).listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    requests,
    stop: async (): Promise<void> => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** A second port of something that listens elsewhere. */
export interface PortForwarder {
  readonly port: number;
  /** How many connections there were. */
  connections: () => number;
  stop: () => Promise<void>;
}

/** Forwards a free port to another one of this host. */
export async function startPortForwarder(targetPort: number): Promise<PortForwarder> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createTcpServer((client) => {
    connections += 1;
    const target = connect({ port: targetPort, host: 'localhost' });
    for (const [from, to] of [
      [client, target],
      [target, client],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.once('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    stop: async (): Promise<void> => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) {
        socket.destroy();
      }
      await closed;
    },
  };
}

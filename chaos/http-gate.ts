/**
 * An HTTP proxy before the hub that answers 503 on the paths that are shut, as a hub does whose sign-in is out of order.
 */
import { createServer, request } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A running gate. */
export interface HttpGate {
  readonly port: number;
  /** Paths that begin so are answered with 503; undefined opens the gate. */
  shut: (pathPrefix: string | undefined) => void;
  close: () => Promise<void>;
}

/** Starts a gate before a port of this host. */
export async function startHttpGate(targetPort: number): Promise<HttpGate> {
  let shutPrefix: string | undefined;
  const forward = (incoming: IncomingMessage, reply: ServerResponse): void => {
    const { method, url = '/', headers } = incoming;
    if (shutPrefix !== undefined && url.startsWith(shutPrefix)) {
      incoming.resume();
      reply.writeHead(503, { 'content-type': 'text/plain' }).end('out of order');
      return;
    }
    const options = { host: '127.0.0.1', port: targetPort, method, path: url, headers };
    const outgoing = request(options, (answer) => {
      reply.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(reply);
    });
    outgoing.on('error', () => {
      // What the caller sees of a hub that is gone: a connection that ends.
      incoming.socket.destroy();
    });
    incoming.pipe(outgoing);
  };
  const server = createServer(forward);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    shut: (pathPrefix) => {
      shutPrefix = pathPrefix;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    },
  };
}

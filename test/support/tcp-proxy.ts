/**
 * A TCP proxy that breaks connections in the ways networks do: reset, silence without an end, end of one direction.
 */
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

export interface TcpProxyOptions {
  readonly targetPort: number;
  readonly targetHost?: string;
}

export interface TcpProxy {
  readonly port: number;
  /** Connections that stand. */
  readonly connectionCount: number;
  /** Resets every connection (RST) on both sides. New ones are accepted. */
  cut: () => void;
  /** Forwards nothing in either direction while on; the sockets stay open, also new ones. */
  stall: (on: boolean) => void;
  /** Ends the direction towards the clients (FIN); what they send is still forwarded. */
  halfClose: () => void;
  /** Cuts everything and stops listening. */
  close: () => Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly target: Socket;
}

export async function startTcpProxy(options: TcpProxyOptions): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  let isStalled = false;

  const forward = (from: Socket, to: Socket): void => {
    from.on('data', (chunk) => {
      if (!to.write(chunk)) {
        from.pause();
      }
    });
    to.on('drain', () => {
      if (!isStalled) {
        from.resume();
      }
    });
    from.on('end', () => {
      to.end();
    });
  };

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const target = connect({
      port: options.targetPort,
      host: options.targetHost ?? '127.0.0.1',
      allowHalfOpen: true,
      noDelay: true,
    });
    const pair = { client, target };
    pairs.add(pair);
    forward(client, target);
    forward(target, client);
    if (isStalled) {
      client.pause();
      target.pause();
    }
    for (const [socket, other] of [
      [client, target],
      [target, client],
    ] as const) {
      // The end of one side is told to the other by `close`.
      socket.on('error', () => undefined);
      socket.on('close', () => {
        pairs.delete(pair);
        other.destroy();
      });
    }
  });

  const cut = (): void => {
    for (const { client, target } of pairs) {
      client.resetAndDestroy();
      target.resetAndDestroy();
    }
  };

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    get connectionCount(): number {
      return pairs.size;
    },
    cut,
    stall: (on) => {
      isStalled = on;
      for (const { client, target } of pairs) {
        if (on) {
          client.pause();
          target.pause();
        } else {
          client.resume();
          target.resume();
        }
      }
    },
    halfClose: () => {
      for (const { client } of pairs) {
        client.end();
      }
    },
    close: async () => {
      cut();
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    },
  };
}

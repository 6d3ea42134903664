/**
 * A TCP proxy that breaks connections in the ways networks do: reset, silence without an end, slowness, end of one direction.
 */
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

export interface TcpProxyOptions {
  readonly targetPort: number;
  readonly targetHost?: string;
}

/** Where bytes go. */
export type ProxyDirection = 'to-clients' | 'to-target';

export interface TcpProxy {
  readonly port: number;
  /** Connections that stand. */
  readonly connectionCount: number;
  /** Resets every connection (RST) on both sides. New ones are accepted. */
  cut: () => void;
  /** Forwards nothing in either direction while on; the sockets stay open, also new ones. */
  stall: (on: boolean) => void;
  /** The connections that stand now fall silent for ever, as after a firewall has forgotten them; new ones work. */
  freeze: () => void;
  /** Forwards nothing in this direction while on. */
  hold: (direction: ProxyDirection, on: boolean) => void;
  /** Forwards at most so many bytes a second and direction on each connection; undefined takes the limit away. */
  throttle: (bytesPerSecond: number | undefined) => void;
  /** Resets new connections at once while on. */
  refuse: (on: boolean) => void;
  /** Ends the direction towards the clients (FIN); what they send is still forwarded. */
  halfClose: () => void;
  /** Cuts everything and stops listening. */
  close: () => Promise<void>;
}

/** One direction of one connection; bytes flow while nothing speaks against it. */
class Flow {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly direction: ProxyDirection;
  bytesPerSecond: number | undefined;
  isHeld = false;
  isFrozen = false;
  #isFull = false;
  #rest: NodeJS.Timeout | undefined;

  constructor(direction: ProxyDirection, from: Socket, to: Socket) {
    this.direction = direction;
    this.#from = from;
    this.#to = to;
    from.on('data', (chunk) => {
      this.#forward(chunk);
    });
    to.on('drain', () => {
      this.#isFull = false;
      this.update();
    });
    from.on('end', () => {
      to.end();
    });
    from.on('close', () => {
      clearTimeout(this.#rest);
    });
  }

  /** Reads on or stops reading, whatever holds now. */
  update(): void {
    if (this.isHeld || this.isFrozen || this.#isFull || this.#rest !== undefined) {
      this.#from.pause();
    } else {
      this.#from.resume();
    }
  }

  #forward(chunk: Buffer): void {
    this.#isFull = !this.#to.write(chunk);
    if (this.bytesPerSecond !== undefined) {
      this.#rest = setTimeout(
        () => {
          this.#rest = undefined;
          this.update();
        },
        (chunk.length / this.bytesPerSecond) * 1000,
      );
    }
    this.update();
  }
}

interface Pair {
  readonly client: Socket;
  readonly target: Socket;
  readonly flows: readonly Flow[];
}

export async function startTcpProxy(options: TcpProxyOptions): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  const held = new Set<ProxyDirection>();
  let bytesPerSecond: number | undefined;
  let isRefusing = false;

  const apply = (flow: Flow): void => {
    flow.isHeld = held.has(flow.direction);
    flow.bytesPerSecond = bytesPerSecond;
    flow.update();
  };
  const applyToAll = (): void => {
    for (const { flows } of pairs) {
      flows.forEach(apply);
    }
  };

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    if (isRefusing) {
      client.on('error', () => undefined);
      client.resetAndDestroy();
      return;
    }
    const target = connect({
      port: options.targetPort,
      host: options.targetHost ?? '127.0.0.1',
      allowHalfOpen: true,
      noDelay: true,
    });
    const flows = [
      new Flow('to-target', client, target),
      new Flow('to-clients', target, client),
    ] as const;
    const pair = { client, target, flows };
    pairs.add(pair);
    flows.forEach(apply);
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
      reset(client);
      reset(target);
    }
  };
  const hold = (direction: ProxyDirection, on: boolean): void => {
    if (on) {
      held.add(direction);
    } else {
      held.delete(direction);
    }
    applyToAll();
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
      hold('to-target', on);
      hold('to-clients', on);
    },
    freeze: () => {
      for (const { flows } of pairs) {
        for (const flow of flows) {
          flow.isFrozen = true;
          flow.update();
        }
      }
    },
    hold,
    throttle: (limit) => {
      bytesPerSecond = limit;
      applyToAll();
    },
    refuse: (on) => {
      isRefusing = on;
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

/** Node cannot reset a socket that it is shutting down: the handle would stay open, and keep the process from ending. */
function reset(socket: Socket): void {
  if (socket.writableEnded) {
    socket.destroy();
  } else {
    socket.resetAndDestroy();
  }
}

/**
 * Sockets that the API listens on.
 *
 * "localhost" means 127.0.0.1 and ::1, whatever the hosts file says: some clients resolve the name to one, some to the
 * other. A machine without IPv6 does with the first.
 */
import { createServer as createHttpListener } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createHttpsListener, Server as HttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';

import { systemClock } from '../../base/clock.ts';
import type { Timer } from '../../base/clock.ts';
import { withDeadline } from '../../base/deadline.ts';
import { ConfigError, UnavailableError, errorCode } from '../../base/errors.ts';

/** Certificate chain and key, PEM. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
  /** What the files hold now. @throws ConfigError when that cannot be used. */
  readonly reload?: () => { readonly cert: string; readonly key: string };
}

/** Where to listen. */
export interface ListenOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly tls?: TlsIdentity;
  /** What sets the port, for messages. @defaultValue OUTPOST_HUB_PORT */
  readonly portSetting?: string;
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A request may take this long to arrive whole: a client that never finishes holds memory. */
const REQUEST_TIMEOUT_MS = 120_000;
const HEADERS_TIMEOUT_MS = 20_000;
/** Longer than clients and proxies keep an idle connection, so that it is they who close it. */
const KEEP_ALIVE_TIMEOUT_MS = 75_000;
/** A connection whose request has ended is idle; Node does not look again by itself. */
const CLOSE_LOOK_EVERY_MS = 50;
/** Requests that run when the server is closed may take this long to end. */
const CLOSE_GRACE_MS = 5000;
const FREE_PORT_ATTEMPTS = 10;

function createListener(handler: Handler, tls: TlsIdentity | undefined): Server {
  const server =
    tls === undefined
      ? createHttpListener(handler)
      : createHttpsListener({ cert: tls.cert, key: tls.key }, handler);
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.keepAliveTimeout = KEEP_ALIVE_TIMEOUT_MS;
  return server;
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function listenFailure(
  error: unknown,
  host: string,
  port: number,
  portSetting = 'OUTPOST_HUB_PORT',
): unknown {
  switch (errorCode(error) ?? '') {
    case 'EADDRINUSE':
      return new UnavailableError(
        'PORT_IN_USE',
        `port ${port} on ${host} is in use already; stop what listens there, or set ${portSetting} to another port`,
        { cause: error, details: { host, port } },
      );
    case 'EACCES':
      return new UnavailableError(
        'START_FAILED',
        `this user may not listen on port ${port}; set ${portSetting} to one from 1024 up`,
        { cause: error, details: { host, port } },
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new ConfigError(
        'the hub cannot listen where it was told to',
        [
          {
            key: 'OUTPOST_HUB_HOST',
            source: 'environment',
            value: host,
            expected: 'an address of this machine, or localhost',
          },
        ],
        { cause: error },
      );
    default:
      return error;
  }
}

/** Listening sockets of one server. */
export class Listeners {
  readonly #servers: readonly Server[];
  readonly port: number;

  private constructor(servers: readonly Server[], port: number) {
    this.#servers = servers;
    this.port = port;
  }

  /** Starts to listen. @throws UnavailableError PORT_IN_USE; ConfigError when the address is not this machine's. */
  static async open(handler: Handler, options: ListenOptions): Promise<Listeners> {
    const { host, port, tls, portSetting } = options;
    const [first, second] = host === 'localhost' ? ['127.0.0.1', '::1'] : [host];
    for (let attempt = 1; ; attempt += 1) {
      const server = createListener(handler, tls);
      try {
        await listen(server, first, port);
      } catch (error) {
        throw listenFailure(error, first, port, portSetting);
      }
      const chosen = (server.address() as AddressInfo).port;
      if (second === undefined) {
        return new Listeners([server], chosen);
      }
      const other = createListener(handler, tls);
      try {
        await listen(other, second, chosen);
        return new Listeners([server, other], chosen);
      } catch (error) {
        if (['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes(errorCode(error) ?? '')) {
          return new Listeners([server], chosen);
        }
        await closeServer(server);
        // A port that the system chose as free for IPv4 may be taken for IPv6.
        if (port !== 0 || attempt === FREE_PORT_ATTEMPTS) {
          throw listenFailure(error, second, chosen, portSetting);
        }
      }
    }
  }

  /** Those that speak TLS. */
  get tlsServers(): readonly HttpsServer[] {
    return this.#servers.filter((server) => server instanceof HttpsServer);
  }

  /** Stops listening, lets running requests end, and drops what takes too long. */
  async close(): Promise<void> {
    await Promise.all(this.#servers.map(closeServer));
  }
}

async function closeServer(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => {
      resolve();
    });
  });
  let timer: Timer | undefined;
  const closeIdle = (): void => {
    server.closeIdleConnections();
    timer = systemClock.after(CLOSE_LOOK_EVERY_MS, closeIdle);
  };
  closeIdle();
  try {
    await withDeadline(
      systemClock,
      CLOSE_GRACE_MS,
      closed,
      () => new UnavailableError('TIMED_OUT', 'requests did not end in time'),
    );
  } catch (error) {
    if (!(error instanceof UnavailableError)) {
      throw error;
    }
    server.closeAllConnections();
    await closed;
  } finally {
    timer?.cancel();
  }
}

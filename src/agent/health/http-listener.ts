/**
 * A small HTTP server for those who look after an agent: GET of a few fixed paths, without a password, on loopback or a Unix socket
 * that only the owner can open.
 *
 * Bounded in connections, header bytes and time (I6). A browser that was lured here by a name that resolves to this machine is turned
 * away by its Host header. A place that is taken is tried again: tasks do not depend on being watched.
 */
import { chmod, lstat } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect, isIP } from 'node:net';

import type { Clock, Timer } from '../../base/clock.ts';
import { errorCode, errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { detach } from '../../base/logger.ts';
import { removeIfThere } from '../../base/remove-file.ts';

/** Where to listen. */
export type ListenTarget =
  { readonly host: string; readonly port: number } | { readonly path: string };

/** What a path answers. */
export interface HttpAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** Settings of a listener. */
export interface HttpListenerOptions {
  readonly target: ListenTarget;
  /** By path: `/healthz`. */
  readonly routes: ReadonlyMap<string, () => HttpAnswer | Promise<HttpAnswer>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

const CONNECTIONS_MAX = 32;
const HEADER_BYTES_MAX = 8 * 1024;
const REQUEST_LIMIT_MS = 5_000;
const RETRY_MS = 30_000;
const TEXT = 'text/plain; charset=utf-8';

/** Listens, or tries to, until it is closed. */
export class HttpListener {
  readonly #options: HttpListenerOptions;
  readonly #server: Server;
  #retry: Timer | undefined;
  #isClosed = false;
  #wasToldOfFailure = false;

  constructor(options: HttpListenerOptions) {
    this.#options = options;
    this.#server = createServer(
      {
        maxHeaderSize: HEADER_BYTES_MAX,
        headersTimeout: REQUEST_LIMIT_MS,
        requestTimeout: REQUEST_LIMIT_MS,
        keepAliveTimeout: REQUEST_LIMIT_MS,
        connectionsCheckingInterval: REQUEST_LIMIT_MS,
      },
      (request, response) => {
        detach(options.logger, 'answering a request', this.#serve(request, response));
      },
    );
    this.#server.maxConnections = CONNECTIONS_MAX;
    // A connection that cannot be accepted (no descriptor is free) must not end the agent.
    this.#server.on('error', (error) => {
      options.logger.debug({ reason: errorText(error) }, 'the listener for health and metrics');
    });
  }

  /** Where it listens; undefined while it does not. A port 0 has become the real one. */
  get address(): ListenTarget | undefined {
    const address = this.#server.listening ? this.#server.address() : null;
    if (address === null) {
      return undefined;
    }
    return typeof address === 'string'
      ? { path: address }
      : { host: address.address, port: address.port };
  }

  /** Begins to listen. A failure is logged and tried again later. */
  async start(): Promise<void> {
    const { target, clock, logger } = this.#options;
    try {
      if ('path' in target) {
        await removeAbandoned(target.path);
      }
      await this.#listen();
      logger.info({ ...this.address }, 'health and metrics can be read');
      this.#wasToldOfFailure = false;
    } catch (error) {
      if (!this.#wasToldOfFailure) {
        this.#wasToldOfFailure = true;
        logger.error(
          { ...target, reason: errorText(error) },
          'health and metrics cannot be read: metrics_listen is taken or not allowed; trying again',
        );
      }
      this.#retry = clock.after(
        RETRY_MS,
        () => {
          detach(logger, 'listening for health and metrics', this.start());
        },
        { background: true },
      );
    }
  }

  /** Ends every connection. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#retry?.cancel();
    if (!this.#server.listening) {
      return;
    }
    await new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
      this.#server.closeAllConnections();
    });
  }

  async #listen(): Promise<void> {
    const { target } = this.#options;
    if (this.#isClosed) {
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const onListening = (): void => {
        this.#server.off('error', onError);
        resolve();
      };
      const onError = (error: Error): void => {
        this.#server.off('listening', onListening);
        reject(error);
      };
      this.#server.once('error', onError);
      if ('path' in target) {
        // The socket is made within this call: nobody else can open it even for a moment.
        const before = process.umask(0o177);
        try {
          this.#server.listen(target.path, onListening);
        } finally {
          process.umask(before);
        }
      } else {
        this.#server.listen(target.port, target.host, onListening);
      }
    });
    if ('path' in target) {
      await chmod(target.path, 0o600);
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, contentType, body } = await this.#answer(request);
    const bytes = Buffer.from(body);
    response.writeHead(status, {
      'content-type': contentType,
      'content-length': bytes.length,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    response.end(request.method === 'HEAD' ? undefined : bytes);
  }

  async #answer(request: IncomingMessage): Promise<HttpAnswer> {
    const { target, routes, logger } = this.#options;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return { status: 405, contentType: TEXT, body: 'GET only\n' };
    }
    if ('port' in target && !namesThisMachine(request.headers.host)) {
      return { status: 403, contentType: TEXT, body: 'ask by an address of this machine\n' };
    }
    const [path = ''] = (request.url ?? '').split('?');
    const route = routes.get(path);
    if (route === undefined) {
      const known = [...routes.keys()].join(', ');
      return { status: 404, contentType: TEXT, body: `not found; there are ${known}\n` };
    }
    try {
      return await route();
    } catch (error) {
      logger.error({ err: error, path }, 'a request for health or metrics failed');
      return { status: 500, contentType: TEXT, body: 'it failed; the log says why\n' };
    }
  }
}

function namesThisMachine(host: string | undefined): boolean {
  const name = (host ?? '').replace(/:\d+$/, '').replaceAll(/[[\]]/g, '');
  return name === 'localhost' || isIP(name) !== 0;
}

/** Removes the socket of an agent that was killed; one that somebody answers on stays, and so does anything else. */
async function removeAbandoned(path: string): Promise<void> {
  if (!(await isSocket(path))) {
    return;
  }
  const code = await new Promise<string | undefined>((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', (error) => {
      resolve(errorCode(error));
    });
  });
  if (code === 'ECONNREFUSED') {
    await removeIfThere(path);
  }
}

async function isSocket(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSocket();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return false;
    }
    throw error;
  }
}

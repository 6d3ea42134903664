/**
 * The agent's control socket: how commands on the same host talk to a running agent.
 *
 * Only the owner may connect: the socket is 0600 in a directory that is 0700 and ours (checked, because anybody may have made the one
 * in /tmp first). A socket file that nobody answers on is a leftover and is replaced; call this while holding `agent.lock`.
 * Bounded: line length, connections, one request at a time per connection, idle time.
 */
import { chmod, lstat, mkdir } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { dirname } from 'node:path';

import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { ConfigError, ConflictError, UsageError, errorCode } from '../base/errors.ts';
import { detach } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import { removeIfThere } from '../base/remove-file.ts';
import { encodeControlError, LineDecoder } from './control-protocol.ts';
import type { ControlResponse } from './control-protocol.ts';

export { controlSocketPath } from './control-protocol.ts';

const CONNECTIONS_MAX = 64;
const IDLE_LIMIT_MS = 60_000;
/** How long `close` waits for answers that are being made. */
const CLOSE_LIMIT_MS = 1_000;
/** How long a listener may take to accept before its socket counts as held all the same. */
const PROBE_LIMIT_MS = 1_000;

/** One method; what it returns is the result, and must be JSON. */
export type ControlMethod = (params: Readonly<Record<string, unknown>>) => unknown;

/** What to serve, and where. */
export interface ControlSocketOptions {
  readonly path: string;
  readonly methods: Readonly<Record<string, ControlMethod>>;
  readonly logger: Logger;
  readonly clock?: Clock;
}

/** A running control socket. */
export interface ControlSocket {
  readonly path: string;
  /** Ends in bounded time: answers that are being made get one second, idle connections none. */
  close: () => Promise<void>;
}

/**
 * Listens on the control socket.
 *
 * @throws ConflictError ALREADY_RUNNING when somebody answers on it; ConfigError when its directory is not ours.
 */
export async function startControlSocket(options: ControlSocketOptions): Promise<ControlSocket> {
  const { path } = options;
  await prepareDirectory(dirname(path));
  const server = new ControlServer(options);
  if (!(await server.listen())) {
    if (await isAnswered(path)) {
      throw socketHeld(path);
    }
    await removeIfThere(path);
    if (!(await server.listen())) {
      throw socketHeld(path);
    }
  }
  await chmod(path, 0o600);
  return {
    path,
    close: async () => {
      await server.close();
    },
  };
}

class ControlServer {
  readonly #options: ControlSocketOptions;
  readonly #server: Server;
  readonly #connections = new Set<ControlConnection>();
  #closing: Promise<void> | undefined;

  constructor(options: ControlSocketOptions) {
    this.#options = options;
    this.#server = createServer((socket) => {
      this.#accept(socket);
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** False when the path is taken. */
  async listen(): Promise<boolean> {
    const { path, logger } = this.#options;
    const server = this.#server;
    return await new Promise<boolean>((resolve, reject) => {
      const onError = (error: Error): void => {
        if (errorCode(error) === 'EADDRINUSE') {
          resolve(false);
        } else {
          reject(error);
        }
      };
      server.once('error', onError);
      server.listen(path, () => {
        server.off('error', onError);
        server.on('error', (error) => {
          logger.warn({ err: error }, 'the control socket failed');
        });
        resolve(true);
      });
    });
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      // Also removes the socket file.
      this.#server.close(() => {
        resolve();
      });
    });
    for (const connection of this.#connections) {
      connection.finish();
    }
    const clock = this.#options.clock ?? systemClock;
    const limit = clock.after(CLOSE_LIMIT_MS, () => {
      for (const connection of this.#connections) {
        connection.destroy();
      }
    });
    await closed;
    limit.cancel();
  }

  #accept(socket: Socket): void {
    const connection = new ControlConnection(socket, this.#options);
    this.#connections.add(connection);
    socket.once('close', () => {
      this.#connections.delete(connection);
    });
  }
}

class ControlConnection {
  readonly #socket: Socket;
  readonly #options: ControlSocketOptions;
  readonly #decoder = new LineDecoder();
  readonly #lines: string[] = [];
  #isBusy = false;
  #isFinishing = false;

  constructor(socket: Socket, options: ControlSocketOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on('error', (error) => {
      // The peer has gone: nobody is left to be told.
      options.logger.debug({ err: error }, 'a control connection failed');
    });
    socket.setTimeout(IDLE_LIMIT_MS, () => {
      if (!this.#isBusy) {
        socket.destroy();
      }
    });
    socket.on('data', (chunk: Buffer) => {
      this.#onData(chunk);
    });
  }

  /** Ends after the request at hand. */
  finish(): void {
    this.#isFinishing = true;
    if (!this.#isBusy) {
      this.#end();
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #onData(chunk: Buffer): void {
    try {
      this.#lines.push(...this.#decoder.push(chunk));
    } catch (error) {
      this.#send({ id: null, error: encodeControlError(error) });
      this.#end();
      return;
    }
    if (!this.#isBusy && this.#lines.length > 0) {
      this.#isBusy = true;
      // Paused while a request is served: what a peer sends meanwhile waits in its own buffer.
      this.#socket.pause();
      detach(this.#options.logger, 'control request', this.#serve());
    }
  }

  async #serve(): Promise<void> {
    for (let line = this.#lines.shift(); line !== undefined; line = this.#lines.shift()) {
      this.#send(await this.#answer(line));
      if (this.#isFinishing) {
        break;
      }
    }
    this.#isBusy = false;
    if (this.#isFinishing) {
      this.#end();
    } else {
      this.#socket.resume();
    }
  }

  async #answer(line: string): Promise<ControlResponse> {
    let id: number | string | null = null;
    try {
      const request = parseRequest(line);
      id = request.id;
      const method = Object.hasOwn(this.#options.methods, request.method)
        ? this.#options.methods[request.method]
        : undefined;
      if (method === undefined) {
        throw new UsageError(
          `the running agent does not know ${JSON.stringify(request.method)}; it may be of another version: restart it`,
        );
      }
      return { id, result: (await method(request.params)) ?? null };
    } catch (error) {
      this.#options.logger.debug({ err: error }, 'a control request failed');
      return { id, error: encodeControlError(error) };
    }
  }

  #send(response: ControlResponse): void {
    if (this.#socket.writable) {
      this.#socket.write(`${JSON.stringify(response)}\n`);
    }
  }

  #end(): void {
    this.#socket.end(() => {
      this.#socket.destroy();
    });
  }
}

function parseRequest(line: string): {
  id: number | string | null;
  method: string;
  params: Record<string, unknown>;
} {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch (error) {
    throw new UsageError('a request on the control socket is not JSON', { cause: error });
  }
  if (typeof request !== 'object' || request === null) {
    throw new UsageError('a request on the control socket must be an object');
  }
  const { id, method, params } = request as Record<'id' | 'method' | 'params', unknown>;
  const isParams = params === undefined || (typeof params === 'object' && params !== null);
  if (typeof method !== 'string' || !isParams || Array.isArray(params)) {
    throw new UsageError(
      'a request on the control socket needs a method and, if any, an object of params',
    );
  }
  return {
    id: typeof id === 'number' || typeof id === 'string' ? id : null,
    method,
    params: (params ?? {}) as Record<string, unknown>,
  };
}

/** Makes the socket's directory, and refuses one that others can enter or that is not ours. */
async function prepareDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const stats = await lstat(path);
  const uid = process.getuid?.();
  if (!stats.isDirectory() || stats.uid !== uid) {
    throw new ConfigError(
      `${path}, where the control socket belongs, is not a directory of user ${uid ?? 'unknown'} (it belongs to ${stats.uid}): remove it, or set XDG_RUNTIME_DIR to a directory of your own`,
    );
  }
  if ((stats.mode & 0o077) !== 0) {
    await chmod(path, 0o700);
  }
}

/** Whether somebody listens on the socket, even one that is too busy to answer. */
async function isAnswered(path: string): Promise<boolean> {
  return await new Promise<boolean>((resolve, reject) => {
    const socket = connect(path);
    const limit = systemClock.after(PROBE_LIMIT_MS, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('connect', () => {
      limit.cancel();
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => {
      limit.cancel();
      const code = errorCode(error);
      if (code === 'ECONNREFUSED' || code === 'ENOENT') {
        resolve(false);
      } else if (code === 'EAGAIN') {
        // Its queue of connections is full, so it is there.
        resolve(true);
      } else {
        reject(error);
      }
    });
  });
}

function socketHeld(path: string): ConflictError {
  return new ConflictError(
    'ALREADY_RUNNING',
    `another agent answers on ${path}; end it with: agent stop`,
    { details: { path } },
  );
}

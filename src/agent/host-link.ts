/**
 * The agent's end of the conversation with a worker host, whoever started that: a Unix socket that the host dials, a one-time token by
 * which it is known, frames in both directions.
 *
 * One host at a time: whoever else connects, or knows no token, is turned away. A host that sends what is no frame is dropped. Functions
 * may reach the socket too: before somebody has said who it is, connections, bytes and time are few (I6).
 */
import { chmod, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';

import { UnavailableError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { FrameDecoder, encodeFrame } from '../protocol/frames.ts';
import type { Frame } from '../protocol/frames.ts';
import { checkHostFrame } from '../protocol/host-frame-check.ts';
import { HOST_PROTOCOL_VERSION } from '../protocol/host-frames.ts';
import type {
  AgentToHostFrame,
  DegradedFrame,
  EnvironmentsFrame,
  FailedFrame,
  HelloFrame,
  HostConfig,
  HostToAgentFrame,
  ReadyFrame,
  ResultFrame,
  ReturnedFrame,
} from '../protocol/host-frames.ts';

/** Connections at the same time, the host's among them. */
const CONNECTIONS_MAX = 8;
/** What may come before a hello is over, and how long that may take. */
const HELLO_BYTES_MAX = 16 * 1024;
const HELLO_LIMIT_MS = 30_000;

/** What the dispatcher is told. Frame bodies are views: copy what is kept. */
export interface WorkerHostEvents {
  readonly onReady: (frame: ReadyFrame) => void;
  readonly onResult: (frame: ResultFrame, body: Buffer) => void;
  readonly onFailed: (frame: FailedFrame) => void;
  readonly onReturned: (frame: ReturnedFrame) => void;
  readonly onDegraded: (frame: DegradedFrame) => void;
  readonly onEnvironments?: (frame: EnvironmentsFrame) => void;
  /** The process is gone, and with it every task that it held. */
  readonly onLost: (reason: string) => void;
  /** No host can be started; taken back by onReady. */
  readonly onBroken: (reason: string) => void;
}

/** A worker host as the agent sees it, whoever starts it. */
export interface SupervisedHost {
  /** Process id of the running host, for `status`. */
  readonly pid: number | undefined;
  /** Whether tasks can be sent: the host has said that it is ready. */
  readonly connected: boolean;
  /** Frames that came from hosts, for the watchdog. */
  readonly frameCount: number;
  /** Starts listening. @throws UnavailableError START_FAILED. */
  start: () => Promise<void>;
  /** Sends a frame; false when there is no host to send it to. */
  send: (frame: AgentToHostFrame, body?: Uint8Array) => boolean;
  /** Asks for a sign of life, which counts as a frame; false when nobody is there to be asked. */
  ping: () => boolean;
  /** Gets rid of a host that does not do its work; another one takes its place. */
  replace: (reason: string) => void;
  /** Asks the host to end its tasks and itself. Bounded. */
  stop: () => Promise<void>;
}

/** Settings of a {@link HostLink}. */
export interface HostLinkOptions {
  readonly config: HostConfig;
  /** Path of the socket to listen on. */
  readonly socketPath: string;
  /** Mode of the socket, where its directory lets others in. */
  readonly socketMode?: number;
  readonly logger: Logger;
  readonly events: WorkerHostEvents;
  /** Whether this is the token of the host that is expected; asked once for each host. */
  readonly isExpected: (token: string) => boolean;
  /** A host is there, and has been welcomed. */
  readonly onWelcomed: (hello: HelloFrame) => void;
  /** It has said for the first time what it can take. */
  readonly onFirstReady: () => void;
  /** Its connection has ended. */
  readonly onDisconnected: () => void;
}

/** The conversation with one host after the other. */
export class HostLink {
  readonly #options: HostLinkOptions;
  #server: Server | undefined;
  #socket: Socket | undefined;
  /** Every open connection, also those that have not said who they are. */
  readonly #sockets = new Set<Socket>();
  #isReady = false;
  /** The host was told that nothing more comes, and has not gone yet. */
  #isHangingUp = false;
  #frameCount = 0;
  /** Frames of this loop turn, written together. */
  #outgoing: Uint8Array[] = [];

  constructor(options: HostLinkOptions) {
    this.#options = options;
  }

  /** Whether a host is there and has said that it is ready. */
  get isReady(): boolean {
    return this.#socket !== undefined && this.#isReady && !this.#isHangingUp;
  }

  /** Whether a host is there. */
  get isConnected(): boolean {
    return this.#socket !== undefined;
  }

  /** Frames that came from hosts. */
  get frameCount(): number {
    return this.#frameCount;
  }

  /** Begins to listen. @throws UnavailableError START_FAILED. */
  async listen(): Promise<void> {
    const { socketPath, socketMode } = this.#options;
    await rm(socketPath, { force: true });
    const server = createServer((socket) => {
      this.#accept(socket);
    });
    this.#server = server;
    server.maxConnections = CONNECTIONS_MAX;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        const message = `cannot listen on ${socketPath}: ${error.message}`;
        reject(new UnavailableError('START_FAILED', message, { cause: error }));
      });
      server.listen(socketPath, resolve);
    });
    // A connection that cannot be accepted (no descriptor is free) must not end the agent.
    server.on('error', (error) => {
      this.#options.logger.warn({ err: error }, 'the worker host socket failed');
    });
    if (socketMode !== undefined) {
      await chmod(socketPath, socketMode);
    }
  }

  /** Sends a frame; false when there is no host to send it to. */
  send(frame: AgentToHostFrame, body?: Uint8Array): boolean {
    if (this.#socket === undefined || this.#isHangingUp) {
      return false;
    }
    if (this.#outgoing.length === 0) {
      // One write for all frames of this turn: a burst of small tasks costs one system call.
      setImmediate(() => {
        this.flush();
      });
    }
    const [head, tail] = encodeFrame(frame, body);
    this.#outgoing.push(head);
    if (tail.length > 0) {
      this.#outgoing.push(tail);
    }
    return true;
  }

  /** Writes what was sent in this turn now. */
  flush(): void {
    const outgoing = this.#outgoing;
    this.#outgoing = [];
    const socket = this.#socket;
    if (socket === undefined) {
      return;
    }
    socket.cork();
    for (const bytes of outgoing) {
      socket.write(bytes);
    }
    socket.uncork();
  }

  /** Tells the host that nothing more comes, upon which it ends; `onDisconnected` follows when it has gone. */
  hangUp(): void {
    this.flush();
    this.#isHangingUp = this.#socket !== undefined;
    this.#socket?.end();
  }

  /** Ends the connection to the host that is there, without `onDisconnected`. */
  disconnect(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#isReady = false;
    this.#isHangingUp = false;
    this.#outgoing = [];
    socket?.destroy();
  }

  /** Ends every connection and listens no longer. */
  async close(): Promise<void> {
    this.disconnect();
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    const server = this.#server;
    if (server !== undefined) {
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    }
    await rm(this.#options.socketPath, { force: true });
  }

  #accept(socket: Socket): void {
    const { logger } = this.#options;
    const decoder = new FrameDecoder();
    let authenticated = false;
    let strangerBytes = 0;
    this.#sockets.add(socket);
    socket.setTimeout(HELLO_LIMIT_MS, () => {
      socket.destroy();
    });
    socket.on('error', (error) => {
      logger.debug({ err: error }, 'worker host connection failed');
    });
    socket.on('data', (chunk) => {
      strangerBytes += authenticated ? 0 : chunk.length;
      if (strangerBytes > HELLO_BYTES_MAX) {
        logger.warn({}, 'refused a connection to the worker host socket that says no hello');
        socket.destroy();
        return;
      }
      try {
        for (const { header, body } of decoder.push(chunk)) {
          const frame = { header: checkHostFrame(header), body };
          if (authenticated) {
            this.#onFrame(frame);
          } else {
            authenticated = this.#authenticate(socket, frame);
          }
        }
      } catch (error) {
        logger.error({ err: error }, 'worker host sent what is no frame, replacing it');
        socket.destroy();
      }
    });
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (this.#socket === socket) {
        this.disconnect();
        this.#options.onDisconnected();
      }
    });
  }

  #authenticate(socket: Socket, { header }: Frame<HostToAgentFrame>): boolean {
    const { logger, config, isExpected, onWelcomed } = this.#options;
    if (header.type !== 'hello' || this.#socket !== undefined || !isExpected(header.token)) {
      logger.warn({ type: header.type }, 'refused a connection to the worker host socket');
      socket.destroy();
      return false;
    }
    if (header.version !== HOST_PROTOCOL_VERSION) {
      logger.error(
        { expected: HOST_PROTOCOL_VERSION, got: header.version },
        'worker host is of another version: the installation is broken, install outpost again',
      );
      socket.destroy();
      return false;
    }
    this.#socket = socket;
    this.#isReady = false;
    socket.setTimeout(0);
    onWelcomed(header);
    this.send({ type: 'welcome', config });
    return true;
  }

  #onFrame({ header, body }: Frame<HostToAgentFrame>): void {
    const { events, logger } = this.#options;
    this.#frameCount += 1;
    switch (header.type) {
      case 'ready':
        if (!this.#isReady) {
          this.#isReady = true;
          this.#options.onFirstReady();
        }
        events.onReady(header);
        break;
      case 'result':
        events.onResult(header, body);
        break;
      case 'failed':
        events.onFailed(header);
        break;
      case 'returned':
        events.onReturned(header);
        break;
      case 'degraded':
        events.onDegraded(header);
        break;
      case 'environments':
        events.onEnvironments?.(header);
        break;
      case 'pong':
        // That it came is all there is to it.
        break;
      case 'hello':
        logger.warn({}, 'worker host said hello twice');
        break;
    }
  }
}

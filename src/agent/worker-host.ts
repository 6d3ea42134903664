/**
 * The agent's side of the worker host: one child process in a group of its own, replaced whenever it ends.
 *
 * The host dials a private Unix socket with a one-time token that it reads from its stdin, so a stranger cannot take its
 * place and the token stands in no argument and no environment. The agent and its host see each other's death as the end of
 * the socket, and what a host leaves behind is found by a cookie (I7). Hosts that die again and again, before they are ready or soon
 * after, trip a breaker: tasks are then failed with what the last one said, not kept waiting. The next host that is ready closes it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { fileURLToPath } from 'node:url';

import { backoffDelayMs } from '../base/backoff.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import { FrameDecoder, encodeFrame } from '../protocol/frames.ts';
import type { Frame } from '../protocol/frames.ts';
import { checkHostFrame } from '../protocol/host-frame-check.ts';
import { HOST_PROTOCOL_VERSION } from '../protocol/host-frames.ts';
import type {
  AgentToHostFrame,
  DegradedFrame,
  FailedFrame,
  HostConfig,
  HostToAgentFrame,
  ReadyFrame,
  ResultFrame,
  ReturnedFrame,
} from '../protocol/host-frames.ts';
import { COOKIE_VARIABLE, sweepLeftovers } from './leftovers.ts';

/** Compiled entry of the host: it lies beside the compiled agent in every build. */
const HOST_SCRIPT = fileURLToPath(new URL('../workers/host-main.js', import.meta.url));
const HELLO_TIMEOUT_MS = 10_000;
const RESPAWN = { baseMs: 50, maxMs: 10_000 };
/** Deaths in a row before being ready after which tasks are no longer kept waiting. */
const UNREADY_DEATHS_MAX = 3;
/** Deaths in a row before STABLE_MS, ready or not, after which tasks are no longer kept waiting. */
const EARLY_DEATHS_MAX = 5;
/** How long a host must have been ready to count as good. */
const STABLE_MS = 10_000;
const STDERR_TAIL_BYTES = 4096;

/** What the dispatcher is told. Frame bodies are views: copy what is kept. */
export interface WorkerHostEvents {
  readonly onReady: (frame: ReadyFrame) => void;
  readonly onResult: (frame: ResultFrame, body: Buffer) => void;
  readonly onFailed: (frame: FailedFrame) => void;
  readonly onReturned: (frame: ReturnedFrame) => void;
  readonly onDegraded: (frame: DegradedFrame) => void;
  /** The process is gone, and with it every task that it held. */
  readonly onLost: (reason: string) => void;
  /** No host can be started; taken back by onReady. */
  readonly onBroken: (reason: string) => void;
}

/** Settings of the supervision. */
export interface WorkerHostOptions {
  readonly config: HostConfig;
  /** Path of the socket to listen on. */
  readonly socketPath: string;
  /** Environment of the host: no secrets. */
  readonly environment: Readonly<Record<string, string>>;
  /** Tells the host and everything that comes of it from other processes. */
  readonly cookie: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Supervises the worker host. */
export class WorkerHost {
  readonly #options: WorkerHostOptions;
  readonly #events: WorkerHostEvents;
  #server: Server | undefined;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #socket: Socket | undefined;
  /** Every open connection, also those that have not said who they are. */
  readonly #sockets = new Set<Socket>();
  #token = '';
  #helloTimer: Timer | undefined;
  #respawnTimer: Timer | undefined;
  #readyAtMs: number | undefined;
  #unreadyDeaths = 0;
  #earlyDeaths = 0;
  #frameCount = 0;
  /** Why we killed it, if we did. */
  #killReason: string | undefined;
  #stopping = false;
  #stderrTail = '';
  /** Frames of this loop turn, written together. */
  #outgoing: Uint8Array[] = [];

  constructor(options: WorkerHostOptions, events: WorkerHostEvents) {
    this.#options = options;
    this.#events = events;
  }

  /** Process id of the running host, for `status`. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Whether tasks can be sent: the host has said that it is ready. */
  get connected(): boolean {
    return this.#socket !== undefined && this.#readyAtMs !== undefined;
  }

  /** Frames that came from hosts, for the watchdog. */
  get frameCount(): number {
    return this.#frameCount;
  }

  /** Starts listening and launches the host; readiness is told by `onReady`. @throws UnavailableError START_FAILED. */
  async start(): Promise<void> {
    await rm(this.#options.socketPath, { force: true });
    const server = createServer((socket) => {
      this.#accept(socket);
    });
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(
          new UnavailableError(
            'START_FAILED',
            `cannot listen on ${this.#options.socketPath}: ${error.message}`,
            {
              cause: error,
            },
          ),
        );
      });
      server.listen(this.#options.socketPath, resolve);
    });
    this.#launch();
  }

  /** Sends a frame; false when there is no host to send it to. */
  send(frame: AgentToHostFrame, body?: Uint8Array): boolean {
    if (this.#socket === undefined) {
      return false;
    }
    if (this.#outgoing.length === 0) {
      // One write for all frames of this turn: a burst of small tasks costs one system call.
      setImmediate(() => {
        this.#flush();
      });
    }
    const [head, tail] = encodeFrame(frame, body);
    this.#outgoing.push(head);
    if (tail.length > 0) {
      this.#outgoing.push(tail);
    }
    return true;
  }

  /** Asks for a sign of life, which counts as a frame; false when nobody is there to be asked. */
  ping(): boolean {
    return this.send({ type: 'ping' });
  }

  /** Kills a host that does not do its work; another one takes its place. */
  replace(reason: string): void {
    this.#killReason = reason;
    this.#signalGroup('SIGKILL');
  }

  /** Asks the host to end its tasks and itself; kills its group after the grace period. Nothing of it is alive afterwards. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#respawnTimer?.cancel();
    this.#helloTimer?.cancel();
    const { clock, config } = this.#options;
    if (this.#child !== undefined) {
      if (this.send({ type: 'stop' })) {
        this.#flush();
      } else {
        this.#signalGroup('SIGTERM');
      }
      const limitMs = config.killGraceMs + 1_000;
      await withDeadline(
        clock,
        limitMs,
        this.#exited,
        () => new UnavailableError('TIMED_OUT', 'worker host'),
      ).catch(async (error: unknown) => {
        this.#options.logger.warn(
          { limitMs, reason: errorText(error) },
          'worker host did not end, killing it',
        );
        this.#signalGroup('SIGKILL');
        await this.#exited;
      });
    }
    await this.#endLeftovers();
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

  #launch(): void {
    const { logger, environment, socketPath } = this.#options;
    this.#token = randomBytes(24).toString('base64url');
    this.#readyAtMs = undefined;
    this.#killReason = undefined;
    this.#stderrTail = '';
    const child = spawn(process.execPath, [HOST_SCRIPT, socketPath], {
      detached: true,
      env: { ...environment, [COOKIE_VARIABLE]: this.#options.cookie },
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once('error', (error) => {
        // Without a pid no exit event will follow.
        if (child.pid === undefined) {
          this.#onExit(`it could not be started: ${error.message}`);
          resolve();
        }
      });
      child.once('exit', (code, signal) => {
        this.#onExit(
          signal === null ? `it exited with code ${code ?? -1}` : `it was killed by ${signal}`,
        );
        resolve();
      });
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderrTail = (this.#stderrTail + text).slice(-STDERR_TAIL_BYTES);
    });
    // A host that dies at once closes its stdin; its exit tells the story.
    child.stdin.on('error', (error) => {
      logger.debug({ err: error }, 'worker host closed its stdin');
    });
    child.stdin.end(`${this.#token}\n`);
    this.#helloTimer = this.#options.clock.after(HELLO_TIMEOUT_MS, () => {
      logger.error(
        { pid: child.pid, limitMs: HELLO_TIMEOUT_MS },
        'worker host did not report, killing it',
      );
      this.#signalGroup('SIGKILL');
    });
  }

  #accept(socket: Socket): void {
    const decoder = new FrameDecoder();
    let authenticated = false;
    this.#sockets.add(socket);
    socket.on('error', (error) => {
      this.#options.logger.debug({ err: error }, 'worker host connection failed');
    });
    socket.on('data', (chunk) => {
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
        this.#options.logger.error(
          { err: error },
          'worker host sent what is no frame, replacing it',
        );
        socket.destroy();
        if (authenticated) {
          this.#signalGroup('SIGKILL');
        }
      }
    });
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (this.#socket === socket) {
        this.#socket = undefined;
        // A host without its agent's socket must end; it does so by itself, unless it hangs.
        this.#signalGroup('SIGKILL');
      }
    });
  }

  #authenticate(socket: Socket, { header }: Frame<HostToAgentFrame>): boolean {
    if (header.type !== 'hello' || header.token !== this.#token || this.#socket !== undefined) {
      this.#options.logger.warn(
        { type: header.type },
        'refused a connection to the worker host socket',
      );
      socket.destroy();
      return false;
    }
    if (header.version !== HOST_PROTOCOL_VERSION) {
      this.#options.logger.error(
        { expected: HOST_PROTOCOL_VERSION, got: header.version },
        'worker host is of another version: the installation is broken, install outpost again',
      );
      socket.destroy();
      return false;
    }
    this.#token = '';
    this.#socket = socket;
    this.#helloTimer?.cancel();
    this.send({ type: 'welcome', config: this.#options.config });
    return true;
  }

  #onFrame({ header, body }: Frame<HostToAgentFrame>): void {
    this.#frameCount += 1;
    switch (header.type) {
      case 'ready':
        this.#readyAtMs ??= this.#options.clock.monotonicMs();
        this.#events.onReady(header);
        break;
      case 'result':
        this.#events.onResult(header, body);
        break;
      case 'failed':
        this.#events.onFailed(header);
        break;
      case 'returned':
        this.#events.onReturned(header);
        break;
      case 'degraded':
        this.#events.onDegraded(header);
        break;
      case 'pong':
        // That it came is all there is to it.
        break;
      case 'hello':
        this.#options.logger.warn({}, 'worker host said hello twice');
        break;
    }
  }

  #flush(): void {
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

  #onExit(how: string): void {
    this.#helloTimer?.cancel();
    this.#child = undefined;
    this.#outgoing = [];
    this.#socket?.destroy();
    this.#socket = undefined;
    const tail = this.#stderrTail.trim();
    const why = this.#killReason ?? how;
    const reason = tail === '' ? why : `${why}; it said: ${tail}`;
    if (this.#stopping) {
      return;
    }
    this.#options.logger.error({ reason }, 'worker host ended');
    this.#events.onLost(reason);
    if (this.#countDeath()) {
      this.#events.onBroken(reason);
    }
    // The first of a series is replaced at once.
    const delayMs = backoffDelayMs(Math.max(0, this.#earlyDeaths - 1), RESPAWN);
    this.#respawnTimer = this.#options.clock.after(delayMs, () => {
      detach(this.#options.logger, 'replacing the worker host', this.#relaunch());
    });
  }

  /** Returns whether it is to be said that hosts do not work here. */
  #countDeath(): boolean {
    const readyAtMs = this.#readyAtMs;
    const wasGood =
      readyAtMs !== undefined && this.#options.clock.monotonicMs() - readyAtMs >= STABLE_MS;
    this.#unreadyDeaths = readyAtMs === undefined ? this.#unreadyDeaths + 1 : 0;
    this.#earlyDeaths = wasGood ? 0 : this.#earlyDeaths + 1;
    return this.#unreadyDeaths >= UNREADY_DEATHS_MAX || this.#earlyDeaths >= EARLY_DEATHS_MAX;
  }

  async #relaunch(): Promise<void> {
    await this.#endLeftovers();
    if (!this.#stopping) {
      this.#launch();
    }
  }

  async #endLeftovers(): Promise<void> {
    const { cookie, clock, logger } = this.#options;
    await sweepLeftovers(cookie, clock, logger);
  }

  #signalGroup(signal: NodeJS.Signals): void {
    const pid = this.#child?.pid;
    if (pid === undefined) {
      return;
    }
    try {
      process.kill(-pid, signal);
    } catch (error) {
      this.#options.logger.debug({ err: error, signal }, 'worker host group is gone already');
    }
  }
}

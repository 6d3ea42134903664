/**
 * The agent's side of the worker host: one child process in a group of its own, replaced whenever it ends.
 *
 * The host dials a private Unix socket with a one-time token that it reads from its stdin, so a stranger cannot take its
 * place and the token stands in no argument and no environment. The agent and its host see each other's death as the end of
 * the socket, and what a host leaves behind is found by a cookie (I7). Hosts that die again and again, before they are ready or soon
 * after, trip a breaker: tasks are then failed with what the last one said, not kept waiting. The next host that is ready closes it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess, ChildProcessByStdio } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { Readable, Writable } from 'node:stream';

import { backoffDelayMs } from '../base/backoff.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import { programFile } from '../base/package-root.ts';
import type { AgentToHostFrame, HostConfig } from '../protocol/host-frames.ts';
import { EarlyDeaths } from './early-deaths.ts';
import { HostLink } from './host-link.ts';
import type { SupervisedHost, WorkerHostEvents } from './host-link.ts';
import { COOKIE_VARIABLE, sweepLeftovers } from './leftovers.ts';

const HELLO_TIMEOUT_MS = 10_000;
const RESPAWN = { baseMs: 50, maxMs: 10_000 };
const STDERR_TAIL_BYTES = 4096;

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
export class WorkerHost implements SupervisedHost {
  readonly #options: WorkerHostOptions;
  readonly #events: WorkerHostEvents;
  readonly #link: HostLink;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #token = '';
  #helloTimer: Timer | undefined;
  #respawnTimer: Timer | undefined;
  readonly #deaths: EarlyDeaths;
  /** Why we killed it, if we did. */
  #killReason: string | undefined;
  #stopping = false;
  #stderrTail = '';

  constructor(options: WorkerHostOptions, events: WorkerHostEvents) {
    this.#options = options;
    this.#events = events;
    const { config, socketPath, logger, clock } = options;
    this.#deaths = new EarlyDeaths(clock);
    this.#link = new HostLink({
      config,
      socketPath,
      logger,
      events,
      isExpected: (token) => this.#token !== '' && token === this.#token,
      onWelcomed: () => {
        this.#token = '';
        this.#helloTimer?.cancel();
      },
      onFirstReady: () => {
        this.#deaths.onReady();
      },
      // A host without its agent's socket must end; it does so by itself, unless it hangs.
      onDisconnected: () => {
        this.#signalGroup('SIGKILL');
      },
    });
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get connected(): boolean {
    return this.#link.isReady;
  }

  get frameCount(): number {
    return this.#link.frameCount;
  }

  async start(): Promise<void> {
    await this.#link.listen();
    this.#launch();
  }

  send(frame: AgentToHostFrame, body?: Uint8Array): boolean {
    return this.#link.send(frame, body);
  }

  ping(): boolean {
    return this.send({ type: 'ping' });
  }

  replace(reason: string): void {
    this.#killReason = reason;
    this.#signalGroup('SIGKILL');
  }

  /** Kills its group after the grace period. Nothing of it is alive afterwards. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#respawnTimer?.cancel();
    this.#helloTimer?.cancel();
    const { clock, config } = this.#options;
    if (this.#child !== undefined) {
      if (this.send({ type: 'stop' })) {
        this.#link.flush();
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
    await this.#link.close();
  }

  #launch(): void {
    const { logger, environment, socketPath } = this.#options;
    this.#token = randomBytes(24).toString('base64url');
    this.#deaths.onBegun();
    this.#killReason = undefined;
    this.#stderrTail = '';
    let child: ChildProcessByStdio<Writable, null, Readable>;
    try {
      child = spawn(process.execPath, [programFile('workers/host-main.js'), socketPath], {
        detached: true,
        env: { ...environment, [COOKIE_VARIABLE]: this.#options.cookie },
        stdio: ['pipe', 'ignore', 'pipe'],
      });
    } catch (error) {
      // Some of what the system refuses (no memory) comes like this, and not as an event; the next attempt may do better.
      this.#onExit(`it could not be started: ${errorText(error)}`);
      return;
    }
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

  #onExit(how: string): void {
    this.#helloTimer?.cancel();
    this.#child = undefined;
    this.#link.disconnect();
    const tail = this.#stderrTail.trim();
    const why = this.#killReason ?? how;
    const reason = tail === '' ? why : `${why}; it said: ${tail}`;
    if (this.#stopping) {
      return;
    }
    this.#options.logger.error({ reason }, 'worker host ended');
    this.#events.onLost(reason);
    if (this.#deaths.onDeath()) {
      this.#events.onBroken(reason);
    }
    // The first of a series is replaced at once.
    const delayMs = backoffDelayMs(Math.max(0, this.#deaths.count - 1), RESPAWN);
    this.#respawnTimer = this.#options.clock.after(delayMs, () => {
      detach(this.#options.logger, 'replacing the worker host', this.#relaunch());
    });
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

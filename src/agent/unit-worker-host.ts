/**
 * The agent's side of a worker host that it does not start: a systemd unit under another user does (`agent worker NAME`).
 *
 *   /run/outpost-worker             outpost:outpost-worker 2750 (tmpfiles.d): who is in the group gets in, only the agent writes
 *   ├── NAME.sock       0660        the agent listens here
 *   ├── NAME.token      0640        what the next host says in its hello; another one as soon as it was used
 *   └── NAME.running    0660        the table of running tasks, which the host marks
 *
 * The agent waits for a host and never starts or kills one: to be rid of it, it hangs up, upon which the host ends itself and all it runs,
 * and its unit starts another. A host that hangs is ended by the watchdog of its unit; until it has gone, what it was sent might still begin
 * there, so nothing of that is started elsewhere before (I5), for as long as can be waited. When no host has been there
 * for long, that is told, and tasks wait: a unit may be stopped for an hour, and says nothing against them. Hosts that come and die
 * again and again trip the breaker (early-deaths.ts).
 */
import { randomBytes } from 'node:crypto';
import { chmod, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { Clock, Timer } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { ConfigError, UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import type { AgentToHostFrame, HostConfig } from '../protocol/host-frames.ts';
import { EarlyDeaths } from './early-deaths.ts';
import { HostLink } from './host-link.ts';
import type { SupervisedHost, WorkerHostEvents } from './host-link.ts';

/** When it is told that no host is there. Its unit starts it again within seconds. */
const ABSENT_LIMIT_MS = 60_000;

/** How long a host that was hung up on may take to be gone: longer than the watchdog of its unit (WatchdogSec) takes to end it. */
const GONE_LIMIT_MS = 90_000;

/** Beyond this the system cuts the path of a socket silently. */
const SOCKET_PATH_BYTES_MAX = 107;

const OTHERS_WRITE = 0o022;

/** Where agent and worker host of an endpoint meet. */
export interface UnitHostPaths {
  readonly socket: string;
  readonly token: string;
  readonly runningTable: string;
}

/** Settings of the waiting. */
export interface UnitWorkerHostOptions {
  /** Name of the endpoint, for messages. */
  readonly name: string;
  readonly config: HostConfig;
  readonly paths: UnitHostPaths;
  readonly clock: Clock;
  readonly logger: Logger;
  /** No host has come for long; undefined: one is there again. */
  readonly onAbsence: (reason: string | undefined) => void;
  readonly absentLimitMs?: number;
  readonly goneLimitMs?: number;
}

/** Where agent and worker host of an endpoint meet, in the directory for that. @throws ConfigError when the name is too long. */
export function unitHostPaths(directory: string, name: string): UnitHostPaths {
  const socket = join(directory, `${name}.sock`);
  if (Buffer.byteLength(socket) > SOCKET_PATH_BYTES_MAX) {
    throw new ConfigError(
      `The endpoint cannot have a worker host of its own (worker_host: unit): ${socket} is longer than ${SOCKET_PATH_BYTES_MAX} bytes, the limit for sockets. Give the endpoint a shorter name.`,
    );
  }
  return {
    socket,
    token: join(directory, `${name}.token`),
    runningTable: join(directory, `${name}.running`),
  };
}

/** Checks that the meeting place is there. @throws ConfigError with what makes it. */
export async function checkMeetingPlace({ socket }: UnitHostPaths): Promise<void> {
  const directory = dirname(socket);
  const problem = await stat(directory).then(
    (found) => {
      if (!found.isDirectory()) {
        return 'it is no directory';
      }
      // Who writes there could put a socket, a token or a table of his own in the place of ours.
      return (found.mode & OTHERS_WRITE) === 0
        ? undefined
        : 'others than its owner can write to it; run: chmod go-w on it';
    },
    (error: unknown) => errorText(error),
  );
  if (problem !== undefined) {
    throw new ConfigError(
      `worker_host is "unit", and ${directory}, where agent and worker host meet, cannot be used: ${problem}. ` +
        'The administrator makes it with: systemd-tmpfiles --create outpost.conf (see docs/systemd.md)',
    );
  }
}

/** Waits for worker hosts that somebody else starts. */
export class UnitWorkerHost implements SupervisedHost {
  readonly #options: UnitWorkerHostOptions;
  readonly #events: WorkerHostEvents;
  readonly #link: HostLink;
  readonly #deaths: EarlyDeaths;
  #token = '';
  #pid: number | undefined;
  #absentTimer: Timer | undefined;
  #goneTimer: Timer | undefined;
  #dropReason: string | undefined;
  #onGone: () => void = () => undefined;
  #isStopping = false;

  constructor(options: UnitWorkerHostOptions, events: WorkerHostEvents) {
    this.#options = options;
    this.#events = events;
    const { config, paths, clock, logger } = options;
    this.#deaths = new EarlyDeaths(clock);
    this.#link = new HostLink({
      config,
      socketPath: paths.socket,
      socketMode: 0o660,
      logger,
      events,
      isExpected: (token) => this.#token !== '' && token === this.#token,
      onWelcomed: ({ pid }) => {
        this.#pid = pid;
        this.#deaths.onBegun();
        this.#absentTimer?.cancel();
        options.onAbsence(undefined);
        logger.info({ pid }, 'worker host of another unit is here');
        detach(logger, 'writing the next token', this.#renewToken());
      },
      onFirstReady: () => {
        this.#deaths.onReady();
      },
      onDisconnected: () => {
        this.#onDisconnected();
      },
    });
  }

  get pid(): number | undefined {
    return this.#pid;
  }

  get connected(): boolean {
    return this.#link.isReady;
  }

  get frameCount(): number {
    return this.#link.frameCount;
  }

  async start(): Promise<void> {
    await checkMeetingPlace(this.#options.paths);
    await this.#link.listen();
    await this.#renewToken();
    this.#awaitHost();
  }

  send(frame: AgentToHostFrame, body?: Uint8Array): boolean {
    return this.#link.send(frame, body);
  }

  ping(): boolean {
    return this.send({ type: 'ping' });
  }

  replace(reason: string): void {
    if (!this.#link.isConnected || this.#dropReason !== undefined) {
      return;
    }
    this.#dropReason = reason;
    this.#link.hangUp();
    const { clock, goneLimitMs = GONE_LIMIT_MS } = this.#options;
    this.#goneTimer = clock.after(
      goneLimitMs,
      () => {
        this.#link.disconnect();
        this.#onDisconnected();
      },
      { background: true },
    );
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#absentTimer?.cancel();
    this.#goneTimer?.cancel();
    const { clock, config, logger, paths } = this.#options;
    const gone = new Promise<void>((resolve) => {
      this.#onGone = resolve;
    });
    if (this.send({ type: 'stop' })) {
      this.#link.flush();
      const limitMs = config.killGraceMs + 1_000;
      const late = (): UnavailableError => new UnavailableError('TIMED_OUT', 'worker host');
      await withDeadline(clock, limitMs, gone, late).catch((error: unknown) => {
        // Its unit is stopped with the agent's, and kills whatever is left.
        const reason = errorText(error);
        logger.warn({ limitMs, reason }, 'worker host did not end, leaving it to its unit');
      });
    }
    await this.#link.close();
    await rm(paths.token, { force: true });
  }

  #awaitHost(): void {
    const { clock, logger, name, onAbsence, absentLimitMs = ABSENT_LIMIT_MS } = this.#options;
    this.#absentTimer = clock.after(
      absentLimitMs,
      () => {
        const reason = `tasks wait: no worker host has come for ${Math.round(absentLimitMs / 1000)} s, and worker_host is "unit"; see systemctl status agent-worker@${name}, start it with systemctl start agent-worker@${name}`;
        logger.error({}, reason);
        onAbsence(reason);
      },
      { background: true },
    );
  }

  #onDisconnected(): void {
    this.#goneTimer?.cancel();
    this.#pid = undefined;
    this.#onGone();
    if (this.#isStopping) {
      return;
    }
    const reason = this.#dropReason ?? 'it closed its connection';
    this.#dropReason = undefined;
    const { logger, name } = this.#options;
    logger.error({ reason, unit: `agent-worker@${name}` }, 'worker host ended');
    this.#events.onLost(reason);
    if (this.#deaths.onDeath()) {
      this.#events.onBroken(
        `${reason}; what it said: journalctl -u agent-worker@${name}, how often it was started: systemctl status agent-worker@${name}`,
      );
    }
    this.#awaitHost();
  }

  /** The one before was used, or is of an earlier agent. Whoever reads it must find it whole. */
  async #renewToken(): Promise<void> {
    const { token: path } = this.#options.paths;
    const token = randomBytes(24).toString('base64url');
    const draft = `${path}.new`;
    await rm(draft, { force: true });
    // The directory hands its group on; the umask may have taken the group's right to read.
    await writeFile(draft, `${token}\n`, { mode: 0o640, flag: 'wx' });
    await chmod(draft, 0o640);
    await rename(draft, path);
    this.#token = token;
  }
}

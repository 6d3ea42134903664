/**
 * One server as a child of ours.
 *
 * It runs in a session of its own (Ctrl-C at our terminal is ours to handle), under another user when we are root,
 * with an environment made from nothing, and the kernel signals it when we die, however we die: `setpriv` sets the
 * parent-death signal and then becomes the server by exec, so the pid that we hold is the server's own.
 */
import type { ChildProcessByStdio } from 'node:child_process';
import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';

import type { Clock } from '../../base/clock.ts';
import { withDeadline } from '../../base/deadline.ts';
import { errorText, UnavailableError } from '../../base/errors.ts';
import type { BoundedLog } from './bounded-log.ts';
import { findSetpriv, SERVER_PATH } from './installed-servers.ts';
import type { ServerUser } from './installed-servers.ts';
import { processIdentity } from './process-identity.ts';
import type { ProcessIdentity } from './process-identity.ts';

/** How to start one server. */
export interface ServerCommand {
  /** Name for messages, for instance "RabbitMQ". */
  readonly title: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly directory: string;
  readonly user: ServerUser | undefined;
  /** What the kernel sends to the server when we die. */
  readonly parentDeathSignal: 'KILL' | 'INT';
  readonly log: BoundedLog;
}

/** A signal and how long to wait for the end before the next rung. */
export interface StopRung {
  readonly signal: NodeJS.Signals;
  readonly waitMs: number;
}

/** Output that stays open after the end (a helper that inherited it) is not waited for longer. */
const OUTPUT_GRACE_MS = 500;
/** For SIGKILL: to leave takes a large process a while on a busy machine, and there is nothing further to try. */
export const KILL_LIMIT_MS = 30_000;

/** The command and the arguments that run `command` tied to our life and as `user`. */
function tied(command: Pick<ServerCommand, 'command' | 'args' | 'user' | 'parentDeathSignal'>): {
  file: string;
  args: string[];
} {
  const drop =
    command.user === undefined
      ? []
      : [`--reuid=${command.user.uid}`, `--regid=${command.user.gid}`, '--clear-groups'];
  return {
    file: findSetpriv(),
    args: [
      ...drop,
      `--pdeathsig=${command.parentDeathSignal}`,
      '--',
      command.command,
      ...command.args,
    ],
  };
}

/** A running server. */
export class ServerProcess {
  readonly title: string;
  readonly identity: ProcessIdentity;
  /** Resolves (never rejects) with a sentence that says how it ended. */
  readonly exited: Promise<string>;
  readonly log: BoundedLog;
  readonly #clock: Clock;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #outputClosed: Promise<void>;
  readonly #watchers = new Set<(text: string) => void>();
  #ended: string | undefined;

  private constructor(
    command: ServerCommand,
    clock: Clock,
    child: ChildProcessByStdio<null, Readable, Readable>,
    identity: ProcessIdentity,
  ) {
    this.title = command.title;
    this.log = command.log;
    this.identity = identity;
    this.#clock = clock;
    this.#child = child;
    const take = (chunk: Buffer): void => {
      this.log.write(chunk);
      for (const watcher of this.#watchers) {
        watcher(chunk.toString('utf8'));
      }
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    this.#outputClosed = new Promise((resolve) => {
      child.once('close', () => {
        resolve();
      });
    });
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#ended =
          signal === null ? `exited with code ${code ?? 'unknown'}` : `was ended by ${signal}`;
        resolve(this.#ended);
      });
    });
  }

  /** Spawns the server; it is not ready yet. @throws UnavailableError START_FAILED. */
  static async spawn(command: ServerCommand, clock: Clock): Promise<ServerProcess> {
    const { file, args } = tied(command);
    const child = spawn(file, args, {
      cwd: command.directory,
      env: { PATH: SERVER_PATH, LANG: 'C.UTF-8', ...command.env },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const identity = child.pid === undefined ? undefined : processIdentity(child.pid);
    if (identity === undefined) {
      const reason = await new Promise<string>((resolve) => {
        child.once('error', (error) => {
          resolve(errorText(error));
        });
        child.once('exit', (code) => {
          resolve(`exited at once with code ${code ?? 'unknown'}`);
        });
      });
      throw new UnavailableError(
        'START_FAILED',
        `${command.title} could not be started: ${reason}`,
      );
    }
    return new ServerProcess(command, clock, child, identity);
  }

  get pid(): number {
    return this.identity.pid;
  }

  get hasEnded(): boolean {
    return this.#ended !== undefined;
  }

  /**
   * Waits until the server has printed `line`.
   *
   * @throws UnavailableError START_FAILED with the end of the log when the server ends first or the limit passes.
   */
  async printed(line: string, limitMs: number, signal?: AbortSignal): Promise<void> {
    let seen = '';
    let watcher: ((text: string) => void) | undefined;
    let onAbort: (() => void) | undefined;
    try {
      const outcome = await withDeadline(
        this.#clock,
        limitMs,
        new Promise<string | undefined>((resolve, reject) => {
          watcher = (text): void => {
            // Keep enough of what came before to find a line that arrives in two chunks.
            seen = seen.slice(-line.length) + text;
            if (seen.includes(line)) {
              resolve(undefined);
            }
          };
          this.#watchers.add(watcher);
          onAbort = (): void => {
            reject(signal?.reason as Error);
          };
          signal?.addEventListener('abort', onAbort, { once: true });
          this.exited.then(resolve, reject);
        }),
        () => this.failure(`was not ready after ${limitMs / 1000} s`),
      );
      if (outcome !== undefined) {
        await this.outputDone();
        throw this.failure(outcome);
      }
    } finally {
      if (watcher !== undefined) {
        this.#watchers.delete(watcher);
      }
      if (onAbort !== undefined) {
        signal?.removeEventListener('abort', onAbort);
      }
    }
  }

  /** The error for a server that did not start. */
  failure(what: string): UnavailableError {
    return new UnavailableError(
      'START_FAILED',
      `${this.title} ${what}. The end of its log (${this.log.path}):\n${this.log.tail()}`,
      { details: { logPath: this.log.path } },
    );
  }

  /** Goes down the rungs until the server has ended; resolves when it has. @throws UnavailableError TIMED_OUT. */
  async stop(rungs: readonly StopRung[]): Promise<void> {
    for (const rung of rungs) {
      if (this.hasEnded || (await this.#endsAfter(rung))) {
        await this.outputDone();
        return;
      }
    }
    throw new UnavailableError(
      'TIMED_OUT',
      `${this.title} (pid ${this.pid}) did not end after SIGKILL; look at what it waits for in /proc/${this.pid}/stack`,
    );
  }

  async #endsAfter(rung: StopRung): Promise<boolean> {
    this.#child.kill(rung.signal);
    return await new Promise<boolean>((resolve, reject) => {
      const timer = this.#clock.after(rung.waitMs, () => {
        resolve(false);
      });
      this.exited.then(() => {
        timer.cancel();
        resolve(true);
      }, reject);
    });
  }

  /** Waits shortly for the rest of the output, then lets go of the pipes and the log. */
  async outputDone(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = this.#clock.after(OUTPUT_GRACE_MS, resolve);
      this.#outputClosed.then(() => {
        timer.cancel();
        resolve();
      }, reject);
    });
    this.#child.stdout.destroy();
    this.#child.stderr.destroy();
    this.log.close();
  }
}

/** Runs a short program under the same ties and waits for it. @throws UnavailableError START_FAILED with its output. */
export async function runTied(
  command: Omit<ServerCommand, 'log'>,
  clock: Clock,
  limitMs: number,
): Promise<void> {
  const { file, args } = tied(command);
  const child = spawn(file, args, {
    cwd: command.directory,
    env: { PATH: SERVER_PATH, LANG: 'C.UTF-8', ...command.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const take = (chunk: Buffer): void => {
    output = (output + chunk.toString('utf8')).slice(-8192);
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  const failed = (reason: string): UnavailableError =>
    new UnavailableError('START_FAILED', `${command.title} ${reason}:\n${output.trim()}`);
  try {
    const reason = await withDeadline(
      clock,
      limitMs,
      new Promise<string | undefined>((resolve) => {
        child.once('error', (error) => {
          resolve(`could not be started (${errorText(error)})`);
        });
        child.once('close', (code) => {
          resolve(code === 0 ? undefined : `failed with code ${code ?? 'unknown'}`);
        });
      }),
      () => failed(`did not end within ${limitMs / 1000} s`),
    );
    if (reason !== undefined) {
      throw failed(reason);
    }
  } finally {
    child.kill('SIGKILL');
  }
}

/**
 * A program of the run as a child of the supervisor: the kernel kills it when the supervisor dies, its output goes to a file, and its
 * end is an event.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

import { systemClock } from '../src/base/clock.ts';
import { withDeadline } from '../src/base/deadline.ts';
import { UnavailableError } from '../src/base/errors.ts';

/** How to start a child. */
export interface ChildCommand {
  readonly args: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** File that output is appended to. */
  readonly logPath: string;
}

/** How a child ended. */
export interface ChildEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A running child. */
export class Child {
  readonly pid: number;
  readonly exited: Promise<ChildEnd>;
  #end: ChildEnd | undefined;
  readonly #signal: (signal: NodeJS.Signals) => void;

  private constructor(
    pid: number,
    exited: Promise<ChildEnd>,
    signal: (signal: NodeJS.Signals) => void,
  ) {
    this.pid = pid;
    this.#signal = signal;
    this.exited = exited.then((end) => {
      this.#end = end;
      return end;
    });
  }

  /** Starts it; `setpriv` becomes the program by exec, so the pid is the program's own. */
  static start(command: ChildCommand): Child {
    const log = openSync(command.logPath, 'a', 0o600);
    try {
      const child = spawn('setpriv', ['--pdeathsig=KILL', '--', ...command.args], {
        cwd: command.cwd,
        env: command.env,
        stdio: ['ignore', log, log],
      });
      const exited = new Promise<ChildEnd>((resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (code, signal) => {
          resolve({ code, signal });
        });
      });
      if (child.pid === undefined) {
        throw new UnavailableError('NOT_INSTALLED', 'setpriv (package util-linux) is missing');
      }
      return new Child(child.pid, exited, (signal) => child.kill(signal));
    } finally {
      closeSync(log);
    }
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  signal(signal: NodeJS.Signals): void {
    this.#signal(signal);
  }

  /** Kills it and waits for its end. */
  async kill(): Promise<void> {
    this.#signal('SIGKILL');
    await this.exited;
  }

  /** Waits for its end. @throws UnavailableError TIMED_OUT. */
  async endsWithin(limitMs: number, what: string): Promise<ChildEnd> {
    return await withDeadline(
      systemClock,
      limitMs,
      this.exited,
      () => new UnavailableError('TIMED_OUT', `${what} did not end within ${limitMs / 1000} s`),
    );
  }
}

/**
 * `hub dev --detach`: starts the foreground command as a process of its own and waits until it says that it is ready.
 *
 * What that process prints until then is shown here, so that a failure to start is told where it was asked for.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { sleep, systemClock } from '../../base/clock.ts';
import { ComputeError, UnavailableError } from '../../base/errors.ts';
import { printNote } from '../output.ts';
import { alreadyRunning, hubDirectory, runningDevHub } from './dev-record.ts';
import type { DevAddresses } from './dev-record.ts';

const READY_TIMEOUT_MS = 120_000;
const LOOK_EVERY_MS = 50;

/** The background process ended before it was ready; its words and its exit code. */
class BackgroundStartError extends ComputeError {}

/** Starts a hub in the background. @throws ConflictError ALREADY_RUNNING, or what kept the hub from starting. */
export async function startInBackground(
  home: string,
  flags: readonly string[],
): Promise<DevAddresses> {
  const running = runningDevHub(home);
  if (running !== undefined) {
    throw alreadyRunning(running);
  }
  const directory = hubDirectory(home);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const outputPath = join(directory, 'hub.err');
  const output = openSync(outputPath, 'w', 0o600);
  const script = process.argv[1] ?? '';
  const child = spawn(
    process.execPath,
    [...process.execArgv, script, 'dev', '--log-file', join(directory, 'hub.log'), ...flags],
    { detached: true, stdio: ['ignore', output, output] },
  );
  closeSync(output);
  let ended: { code: number | null } | undefined;
  child.once('exit', (code) => {
    ended = { code };
  });
  child.once('error', () => {
    ended = { code: null };
  });
  const shown = new ShownOutput(outputPath);
  const until = systemClock.monotonicMs() + READY_TIMEOUT_MS;
  for (;;) {
    const record = runningDevHub(home);
    if (record?.pid === child.pid && record?.ready !== undefined) {
      child.unref();
      return record.ready;
    }
    if (ended !== undefined) {
      const words = shown.rest();
      throw new BackgroundStartError(
        'START_FAILED',
        words === '' ? `the hub ended before it was ready; its log: ${directory}/hub.log` : words,
        ended.code ?? 70,
      );
    }
    if (systemClock.monotonicMs() >= until) {
      child.kill('SIGTERM');
      child.unref();
      throw new UnavailableError(
        'START_FAILED',
        `the hub is not ready after ${READY_TIMEOUT_MS / 1000} s and was told to stop; its log: ${directory}/hub.log`,
      );
    }
    shown.showNewLines();
    await sleep(systemClock, LOOK_EVERY_MS);
  }
}

/** Passes on whole lines as they appear. */
class ShownOutput {
  readonly #path: string;
  #shownCount = 0;

  constructor(path: string) {
    this.#path = path;
  }

  showNewLines(): void {
    // The last piece is not yet a whole line.
    const lines = this.#lines().slice(0, -1);
    for (const line of lines.slice(this.#shownCount)) {
      printNote(line);
    }
    this.#shownCount = Math.max(this.#shownCount, lines.length);
  }

  /** What was not shown yet. */
  rest(): string {
    return this.#lines().slice(this.#shownCount).join('\n').trim();
  }

  #lines(): string[] {
    return readFileSync(this.#path, 'utf8').split('\n');
  }
}

/** Programs of the system that are asked or told something while an endpoint is made to start with the machine. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { userInfo } from 'node:os';

import { UnavailableError, errorCode } from '../../../base/errors.ts';
import type { Environment } from '../../../config/config-sources.ts';

/** How a program ended. `missing`: there is no such program. */
export interface ProgramOutcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly missing: boolean;
}

const LIMIT_MS = 20_000;

/** Runs a program to its end. */
export async function runProgram(
  words: readonly string[],
  environment: Environment,
  input = '',
): Promise<ProgramOutcome> {
  const [program = '', ...args] = words;
  return await new Promise((resolve) => {
    const env = { ...environment, LC_ALL: 'C' };
    const child = execFile(program, args, { env, timeout: LIMIT_MS }, (error, stdout, stderr) => {
      const missing = errorCode(error) === 'ENOENT';
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
      resolve({ code, stdout, stderr: stderr === '' ? (error?.message ?? '') : stderr, missing });
    });
    child.stdin?.on('error', () => {
      // It ended without reading; how it ended is told above.
      child.stdin?.destroy();
    });
    child.stdin?.end(input);
  });
}

/** Runs a program that must succeed. @throws UnavailableError START_FAILED with its words. */
export async function mustRun(words: readonly string[], environment: Environment): Promise<void> {
  const { code, stderr } = await runProgram(words, environment);
  if (code !== 0) {
    throw new UnavailableError('START_FAILED', `${words.join(' ')} failed: ${stderr.trim()}`);
  }
}

/** Whether this machine was booted with systemd (sd_booted(3)). */
export function hasSystemd(): boolean {
  return existsSync('/run/systemd/system');
}

/** Whether the service manager of this user answers. */
export async function hasUserManager(environment: Environment): Promise<boolean> {
  const words = ['systemctl', '--user', 'show', '--property=Version'];
  return hasSystemd() && (await runProgram(words, environment)).code === 0;
}

/** Whether the service manager of this user runs from boot on, whoever arranged that. */
export function isLingering(): boolean {
  return existsSync(`/var/lib/systemd/linger/${userInfo().username}`);
}

/** Name of a user; the number when it has none here. */
export async function userName(uid: number, environment: Environment): Promise<string> {
  const { code, stdout } = await runProgram(['id', '-nu', String(uid)], environment);
  return code === 0 ? stdout.trim() : String(uid);
}

/** The user's crontab; undefined when there is no cron, or the user may not use it. */
export async function readCrontab(environment: Environment): Promise<string | undefined> {
  const { code, stdout, stderr, missing } = await runProgram(['crontab', '-l'], environment);
  if (code === 0) {
    return stdout;
  }
  return !missing && stderr.includes('no crontab for') ? '' : undefined;
}

/** Replaces the user's crontab. @throws UnavailableError START_FAILED. */
export async function writeCrontab(text: string, environment: Environment): Promise<void> {
  const { code, stderr } = await runProgram(['crontab', '-'], environment, text);
  if (code !== 0) {
    throw new UnavailableError('START_FAILED', `crontab refused the new lines: ${stderr.trim()}`);
  }
}

/**
 * One process at a time: whoever makes the file holds the lock, and removes it when done.
 *
 * Who dies with it leaves it behind. Others take it over when its process is gone from this machine, or, where that cannot be seen
 * (a home that machines share), when it is older than anybody holds it.
 */
import { randomUUID } from 'node:crypto';
import { link, open, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';

import { backoffDelayMs } from '../../base/backoff.ts';
import { sleep } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import { UnavailableError, errorCode } from '../../base/errors.ts';
import { removeIfThere } from '../../base/remove-file.ts';

/** Longer than a renewal with all of its retries takes. */
const ABANDONED_AFTER_MS = 5 * 60_000;
const WAIT_MS_MAX = 2 * 60_000;
const WAIT = { baseMs: 20, maxMs: 250 };

interface Holder {
  readonly host: string;
  readonly pid: number;
  readonly nonce: string;
}

/** Does `work` while holding the lock. @throws UnavailableError TIMED_OUT when somebody else holds it for minutes. */
export async function withFileLock<T>(
  path: string,
  clock: Clock,
  work: () => Promise<T>,
): Promise<T> {
  const holder = { host: hostname(), pid: process.pid, nonce: randomUUID() };
  const startedMs = clock.monotonicMs();
  for (let attempt = 0; !(await acquire(path, holder)); attempt += 1) {
    if (await removeAbandoned(path)) {
      continue;
    }
    if (clock.monotonicMs() - startedMs > WAIT_MS_MAX) {
      throw new UnavailableError(
        'TIMED_OUT',
        `another process holds ${path} and does not let go. When none of yours is signing in, remove the file and try again.`,
      );
    }
    await sleep(clock, backoffDelayMs(attempt, WAIT));
  }
  try {
    return await work();
  } finally {
    if ((await readHolder(path))?.nonce === holder.nonce) {
      await removeIfThere(path);
    }
  }
}

async function acquire(path: string, holder: Holder): Promise<boolean> {
  // Linked into place when complete: a lock without its holder's name could not be judged.
  const draft = `${path}.${holder.nonce}`;
  await writeFile(draft, JSON.stringify(holder), { mode: 0o600, flag: 'wx' });
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') {
      return false;
    }
    throw error;
  } finally {
    await removeIfThere(draft);
  }
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Holder;
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

/** True when the way is free to try again. */
async function removeAbandoned(path: string): Promise<boolean> {
  const holder = await readHolder(path);
  if (holder === undefined || !(await isAbandoned(path, holder))) {
    return holder === undefined;
  }
  // Moved away first: of several who found it abandoned, only one removes it, and none a lock that was made since.
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return true;
    }
    throw error;
  }
  try {
    if ((await readHolder(aside))?.nonce !== holder.nonce) {
      await link(aside, path);
    }
  } finally {
    await removeIfThere(aside);
  }
  return true;
}

async function isAbandoned(path: string, holder: Holder): Promise<boolean> {
  if (holder.host === hostname()) {
    return !isAlive(holder.pid);
  }
  try {
    // Both times are the file server's: the clock of this machine may be another.
    const probePath = `${path}.${randomUUID()}`;
    const probe = await open(probePath, 'wx', 0o600);
    try {
      const now = (await probe.stat()).mtimeMs;
      return now - (await stat(path)).mtimeMs > ABANDONED_AFTER_MS;
    } finally {
      await probe.close();
      await removeIfThere(probePath);
    }
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return false;
    }
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}

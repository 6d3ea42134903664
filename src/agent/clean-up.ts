/** What is removed once a night: damaged and adopted segments of the journal, drafts of a lock whose writer was killed. */
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { errorCode } from '../base/errors.ts';

/** As long as a task may live: what was kept for somebody to look at has been looked at by then. */
const LEFTOVER_AGE_MS = 14 * 24 * 3600 * 1000;
const LEFTOVER = /(\.seg\.(corrupt|adopted)|^agent\.lock\.\d+\.[0-9a-f]+)$/;

/**
 * Removes what has lain in the endpoint's directory for longer than LEFTOVER_AGE_MS; returns the paths. `nowMs` is milliseconds since
 * the epoch.
 */
export async function removeLeftovers(
  directory: string,
  nowMs: number,
  signal?: AbortSignal,
): Promise<string[]> {
  const removed: string[] = [];
  const inEndpoint = await listNames(directory, false);
  const inJournal = await listNames(join(directory, 'journal'), true);
  for (const path of [...inEndpoint, ...inJournal]) {
    signal?.throwIfAborted();
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (LEFTOVER.test(name) && nowMs - (await stat(path)).mtimeMs > LEFTOVER_AGE_MS) {
      await rm(path, { force: true });
      removed.push(path);
    }
  }
  return removed;
}

async function listNames(directory: string, recursive: boolean): Promise<string[]> {
  try {
    return (await readdir(directory, { recursive })).map((name) => join(directory, name));
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return [];
    }
    throw error;
  }
}

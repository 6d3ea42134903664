/**
 * What is periodic by the clock of the wall, as against by elapsed time: cleaning up once a night.
 *
 * The only file that knows node-cron. Jobs never overlap and do not keep the process alive.
 */
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { schedule } from 'node-cron';

import type { Clock } from '../base/clock.ts';
import { errorCode, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

/** At a minute that is nobody's favourite, so that agents on one file system do not all come at once with everything else. */
const CLEAN_UP_AT = '17 3 * * *';
/** As long as a task may live: what was kept for somebody to look at has been looked at by then. */
const LEFTOVER_AGE_MS = 14 * 24 * 3600 * 1000;
/** Damaged and adopted segments of the journal, and drafts of a lock whose writer was killed. */
const LEFTOVER = /(\.seg\.(corrupt|adopted)|^agent\.lock\.\d+\.[0-9a-f]+)$/;

/** Settings of the jobs. */
export interface ScheduledJobsOptions {
  /** Directory of the endpoint. */
  readonly directory: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Schedules the jobs; the returned function ends them. */
export function startScheduledJobs({
  directory,
  clock,
  logger,
}: ScheduledJobsOptions): () => Promise<void> {
  const cleanUp = schedule(
    CLEAN_UP_AT,
    async () => {
      try {
        const removed = await removeLeftovers(directory, clock.now());
        logger.info({ count: removed.length }, 'removed old leftovers');
      } catch (error) {
        logger.warn({ reason: errorText(error) }, 'cleaning up failed, trying again tomorrow');
      }
    },
    { name: 'clean-up', noOverlap: true, unref: true },
  );
  return async () => {
    await cleanUp.destroy();
  };
}

/** Removes what has lain for longer than LEFTOVER_AGE_MS; returns the paths. `nowMs` is milliseconds since the epoch. */
export async function removeLeftovers(directory: string, nowMs: number): Promise<string[]> {
  const removed: string[] = [];
  const inEndpoint = await listNames(directory, false);
  const inJournal = await listNames(join(directory, 'journal'), true);
  for (const path of [...inEndpoint, ...inJournal]) {
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

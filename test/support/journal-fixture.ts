/** A journal in a directory of its own, and what tests ask of it. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type {
  Journal,
  JournalOptions,
  ReceivedTask,
  RecoveredTask,
} from '../../src/agent/journal/journal.ts';
import { openJournal } from '../../src/agent/journal/journal.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';

/** Small reserve, so that tests do not write megabytes each. */
export const JOURNAL_DEFAULTS = {
  host: 'node-a',
  bootId: 'b0072000-0000-4000-8000-000000000001',
  epoch: 1,
  clock: systemClock,
  logger: silentLogger,
  reserveBytes: 4096,
} as const;

export interface OpenedJournal {
  journal: Journal;
  recovered: RecoveredTask[];
  notices: string[];
}

/** Makes directories and journals, and cleans both up. */
export class JournalFixture {
  readonly #directories: string[] = [];
  readonly #journals: Journal[] = [];

  async directory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'outpost-journal-'));
    this.#directories.push(directory);
    return directory;
  }

  async open(directory: string, options: Partial<JournalOptions> = {}): Promise<OpenedJournal> {
    if (options.bootId === undefined) {
      // Without the table every started task counts as begun; journal-running.test.ts has what the table can tell.
      const host = options.host ?? JOURNAL_DEFAULTS.host;
      await rm(join(directory, host, 'running'), { force: true });
    }
    const opened = await openJournal({ ...JOURNAL_DEFAULTS, directory, ...options });
    this.#journals.push(opened.journal);
    return opened;
  }

  async release(): Promise<void> {
    for (const journal of this.#journals.splice(0)) {
      await journal.close();
    }
    for (const directory of this.#directories.splice(0)) {
      await rm(directory, { recursive: true, force: true });
    }
  }
}

export function makeTask(bodyBytes = 16, taskId: string = randomUUID()): ReceivedTask {
  return { taskId, meta: { function_id: 'f-1', n: 1 }, body: Buffer.alloc(bodyBytes, taskId) };
}

/** Files under a directory with a certain ending, sorted. */
export async function filesEnding(directory: string, ending: string): Promise<string[]> {
  const names = await readdir(directory, { recursive: true });
  return names.filter((name) => name.endsWith(ending)).sort();
}

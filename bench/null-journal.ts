/**
 * A journal that writes nothing: what the real one is compared with, to know what durability costs. It keeps just enough in memory
 * for the dispatcher to work, and survives nothing.
 */
import { join } from 'node:path';

import type {
  Journal,
  JournalResult,
  JournalStats,
  ReceivedTask,
} from '../src/agent/journal/journal-types.ts';
import type { openJournal as openRealJournal } from '../src/agent/journal/journal.ts';
import { InvariantError } from '../src/base/errors.ts';
import { RUNNING_CELL_COUNT } from '../src/protocol/running-cells.ts';

const STATS: JournalStats = { liveCount: 0, bytes: 0, segments: 0, tombstones: 0, full: false };
const DURABLE = Promise.resolve();

/** Takes the place of the agent's `openJournal`: see null-journal-hook.ts. */
export const openJournal: typeof openRealJournal = async ({ directory }) => {
  const bodies = new Map<string, Buffer>();
  const results = new Map<string, JournalResult>();
  const confirmed = new Set<string>();
  let cell = 0;
  const journal: Journal = {
    lookup: (taskId) =>
      confirmed.has(taskId)
        ? 'confirmed'
        : bodies.has(taskId) || results.has(taskId)
          ? 'live'
          : 'new',
    received: async ({ taskId, body }: ReceivedTask) => {
      bodies.set(taskId, body);
      await DURABLE;
    },
    started: async () => {
      await DURABLE;
    },
    // With a cell, tasks are handed over ahead of time as with the real journal; without the file nobody marks what has begun.
    cell: () => {
      cell = (cell + 1) % RUNNING_CELL_COUNT;
      return cell;
    },
    hasBegun: () => true,
    runningTablePath: join(directory, 'none'),
    done: async (taskId, result) => {
      bodies.delete(taskId);
      results.set(taskId, result);
      await DURABLE;
    },
    confirmed: (taskId) => {
      results.delete(taskId);
      confirmed.add(taskId);
    },
    handedBack: async (taskIds) => {
      for (const taskId of taskIds) {
        bodies.delete(taskId);
      }
      await DURABLE;
    },
    readTask: async (taskId) => await Promise.resolve(known(bodies.get(taskId), taskId)),
    readResult: async (taskId) => await Promise.resolve(known(results.get(taskId), taskId)),
    get stats() {
      return STATS;
    },
    onFullChange: () => undefined,
    compact: async () => {
      await DURABLE;
      return 0;
    },
    close: async () => {
      await DURABLE;
    },
  };
  return await Promise.resolve({ journal, recovered: [], notices: [] });
};

function known<T>(value: T | undefined, taskId: string): T {
  if (value === undefined) {
    throw new InvariantError(`the null journal does not know task ${taskId}`);
  }
  return value;
}

/** Finds what is kept of one task. Only reads files, so it works with and without a running agent. */
import { readFile } from 'node:fs/promises';

import { errorCode } from '../../base/errors.ts';
import { listTaskLogs } from './task-log-files.ts';
import type { TaskLogEntry } from './task-log-files.ts';

const LINE_FEED = 0x0a;

/** Every attempt of a task of which something is kept, in order; `directory` is that of the task output. */
export async function readTaskLog(directory: string, taskId: string): Promise<TaskLogEntry[]> {
  const found: TaskLogEntry[] = [];
  // Every entry begins like this, so that only lines of this task are parsed.
  const mark = Buffer.from(`{"task_id":${JSON.stringify(taskId)}`);
  for (const { path } of await listTaskLogs(directory)) {
    const bytes = await readIfThere(path);
    for (let at = bytes.indexOf(mark); at !== -1; at = bytes.indexOf(mark, at + mark.length)) {
      const end = bytes.indexOf(LINE_FEED, at);
      const line = bytes.toString('utf8', at, end === -1 ? bytes.length : end);
      const entry = at === 0 || bytes[at - 1] === LINE_FEED ? parseEntry(line) : undefined;
      if (entry !== undefined) {
        found.push(entry);
      }
    }
  }
  return found;
}

/** A file may be removed by the agent while we look. */
async function readIfThere(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return Buffer.alloc(0);
    }
    throw error;
  }
}

/** Undefined for a line that was cut by a crash or a full disk. */
function parseEntry(line: string): TaskLogEntry | undefined {
  try {
    return JSON.parse(line) as TaskLogEntry;
  } catch (error) {
    if (error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

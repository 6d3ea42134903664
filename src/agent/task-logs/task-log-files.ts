/**
 * The files in which the output of tasks is kept: `<endpoint>/logs/tasks/<UTC day>-<number>.jsonl`, one JSON line for a task that
 * printed something or failed. Names sort by age, and the day in the name says when a file may go.
 */
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { errorCode } from '../../base/errors.ts';
import type { Language } from '../../protocol/serialization.ts';

const DAY_MS = 24 * 3600 * 1000;
const FILE_NAME = /^(?<day>\d{4}-\d\d-\d\d)-(?<number>\d{4,})\.jsonl$/;

/** One attempt to run a task, as it is kept. */
export interface TaskLogEntry {
  readonly task_id: string;
  readonly function_id: string;
  readonly language: Language;
  readonly attempt: number;
  /** ISO 8601; null where the agent did not see it, as of a task of an earlier run. */
  readonly received_at: string | null;
  readonly began_at: string | null;
  readonly ended_at: string;
  readonly outcome: 'succeeded' | 'failed' | 'started again';
  /** Set when not the function but something around it ended the attempt. */
  readonly code?: string;
  readonly message?: string;
  readonly stdout?: string;
  readonly stderr?: string;
  /** Whether more was printed than is kept; the end is what is kept. */
  readonly truncated?: boolean;
}

/** A file of task output. */
export interface TaskLogFile {
  readonly path: string;
  readonly day: string;
  readonly number: number;
  readonly bytes: number;
}

/** How much is kept, and for how long. */
export interface TaskLogBounds {
  /** 0: nothing. */
  readonly days: number;
  readonly bytesMax: number;
}

/** Where an endpoint keeps what its tasks printed. */
export function taskLogDirectory(endpointDirectory: string): string {
  return join(endpointDirectory, 'logs', 'tasks');
}

/** The UTC day of a point in time, in milliseconds since the epoch. */
export function dayOf(epochMs: number): string {
  return new Date(epochMs).toISOString().slice(0, 10);
}

/** Files of task output, oldest first. */
export async function listTaskLogs(directory: string): Promise<TaskLogFile[]> {
  const files: TaskLogFile[] = [];
  for (const name of await namesIn(directory)) {
    const parts = FILE_NAME.exec(name)?.groups;
    const path = join(directory, name);
    const bytes = parts === undefined ? undefined : await sizeOf(path);
    if (parts !== undefined && bytes !== undefined) {
      files.push({ path, day: parts['day'] ?? '', number: Number(parts['number']), bytes });
    }
  }
  return files.sort((a, b) => (a.day === b.day ? a.number - b.number : a.day < b.day ? -1 : 1));
}

/**
 * Removes what is older than its days, and then the oldest until the rest fits; a file that is being written, given by its path, stays.
 * Returns what was removed.
 */
export async function cleanTaskLogs(
  directory: string,
  { days, bytesMax }: TaskLogBounds,
  nowMs: number,
  writtenPath?: string,
): Promise<string[]> {
  const files = await listTaskLogs(directory);
  const firstDay = dayOf(nowMs - days * DAY_MS);
  let bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const removed: string[] = [];
  for (const file of files) {
    const isTooOld = days === 0 || file.day < firstDay;
    if ((isTooOld || bytes > bytesMax) && file.path !== writtenPath) {
      await rm(file.path, { force: true });
      bytes -= file.bytes;
      removed.push(file.path);
    }
  }
  return removed;
}

/** Opens the file that entries of this day go to: the newest if it has room, or the next one. */
export async function openTaskLog(
  directory: string,
  day: string,
  fileBytesMax: number,
): Promise<{ readonly handle: FileHandle; readonly path: string; readonly bytes: number }> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const newest = (await listTaskLogs(directory)).filter((file) => file.day === day).at(-1);
  const hasRoom = newest !== undefined && newest.bytes < fileBytesMax;
  const number = (newest?.number ?? 0) + (hasRoom ? 0 : 1);
  const path = join(directory, `${day}-${String(number).padStart(4, '0')}.jsonl`);
  const handle = await open(path, 'a', 0o600);
  return { handle, path, bytes: hasRoom ? newest.bytes : 0 };
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return [];
    }
    throw error;
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

/** Lines of the log: one as text for people, which of them are wanted, and the last ones of a file or of all its predecessors. */
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';

import { errorCode } from '../../base/errors.ts';
import { LOG_LEVELS } from '../../config/log-levels.ts';
import type { LogLevel } from '../../config/log-levels.ts';
import { timeText } from '../output.ts';
import { harmlessText } from '../terminal.ts';

const BLOCK_BYTES = 256 * 1024;
const LINE_FEED = 0x0a;
/** More predecessors than any budget leaves. */
const NUMBER_MAX = 100;

/** Which lines are wanted. */
export interface LogFilter {
  /** At least this important. */
  readonly level?: LogLevel;
  /** Not before, in milliseconds since the epoch. */
  readonly sinceMs?: number;
}

/** The end of a file. */
export interface Tail {
  readonly lines: readonly string[];
  /** Where reading can go on, in the newest file. */
  readonly endOffset: number;
}

/** The last `count` lines that are wanted, of a file and its predecessors; undefined when there is no file. */
export async function tailLines(
  path: string,
  count: number,
  filter: LogFilter = {},
): Promise<Tail | undefined> {
  const newest = await openIfThere(path);
  if (newest === undefined) {
    return undefined;
  }
  const lines: string[] = [];
  let endOffset = 0;
  let file: FileHandle | undefined = newest;
  for (let number = 1; file !== undefined && number <= NUMBER_MAX; number += 1) {
    try {
      const end = await endOfLastLine(file);
      endOffset = file === newest ? end : endOffset;
      if (await collect(file, end, count, filter, lines)) {
        break;
      }
    } finally {
      await file.close();
    }
    file = await openIfThere(`${path}.${number}`);
  }
  return { lines: lines.reverse(), endOffset };
}

/** Whether a line is wanted. Lines that are no entries of the log, such as those of a crash, always are. */
export function isWanted(line: string, { level, sinceMs }: LogFilter): boolean {
  if (level === undefined && sinceMs === undefined) {
    return true;
  }
  const entry = parseEntry(line);
  if (entry === undefined) {
    return true;
  }
  const isImportant = level === undefined || rank(entry['level']) >= LOG_LEVELS.indexOf(level);
  return isImportant && (sinceMs === undefined || timeOf(entry) >= sinceMs);
}

const STANDARD_FIELDS: ReadonlySet<string> = new Set(['level', 'time', 'pid', 'msg', 'err']);

/**
 * A line of the log as text for people; a line that is no JSON as it is. Some of it comes from tasks: nothing in it can steer the
 * terminal, or pass for a line of its own.
 */
export function formatLogLine(line: string): string {
  const entry = parseEntry(line);
  return harmlessText(entry === undefined ? line : entryText(entry)).replaceAll('\n', '\n    ');
}

function entryText(entry: Readonly<Record<string, unknown>>): string {
  const time = timeOf(entry);
  const fields = Object.entries(entry)
    .filter(([name]) => !STANDARD_FIELDS.has(name))
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const error = entry['err'];
  const reason =
    typeof error === 'object' && error !== null && 'message' in error
      ? `: ${String(error.message)}`
      : '';
  return [
    Number.isFinite(time) ? timeText(time) : '',
    String(entry['level']).toUpperCase().padEnd(5),
    `${String(entry['msg'])}${reason}`,
    ...fields,
  ].join(' ');
}

/** Adds what is wanted, newest first; true when nothing older can be wanted. */
async function collect(
  file: FileHandle,
  end: number,
  count: number,
  filter: LogFilter,
  lines: string[],
): Promise<boolean> {
  if (lines.length >= count) {
    return true;
  }
  for await (const line of linesBackwards(file, end)) {
    if (line === '') {
      continue;
    }
    if (isWanted(line, filter)) {
      lines.push(line);
    } else if (filter.sinceMs !== undefined && timeOf(parseEntry(line) ?? {}) < filter.sinceMs) {
      return true;
    }
    if (lines.length >= count) {
      return true;
    }
  }
  return false;
}

/** Lines from `end` to the beginning. */
async function* linesBackwards(file: FileHandle, end: number): AsyncGenerator<string> {
  // The end of a line whose beginning has not been read yet, last piece first.
  let rest: Buffer[] = [];
  for (let to = end; to > 0;) {
    const from = Math.max(0, to - BLOCK_BYTES);
    const block = Buffer.alloc(to - from);
    const { bytesRead } = await file.read(block, 0, block.length, from);
    let until = bytesRead;
    for (let at = lastFeed(block, until); at !== -1; at = lastFeed(block, until)) {
      yield Buffer.concat([block.subarray(at + 1, until), ...rest.reverse()]).toString('utf8');
      rest = [];
      until = at;
    }
    rest.push(block.subarray(0, until));
    to = from;
  }
  if (end > 0) {
    yield Buffer.concat(rest.reverse()).toString('utf8');
  }
}

function lastFeed(block: Buffer, before: number): number {
  return before === 0 ? -1 : block.lastIndexOf(LINE_FEED, before - 1);
}

/** Behind the last line feed: what follows is being written. */
async function endOfLastLine(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  for (let to = size; to > 0;) {
    const from = Math.max(0, to - BLOCK_BYTES);
    const block = Buffer.alloc(to - from);
    await file.read(block, 0, block.length, from);
    const at = block.lastIndexOf(LINE_FEED);
    if (at !== -1) {
      return from + at + 1;
    }
    to = from;
  }
  return 0;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

function rank(level: unknown): number {
  return LOG_LEVELS.findIndex((one) => one === level);
}

function timeOf(entry: Readonly<Record<string, unknown>>): number {
  return typeof entry['time'] === 'string' ? Date.parse(entry['time']) : NaN;
}

function parseEntry(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

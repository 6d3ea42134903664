/** Lines of the log: the last ones of a file, and one as text for people. */
import { open } from 'node:fs/promises';

import { errorCode } from '../../base/errors.ts';
import { timeText } from '../output.ts';

/** How far back the end of a log is looked for, whatever the number of lines. */
const TAIL_BYTES_MAX = 4 * 1024 * 1024;

/** The end of a file. */
export interface Tail {
  readonly lines: readonly string[];
  /** Where reading can go on. */
  readonly endOffset: number;
}

/** The last lines of a file, or undefined when there is none. */
export async function tailLines(path: string, count: number): Promise<Tail | undefined> {
  let file;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
  try {
    const { size } = await file.stat();
    const start = Math.max(0, size - TAIL_BYTES_MAX);
    const buffer = Buffer.alloc(size - start);
    await file.read(buffer, 0, buffer.length, start);
    const end = buffer.lastIndexOf(0x0a) + 1;
    const lines = buffer.toString('utf8', 0, Math.max(0, end - 1)).split('\n');
    const whole = start > 0 ? lines.slice(1) : lines;
    const last = count === 0 ? [] : whole.slice(-count).filter((line) => line !== '');
    return { lines: last, endOffset: start + end };
  } finally {
    await file.close();
  }
}

const STANDARD_FIELDS: ReadonlySet<string> = new Set(['level', 'time', 'pid', 'msg', 'err']);

/** A line of the log as text for people; a line that is no JSON as it is. */
export function formatLogLine(line: string): string {
  const entry = parseEntry(line);
  if (entry === undefined) {
    return line;
  }
  const time = typeof entry['time'] === 'string' ? Date.parse(entry['time']) : NaN;
  const fields = Object.entries(entry)
    .filter(([name]) => !STANDARD_FIELDS.has(name))
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const error = entry['err'];
  const reason =
    typeof error === 'object' && error !== null && 'message' in error
      ? `: ${String(error.message)}`
      : '';
  return [
    Number.isNaN(time) ? '' : timeText(time),
    String(entry['level']).toUpperCase().padEnd(5),
    `${String(entry['msg'])}${reason}`,
    ...fields,
  ].join(' ');
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

/** Goes on with a log as it is written, also when it is rotated meanwhile: no line is left out, and none comes twice. */
import { watch } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';

import { errorCode } from '../../base/errors.ts';

const READ_BYTES = 64 * 1024;
/** File events do not cross network file systems, where homes of clusters lie. */
const POLL_MS = 1_000;
/** Predecessors that are looked for when the log was rotated while nobody looked. */
const NUMBER_MAX = 20;

/** A file that is being read. */
interface Position {
  readonly file: FileHandle;
  readonly inode: number;
  offset: number;
  /** Beginning of a line whose end is not there yet. */
  rest: Buffer;
}

/** Calls back for each line behind `from`, until the signal is aborted. The file may come later. */
export async function followLog(
  path: string,
  from: number,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<void> {
  let position = await openAt(path, from);
  try {
    while (!signal.aborted) {
      position = await readOn(path, position, onLine);
      await changed(path, signal);
    }
  } finally {
    await position?.file.close();
  }
}

/** Reads to the end of the newest file, by way of those that were finished meanwhile. */
async function readOn(
  path: string,
  position: Position | undefined,
  onLine: (line: string) => void,
): Promise<Position | undefined> {
  const current = position ?? (await openAt(path, 0));
  if (current === undefined) {
    return undefined;
  }
  // Looked for before it is read to its end, so that nothing is written to it in between.
  const number = await numberOf(path, current);
  await readToEnd(current, onLine);
  if (number === 0) {
    return current;
  }
  await current.file.close();
  for (let older = number - 1; older > 0; older -= 1) {
    const between = await openAt(`${path}.${older}`, 0);
    if (between !== undefined) {
      await readToEnd(between, onLine);
      await between.file.close();
    }
  }
  return await readOn(path, undefined, onLine);
}

/** Which of the files it is now: 0 while it is written, then the number of its predecessor; what is gone was replaced by the newest. */
async function numberOf(path: string, { inode, offset, file }: Position): Promise<number> {
  for (let number = 0; number <= NUMBER_MAX; number += 1) {
    if ((await inodeOf(number === 0 ? path : `${path}.${number}`)) === inode) {
      // A file that somebody has cut off begins anew.
      return number === 0 && (await file.stat()).size < offset ? 1 : number;
    }
  }
  return 1;
}

async function readToEnd(position: Position, onLine: (line: string) => void): Promise<void> {
  const buffer = Buffer.alloc(READ_BYTES);
  for (;;) {
    const { bytesRead } = await position.file.read(buffer, 0, buffer.length, position.offset);
    if (bytesRead === 0) {
      return;
    }
    position.offset += bytesRead;
    let bytes = Buffer.concat([position.rest, buffer.subarray(0, bytesRead)]);
    for (let end = bytes.indexOf(0x0a); end !== -1; end = bytes.indexOf(0x0a)) {
      onLine(bytes.toString('utf8', 0, end));
      bytes = bytes.subarray(end + 1);
    }
    position.rest = bytes;
  }
}

async function openAt(path: string, offset: number): Promise<Position | undefined> {
  try {
    const file = await open(path, 'r');
    const { ino } = await file.stat();
    return { file, inode: ino, offset, rest: Buffer.alloc(0) };
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

async function inodeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).ino;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

/** Resolves when the file may have changed, or the signal is aborted. */
async function changed(path: string, signal: AbortSignal): Promise<void> {
  if (signal.aborted) {
    return;
  }
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      watcher?.close();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, POLL_MS);
    const watcher = watchIfThere(path, done);
    signal.addEventListener('abort', done, { once: true });
  });
}

function watchIfThere(path: string, onChange: () => void): ReturnType<typeof watch> | undefined {
  try {
    const watcher = watch(path, onChange);
    watcher.on('error', onChange);
    return watcher;
  } catch (error) {
    // Between two files, or more watches than the system allows: the poll goes on without.
    if (errorCode(error) === undefined) {
      throw error;
    }
    return undefined;
  }
}

/** `agent logs`: the end of the log, and what follows. Lines are readable text, or as they are with `--json`. */
import { watch } from 'node:fs';
import { open } from 'node:fs/promises';

import { errorCode } from '../../base/errors.ts';
import { defineCommand } from '../command-line.ts';
import { printLine, printNote } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { formatLogLine, tailLines } from './log-lines.ts';

const LINES_DEFAULT = 50;
const READ_BYTES = 64 * 1024;
/** File events do not cross network file systems, where homes of clusters lie. */
const POLL_MS = 1_000;

/** Shows the log of an endpoint. */
export const logs = defineCommand(
  (parser) =>
    withEndpointName(parser)
      .option('lines', {
        alias: 'n',
        type: 'number',
        default: LINES_DEFAULT,
        requiresArg: true,
        describe: 'How many lines to show',
      })
      .option('follow', {
        alias: 'f',
        type: 'boolean',
        default: false,
        describe: 'Go on with what is logged from now on, until Ctrl-C',
      }),
  async (argv) => {
    const { directory } = await openEndpoint(argv.name);
    const print = (line: string): void => {
      printLine(argv.json ? line : formatLogLine(line));
    };
    const lines = Number.isInteger(argv.lines) && argv.lines >= 0 ? argv.lines : LINES_DEFAULT;
    const tail = await tailLines(directory.logPath, lines);
    if (tail === undefined && !argv.follow) {
      printNote(`There is no log yet at ${directory.logPath}: the endpoint has not been started.`);
      return 0;
    }
    for (const line of tail?.lines ?? []) {
      print(line);
    }
    if (argv.follow) {
      await follow(directory.logPath, tail?.endOffset ?? 0, print);
    }
    return 0;
  },
);

/** Prints lines as they come; ends with Ctrl-C. */
async function follow(path: string, from: number, print: (line: string) => void): Promise<void> {
  const interrupted = new AbortController();
  process.once('SIGINT', () => {
    interrupted.abort();
  });
  let position: Position = { offset: from, inode: undefined, rest: '' };
  while (!interrupted.signal.aborted) {
    position = await readOn(path, position, print);
    await changed(path, interrupted.signal);
  }
}

interface Position {
  readonly offset: number;
  readonly inode: number | undefined;
  /** Beginning of a line whose end is not there yet. */
  readonly rest: string;
}

async function readOn(
  path: string,
  position: Position,
  print: (line: string) => void,
): Promise<Position> {
  let file;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return position;
    }
    throw error;
  }
  try {
    const { ino, size } = await file.stat();
    const isRotated =
      (position.inode !== undefined && position.inode !== ino) || size < position.offset;
    let { offset, rest } = isRotated ? { offset: 0, rest: '' } : position;
    const buffer = Buffer.alloc(READ_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
      if (bytesRead === 0) {
        return { offset, inode: ino, rest };
      }
      offset += bytesRead;
      const parts = (rest + buffer.toString('utf8', 0, bytesRead)).split('\n');
      rest = parts.pop() ?? '';
      parts.forEach(print);
    }
  } finally {
    await file.close();
  }
}

/** Resolves when the file may have changed, or the signal is aborted. */
async function changed(path: string, signal: AbortSignal): Promise<void> {
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

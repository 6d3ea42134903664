/**
 * Which tasks a worker has begun and that have no durable result yet: one small file with a cell for each.
 *
 * STARTED is made durable ahead of time, so that a free worker never waits for the disk; only this table tells whether a task
 * that may run has really begun (I5). The worker host marks a task's cell right before a worker gets the task
 * (src/protocol/running-cells.ts). So after `kill -9` the table is exact, and after a reboot (another boot id), or
 * when there is no table, every started task counts as begun. A table that cannot be kept is deleted, which is the safe side.
 *
 * The header: 8 bytes magic, 36 bytes boot id, zeros.
 */
import {
  closeSync,
  fchmodSync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';

import { errorCode } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import {
  RUNNING_CELL_BYTES,
  RUNNING_CELL_COUNT,
  RUNNING_HEADER_BYTES,
  runningCellOffset,
} from '../../protocol/running-cells.ts';

const MAGIC = Buffer.from('OPRUN01\n', 'latin1');
const BOOT_ID_BYTES = 36;
const TABLE_BYTES = runningCellOffset(RUNNING_CELL_COUNT);
const EMPTY_CELL = Buffer.alloc(RUNNING_CELL_BYTES);

/** In place of a boot id after a clean end: what stands in the table holds whatever happened to the machine since. */
const CLEAN = 'closed';

/** Keys (hex) of the tasks that had begun when the last run ended; undefined when that cannot be told. */
export function readBegunTasks(path: string, bootId: string): ReadonlySet<string> | undefined {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
  const head = content.subarray(0, RUNNING_HEADER_BYTES);
  if (
    content.length !== TABLE_BYTES ||
    !(head.equals(header(bootId)) || head.equals(header(CLEAN)))
  ) {
    return undefined;
  }
  const keys = new Set<string>();
  for (let cell = 0; cell < RUNNING_CELL_COUNT; cell += 1) {
    const offset = runningCellOffset(cell);
    keys.add(content.toString('hex', offset, offset + RUNNING_CELL_BYTES));
  }
  return keys;
}

/** The table of the running agent. */
export class RunningTable {
  readonly #path: string;
  readonly #logger: Logger;
  readonly #freeCells: number[] = [];
  readonly #scratch = Buffer.alloc(RUNNING_CELL_BYTES);
  #descriptor: number | undefined;

  /** Replaces the table of the last run by one that holds `begun`: tasks that are still without a result. */
  constructor(
    { path, mode }: { readonly path: string; readonly mode: number },
    bootId: string,
    begun: readonly string[],
    logger: Logger,
  ) {
    this.#path = path;
    this.#logger = logger;
    for (let cell = RUNNING_CELL_COUNT - 1; cell >= begun.length; cell -= 1) {
      this.#freeCells.push(cell);
    }
    const content = Buffer.alloc(TABLE_BYTES);
    header(bootId).copy(content);
    begun.slice(0, RUNNING_CELL_COUNT).forEach((key, cell) => {
      content.write(key, runningCellOffset(cell), 'hex');
    });
    try {
      if (begun.length <= RUNNING_CELL_COUNT) {
        this.#descriptor = writeWhole(path, mode, content);
      } else {
        this.#giveUp('more tasks had begun than the table holds');
      }
    } catch (error) {
      this.#giveUp(error);
    }
  }

  /** The file in which the worker host marks cells. */
  get path(): string {
    return this.#path;
  }

  /** A cell for a task that is about to be handed over; undefined when there is no table. */
  reserve(): number | undefined {
    if (this.#descriptor === undefined) {
      return undefined;
    }
    const cell = this.#freeCells.pop();
    if (cell === undefined) {
      this.#giveUp('it is full');
    }
    return cell;
  }

  /** Takes the mark of an earlier attempt away. */
  clear(cell: number): void {
    try {
      if (this.#descriptor !== undefined) {
        const offset = runningCellOffset(cell);
        writeSync(this.#descriptor, EMPTY_CELL, 0, RUNNING_CELL_BYTES, offset);
      }
    } catch (error) {
      this.#giveUp(error);
    }
  }

  /** Whether the cell is marked with this key. Without a table every task counts as begun. */
  holds(cell: number, key: Buffer): boolean {
    if (this.#descriptor === undefined) {
      return true;
    }
    try {
      readSync(this.#descriptor, this.#scratch, 0, RUNNING_CELL_BYTES, runningCellOffset(cell));
      if (this.#scratch.equals(key)) {
        return true;
      }
      if (!isWhole(this.#path)) {
        this.#giveUp('a worker could not write it');
        return true;
      }
      return false;
    } catch (error) {
      this.#giveUp(error);
      return true;
    }
  }

  /** The cell may be used again: its task has a durable result, or is gone. What stands in it does no harm until then. */
  free(cell: number): void {
    this.#freeCells.push(cell);
  }

  /** Ends cleanly: everything that ended is on disk, and no task runs. */
  close(): void {
    if (this.#descriptor === undefined) {
      return;
    }
    try {
      writeSync(this.#descriptor, header(CLEAN), 0, RUNNING_HEADER_BYTES, 0);
      fdatasyncSync(this.#descriptor);
      this.#drop();
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #drop(): void {
    if (this.#descriptor !== undefined) {
      closeSync(this.#descriptor);
      this.#descriptor = undefined;
    }
  }

  #giveUp(reason: unknown): void {
    this.#drop();
    rmSync(this.#path, { force: true });
    this.#logger.warn(
      { reason },
      'the table of running tasks cannot be kept: after a crash every started task counts as begun',
    );
  }
}

/** A worker that cannot write it removes it, or empties it where it may not do that. */
function isWhole(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.size === TABLE_BYTES;
}

function header(bootId: string): Buffer {
  const bytes = Buffer.alloc(RUNNING_HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.write(bootId.slice(0, BOOT_ID_BYTES), MAGIC.length, 'latin1');
  return bytes;
}

/** Writes a file whole or not at all; returns its descriptor. */
function writeWhole(path: string, mode: number, content: Buffer): number {
  const draft = `${path}.new`;
  const descriptor = openSync(draft, 'w+', mode);
  try {
    // Whatever the umask: the worker host may be another user.
    fchmodSync(descriptor, mode);
    writeSync(descriptor, content, 0, content.length, 0);
    fdatasyncSync(descriptor);
    renameSync(draft, path);
    syncName(path);
  } catch (error) {
    closeSync(descriptor);
    rmSync(draft, { force: true });
    throw error;
  }
  return descriptor;
}

/** After a loss of power the name must not stand for the table of a run that ended cleanly: that one would be believed. */
function syncName(path: string): void {
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } catch (error) {
    // As syncDirectory (segment.ts): some network file systems refuse that.
    if (!['EINVAL', 'ENOTSUP', 'EBADF', 'EPERM', 'EACCES'].includes(errorCode(error) ?? '')) {
      throw error;
    }
  } finally {
    closeSync(directory);
  }
}

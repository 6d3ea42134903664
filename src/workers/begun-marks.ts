/**
 * Marks in the table of running tasks that a task begins (protocol/running-cells.ts). A table that cannot be written is deleted:
 * then every task that was handed over counts as begun, which never runs one twice.
 */
import { openSync, rmSync, truncateSync, writeSync } from 'node:fs';

import { errorCode, errorText } from '../base/errors.ts';
import { RUNNING_CELL_BYTES, runningCellOffset } from '../protocol/running-cells.ts';
import { taskKey } from '../protocol/task-id.ts';

/** The open table. */
export class BegunMarks {
  readonly #path: string | undefined;
  #descriptor: number | undefined;

  /** `path`: the table, or undefined when nothing is to be marked. */
  constructor(path: string | undefined) {
    this.#path = path;
    try {
      this.#descriptor = path === undefined ? undefined : openSync(path, 'r+');
    } catch (error) {
      this.#giveUp(error);
    }
  }

  /** Call right before a worker gets the task. */
  mark({ cell, taskId }: { readonly cell?: number; readonly taskId: string }): void {
    if (this.#descriptor === undefined || cell === undefined) {
      return;
    }
    try {
      writeSync(this.#descriptor, taskKey(taskId), 0, RUNNING_CELL_BYTES, runningCellOffset(cell));
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #giveUp(error: unknown): void {
    this.#descriptor = undefined;
    // The agent has given it up already.
    if (this.#path !== undefined && errorCode(error) !== 'ENOENT') {
      process.emitWarning(
        `the table of running tasks cannot be written (${errorText(error)}): it is deleted`,
      );
      invalidate(this.#path);
    }
  }
}

/** An empty table is as good as none; a host of another user may not remove it. */
function invalidate(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    if (errorCode(error) !== 'EACCES' && errorCode(error) !== 'EPERM') {
      throw error;
    }
    truncateSync(path, 0);
  }
}

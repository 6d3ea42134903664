/**
 * Layout of the table of running tasks: one small file with a cell for each task that was handed to the worker host.
 *
 *   offset 0    RUNNING_HEADER_BYTES, which belong to the agent (src/agent/journal/running-table.ts)
 *   then        RUNNING_CELL_COUNT cells of 16 bytes: the key of a task that has begun, or anything else
 *
 * The agent gives each task a cell; the worker host writes the task's key into it right before a worker gets the task. A write in
 * place, not synced: it outlives both processes, though not the machine.
 */
/** Bytes before the first cell. */
export const RUNNING_HEADER_BYTES = 64;
/** Bytes of a cell. */
export const RUNNING_CELL_BYTES = 16;
/** Cells of a table: more than can be under way at once, also when results wait for a full disk. 64 KiB on disk. */
export const RUNNING_CELL_COUNT = 4096;

/** Where a cell begins. */
export function runningCellOffset(cell: number): number {
  return RUNNING_HEADER_BYTES + cell * RUNNING_CELL_BYTES;
}

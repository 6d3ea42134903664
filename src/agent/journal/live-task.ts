/** What the journal keeps in memory of a task that is live: where its state begins on disk, and its body while there is room. */
import { InvariantError } from '../../base/errors.ts';
import type { JournalResult, JournalState, ReceivedTask } from './journal-types.ts';
import type { Commit } from './journal-writer.ts';
import { RECORD_BYTES_MAX, recordBytes, type EncodedRecord, type JournalRecord } from './record.ts';
import type { RecordLocation } from './segment.ts';

/** A live task. */
export interface LiveTask {
  readonly taskId: string;
  /** JSON. */
  readonly meta: string;
  state: JournalState;
  attempts: number;
  /** Where its state begins; undefined until that is durable. */
  location: RecordLocation | undefined;
  /** The body, while it is not on disk yet or as long as the cache has room. */
  body: { readonly bytes: Buffer; readonly isCached: boolean } | undefined;
  /** The result, until it is durable. */
  pendingResult: { readonly result: JournalResult; readonly commit: Commit } | undefined;
  doneSettled: Promise<void> | undefined;
  /** Its place in the table of running tasks. */
  cell: number | undefined;
}

/** Says where the state of a task begins now; that segment must stay until it moves on. */
export function pin(live: LiveTask, location: RecordLocation): void {
  unpin(live);
  live.location = location;
  location.segment.liveCount += 1;
  location.segment.liveBytes += location.length;
}

/** A task as it comes in. */
export function newLiveTask(task: ReceivedTask, started: boolean): LiveTask {
  return {
    taskId: task.taskId,
    meta: JSON.stringify(task.meta),
    state: started ? 'started' : 'received',
    attempts: started ? 1 : 0,
    location: undefined,
    body: undefined,
    pendingResult: undefined,
    doneSettled: undefined,
    cell: undefined,
  };
}

/** Gives up the place where the state of a task began. */
export function unpin(live: LiveTask): void {
  if (live.location !== undefined) {
    live.location.segment.liveCount -= 1;
    live.location.segment.liveBytes -= live.location.length;
    live.location = undefined;
  }
}

/** The record where a task's state begins; it may be carried to another segment while it is being read. */
export async function readRecord(live: LiveTask): Promise<JournalRecord> {
  for (;;) {
    const from = live.location;
    if (from === undefined) {
      throw new InvariantError(`task ${live.taskId} is no longer in the journal`);
    }
    try {
      return await from.segment.read(from.offset, from.length);
    } catch (error) {
      if (live.location === from) {
        throw error;
      }
    }
  }
}

/** @throws InvariantError when a record is larger than any message may be. */
export function checkSize(taskId: string, record: EncodedRecord): void {
  if (recordBytes(record) > RECORD_BYTES_MAX) {
    throw new InvariantError(
      `task ${taskId} has ${recordBytes(record)} bytes, over the bound of a journal record`,
    );
  }
}

/** JSON that this journal wrote and that has passed its checksum. */
export function parseJson(text: string): Readonly<Record<string, unknown>> {
  return JSON.parse(text) as Record<string, unknown>;
}

/** Bodies of tasks that wait for a slot. The oldest tasks are dispatched first, so the oldest are what is kept. */
export class BodyCache {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Keeps the body when there is room. */
  keep(live: LiveTask, bytes: Buffer): void {
    if (this.#bytes + bytes.length > this.#bytesMax) {
      return;
    }
    this.#bytes += bytes.length;
    // A small view of a large chunk of a socket would keep the whole chunk alive.
    const isView = bytes.buffer.byteLength > bytes.length * 2 + 16 * 1024;
    live.body = { bytes: isView ? Buffer.from(bytes) : bytes, isCached: true };
  }

  /** Forgets the body, if it was kept. */
  drop(live: LiveTask): void {
    if (live.body?.isCached === true) {
      this.#bytes -= live.body.bytes.length;
      live.body = undefined;
    }
  }
}

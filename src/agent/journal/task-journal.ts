/**
 * The task journal: what makes it safe to ack a delivery before its task runs.
 *
 * Keeps  I1  `received` resolves only when the task is durable: ack after that.
 *        I2  whatever was received and not confirmed or handed back is recovered by the next `openJournal`.
 *        I3  `lookup` knows every id that was ever received, until its tombstone is 14 days old.
 *        I4  a result leaves only by `confirmed`.
 *        I5  `started` (or `received` with `started`) is durable before the task is dispatched.
 *        I6  bytes on disk, bodies in memory, tombstones and what waits while the disk is full are bounded.
 *
 * A task pins the segment in which its state begins (RECEIVED, or DONE once there is a result). Segments are dropped oldest first,
 * when nothing pins them and the keys of the tasks confirmed in them stand in a tombstone file. A segment that is held by a few old
 * tasks while most of the journal is dead is emptied by writing those tasks again at the end ("carrying").
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { errorText, InvariantError, UnavailableError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { taskKey } from '../../protocol/task-id.ts';
import type {
  Journal,
  JournalResult,
  JournalState,
  JournalStats,
  ReceivedTask,
} from './journal-types.ts';
import type { Commit, JournalWriter } from './journal-writer.ts';
import {
  BodyCache,
  checkSize,
  newLiveTask,
  parseJson,
  pin,
  readRecord,
  unpin,
  type LiveTask,
} from './live-task.ts';
import {
  encodeDone,
  encodeIds,
  encodeReceived,
  encodeStarted,
  recordBytes,
  type EncodedRecord,
} from './record.ts';
import type { RunningTable } from './running-table.ts';
import { SegmentUpkeep } from './segment-upkeep.ts';
import { expectRecord, type RecordLocation, type Segment } from './segment.ts';
import type { TombstoneFiles } from './tombstone-files.ts';
import type { TombstoneTable } from './tombstone-table.ts';

/** A confirmation is written with the next batch, or alone after this long: losing it costs one more publish of a result. */
const CONFIRM_DELAY_MS = 1000;

/** Confirmations that may wait for a batch. */
const CONFIRM_COUNT_MAX = 4096;

/** What `openJournal` puts together. */
export interface TaskJournalParts {
  readonly directory: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly segmentBytesMax: number;
  readonly epochDirectory: string;
  readonly bytesMax: number;
  readonly bodyCacheBytesMax: number;
  readonly tombstones: TombstoneTable;
  readonly tombstoneFiles: TombstoneFiles;
  readonly running: RunningTable;
  /** Oldest first; the writer's new segments are appended by whoever creates them. */
  readonly segments: Segment[];
}

/** The journal on disk. Made by `openJournal`. */
export class TaskJournal implements Journal {
  readonly #parts: TaskJournalParts;
  readonly #live = new Map<string, LiveTask>();
  readonly #fullListeners: ((full: boolean) => void)[] = [];
  readonly #writer: JournalWriter;
  #confirming: LiveTask[] = [];
  #confirmTimer: Timer | undefined;
  readonly #bodies: BodyCache;
  #isBytesFull = false;
  #wasFull = false;
  readonly #upkeep: SegmentUpkeep;
  #isClosed = false;
  #closing: Promise<void> | undefined;

  constructor(parts: TaskJournalParts, makeWriter: (journal: TaskJournal) => JournalWriter) {
    this.#parts = parts;
    this.#bodies = new BodyCache(parts.bodyCacheBytesMax);
    this.#writer = makeWriter(this);
    this.#upkeep = new SegmentUpkeep({
      ...parts,
      writer: this.#writer,
      isBytesFull: () => this.#isBytesFull,
      carry: async (segment) => {
        await this.carry(this.#pinnedTo(segment));
      },
      onDropped: () => {
        this.#checkBytes();
      },
    });
  }

  get stats(): JournalStats {
    const error = this.#writer.lastError ?? this.#upkeep.lastError;
    return {
      liveCount: this.#live.size,
      bytes: this.#bytes(),
      segments: this.#parts.segments.length,
      tombstones: this.#parts.tombstones.count,
      full: this.#isFull(),
      pendingBytes: this.#writer.pendingBytes,
      batches: this.#writer.batchCount,
      ...(error === undefined ? {} : { lastError: errorText(error) }),
    };
  }

  onFullChange(listener: (full: boolean) => void): void {
    this.#fullListeners.push(listener);
  }

  lookup(taskId: string): 'new' | 'live' | 'confirmed' {
    if (this.#live.has(taskId)) {
      return 'live';
    }
    return this.#parts.tombstones.has(taskKey(taskId)) ? 'confirmed' : 'new';
  }

  async received(task: ReceivedTask, started: boolean): Promise<void> {
    const known = this.lookup(task.taskId);
    if (known !== 'new') {
      throw new InvariantError(
        `task ${task.taskId} was received twice; it is ${known} in the journal`,
      );
    }
    const live = newLiveTask(task, started);
    const record = encodeReceived(task.taskId, started, live.attempts, live.meta, task.body);
    checkSize(task.taskId, record);
    if (this.#bytes() + this.#writer.pendingBytes + recordBytes(record) > this.#parts.bytesMax) {
      this.#setBytesFull(true);
      this.#upkeep.start();
    }
    if (this.#isBytesFull) {
      throw this.#bytesFullError();
    }
    this.#live.set(task.taskId, live);
    live.body = { bytes: task.body, isCached: false };
    await new Promise<void>((resolve, reject) => {
      this.#writer.append({
        record,
        isIntake: true,
        written: (location) => {
          pin(live, location);
          live.body = undefined;
          if (!started && live.state === 'received' && this.#live.get(task.taskId) === live) {
            this.#bodies.keep(live, task.body);
          }
          resolve();
        },
        refused: (error) => {
          this.#live.delete(task.taskId);
          reject(error);
        },
      });
    });
  }

  async started(taskId: string): Promise<void> {
    const live = this.#known(taskId);
    if (live.state === 'done') {
      throw new InvariantError(`task ${taskId} was started after it had a result`);
    }
    live.state = 'started';
    live.attempts += 1;
    this.#bodies.drop(live);
    await this.#append(encodeStarted(taskId, live.attempts), () => undefined);
  }

  get runningTablePath(): string {
    return this.#parts.running.path;
  }

  cell(taskId: string): number | undefined {
    const live = this.#known(taskId);
    if (live.cell === undefined) {
      live.cell = this.#parts.running.reserve();
    } else {
      // The mark of the attempt before: this one is durable as started by now, and has not begun.
      this.#parts.running.clear(live.cell);
    }
    return live.cell;
  }

  hasBegun(taskId: string): boolean {
    const { cell } = this.#known(taskId);
    return cell === undefined || this.#parts.running.holds(cell, taskKey(taskId));
  }

  async done(taskId: string, result: JournalResult): Promise<void> {
    const live = this.#known(taskId);
    if (live.doneSettled !== undefined || live.state === 'done') {
      this.#parts.logger.debug({ taskId }, 'a second result of a task was ignored');
      await live.doneSettled;
      return;
    }
    const headers = JSON.stringify(result.headers);
    const record = encodeDone(taskId, live.attempts, live.meta, headers, result.body);
    checkSize(taskId, record);
    live.state = 'done';
    this.#bodies.drop(live);
    live.doneSettled = new Promise<void>((resolve, reject) => {
      const commit: Commit = {
        record,
        isIntake: false,
        written: (location) => {
          pin(live, location);
          live.pendingResult = undefined;
          this.#freeCell(live);
          resolve();
        },
        refused: (error) => {
          if (this.#live.get(taskId) === live) {
            // The result stays readable from memory: the caller may still publish it.
            reject(error);
          } else {
            resolve();
          }
        },
      };
      live.pendingResult = { result, commit };
      this.#writer.append(commit);
    });
    await live.doneSettled;
  }

  confirmed(taskId: string): void {
    const live = this.#live.get(taskId);
    if (live === undefined || this.#isClosed) {
      this.#parts.logger.debug(
        { taskId },
        'a confirmation for a task that is not live was ignored',
      );
      return;
    }
    this.#live.delete(taskId);
    this.#bodies.drop(live);
    this.#parts.tombstones.add(taskKey(live.taskId));
    if (live.pendingResult !== undefined) {
      // Should the disk be full: the result has reached its destination, writing it would be in vain.
      this.#writer.withdraw(live.pendingResult.commit);
    }
    this.#confirming.push(live);
    if (this.#confirming.length >= CONFIRM_COUNT_MAX) {
      this.#flushConfirmed();
      return;
    }
    const flush = (): void => {
      this.#flushConfirmed();
    };
    this.#confirmTimer ??= this.#parts.clock.after(CONFIRM_DELAY_MS, flush, { background: true });
  }

  async handedBack(taskIds: readonly string[]): Promise<void> {
    const tasks = taskIds.map((taskId) => this.#known(taskId));
    if (tasks.length === 0) {
      return;
    }
    for (const live of tasks) {
      // At once, not when durable: the task may be delivered again before that, and must then be new.
      this.#live.delete(live.taskId);
      this.#bodies.drop(live);
    }
    const record = encodeIds(
      'handedBack',
      tasks.map((live) => live.taskId),
    );
    await this.#append(record, () => {
      for (const live of tasks) {
        unpin(live);
        this.#freeCell(live);
      }
    });
  }

  async readTask(taskId: string): Promise<Buffer> {
    const live = this.#known(taskId);
    if (live.body !== undefined) {
      return live.body.bytes;
    }
    if (live.state === 'done' || live.location === undefined) {
      throw new InvariantError(`the body of task ${taskId} was asked for after it had a result`);
    }
    return expectRecord(await readRecord(live), 'received').body;
  }

  async readResult(taskId: string): Promise<JournalResult> {
    const live = this.#known(taskId);
    if (live.pendingResult !== undefined) {
      return live.pendingResult.result;
    }
    if (live.state !== 'done' || live.location === undefined) {
      throw new InvariantError(`the result of task ${taskId} was asked for before there was one`);
    }
    const record = expectRecord(await readRecord(live), 'done');
    return { body: record.body, headers: parseJson(record.headers.toString('utf8')) };
  }

  async compact(): Promise<number> {
    const bytesBefore = this.#bytes();
    this.#flushConfirmed();
    if (!this.#isClosed && !this.#isFull()) {
      await this.#writer.idle();
      await this.#upkeep.compact();
    }
    return Math.max(0, bytesBefore - this.#bytes());
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  /** @internal Takes over a task that a replay found. */
  adopt(task: {
    taskId: string;
    state: JournalState;
    attempts: number;
    meta: string;
    location: RecordLocation;
    cell?: number;
  }): void {
    const live: LiveTask = {
      ...task,
      location: undefined,
      body: undefined,
      pendingResult: undefined,
      doneSettled: task.state === 'done' ? Promise.resolve() : undefined,
      cell: task.cell,
    };
    const known = this.#live.get(task.taskId);
    if (known !== undefined) {
      unpin(known);
    }
    this.#live.set(task.taskId, live);
    pin(live, task.location);
  }

  /** @internal Writes these live tasks again at the end of the journal; durable when resolved. */
  async carry(taskIds: readonly string[]): Promise<void> {
    const writes: Promise<void>[] = [];
    for (const taskId of taskIds) {
      const live = this.#live.get(taskId);
      const from = live?.location;
      if (live === undefined || from === undefined) {
        continue;
      }
      const record = await from.segment.read(from.offset, from.length);
      // It may have moved on while it was read; then its new state is at the end already, or soon will be.
      if (
        this.#live.get(taskId) !== live ||
        live.location !== from ||
        live.pendingResult !== undefined
      ) {
        continue;
      }
      const encoded =
        record.type === 'done'
          ? encodeDone(
              taskId,
              live.attempts,
              live.meta,
              record.headers.toString('utf8'),
              record.body,
            )
          : encodeReceived(
              taskId,
              live.state === 'started',
              live.attempts,
              live.meta,
              expectRecord(record, 'received').body,
            );
      writes.push(
        this.#append(encoded, (location) => {
          pin(live, location);
        }),
      );
    }
    await Promise.all(writes);
  }

  /** @internal The confirmations that wait, as one record for the writer's next batch. */
  takeConfirmed(): Commit | undefined {
    this.#confirmTimer?.cancel();
    this.#confirmTimer = undefined;
    const tasks = this.#confirming;
    if (tasks.length === 0) {
      return undefined;
    }
    this.#confirming = [];
    return {
      record: encodeIds(
        'confirmed',
        tasks.map((live) => live.taskId),
      ),
      isIntake: false,
      written: ({ segment }) => {
        for (const live of tasks) {
          segment.confirmedKeys.push(taskKey(live.taskId));
          unpin(live);
          this.#freeCell(live);
        }
      },
      refused: (error) => {
        // Only when closing with a full disk: these results will be published once more, which does no harm.
        this.#parts.logger.warn(
          { err: error, count: tasks.length },
          'confirmations were not journalled',
        );
      },
    };
  }

  /** @internal Begins to write and to clear up. */
  start(): void {
    this.#writer.start();
    this.#upkeep.start();
  }

  /** @internal Waits for `work`, but no longer than until the journal is full. Never rejects. */
  async settledOrFull(work: Promise<void>): Promise<void> {
    await new Promise<void>((resolve) => {
      this.onFullChange((full) => {
        if (full) {
          resolve();
        }
      });
      work.then(resolve, () => {
        // Logged where the work was started.
        resolve();
      });
    });
  }

  /** @internal After each batch: drops what is dead. */
  afterBatch(): void {
    this.#checkBytes();
    this.#upkeep.start();
  }

  /** @internal Tells the listeners when the sum of all reasons to be full has changed. */
  announceFull(): void {
    const full = this.#isFull();
    if (full !== this.#wasFull) {
      this.#wasFull = full;
      this.#fullListeners.forEach((listener) => {
        listener(full);
      });
    }
  }

  async #append(record: EncodedRecord, written: (location: RecordLocation) => void): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#writer.append({
        record,
        isIntake: false,
        written: (location) => {
          written(location);
          resolve();
        },
        refused: reject,
      });
    });
  }

  #freeCell(live: LiveTask): void {
    if (live.cell !== undefined) {
      this.#parts.running.free(live.cell);
      live.cell = undefined;
    }
  }

  #known(taskId: string): LiveTask {
    const live = this.#live.get(taskId);
    if (live === undefined) {
      throw new InvariantError(`task ${taskId} is not in the journal`);
    }
    return live;
  }

  #flushConfirmed(): void {
    const commit = this.takeConfirmed();
    if (commit !== undefined) {
      this.#writer.append(commit);
    }
  }

  #isFull(): boolean {
    return this.#isBytesFull || this.#writer.isFull;
  }

  #bytes(): number {
    return this.#parts.segments.reduce(
      (sum, segment) => sum + segment.size,
      this.#parts.tombstoneFiles.bytes,
    );
  }

  /** Ends being full with some room to spare, so that it does not change with every task. */
  #checkBytes(): void {
    const { bytesMax } = this.#parts;
    if (this.#isBytesFull && this.#bytes() + this.#writer.pendingBytes <= bytesMax * 0.9) {
      this.#setBytesFull(false);
    }
  }

  #setBytesFull(full: boolean): void {
    this.#isBytesFull = full;
    this.announceFull();
  }

  #bytesFullError(): UnavailableError {
    return new UnavailableError(
      'JOURNAL_FULL',
      `the task journal under ${this.#parts.directory} has reached its bound of ${this.#parts.bytesMax} bytes: new tasks wait in their queue until results have been delivered`,
    );
  }

  #pinnedTo(segment: Segment): string[] {
    const tasks = [...this.#live.values()].filter((live) => live.location?.segment === segment);
    return tasks.map((live) => live.taskId);
  }

  async #close(): Promise<void> {
    this.#flushConfirmed();
    this.#isClosed = true;
    await this.#writer.close();
    await this.#upkeep.finish();
    await this.#parts.tombstoneFiles.close();
    this.#parts.running.close();
    for (const segment of this.#parts.segments) {
      await segment.close();
    }
  }
}

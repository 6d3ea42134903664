/**
 * The one writer of a journal: group commit, rotation, and what happens when the disk refuses.
 *
 * Group commit: what arrives within one turn of the event loop, and while a sync is in flight, is one write to a file
 * whose writes are durable when they return (O_DSYNC).
 * Nothing here waits on a timer while the disk works (I8).
 *
 *   writing ──error──▶ refuse new tasks, give back the reserve, try again at once
 *                         └──error──▶ stalled: try again every second or so, for ever; what must not be lost waits in memory,
 *                                     bounded (I6)
 *   all written, reserve made again ──▶ not full any more
 *
 * When the disk has no room the segment is cut back to its last good byte; after any other error nothing is known about the pages, so
 * the segment is left and the records are written again into a new one (records may be repeated, see record.ts).
 */
import type { FileHandle } from 'node:fs/promises';

import { backoffDelayMs } from '../../base/backoff.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { errorCode, errorText, InvariantError, UnavailableError } from '../../base/errors.ts';
import { detach, type Logger } from '../../base/logger.ts';
import type { DiskReserve } from './disk-reserve.ts';
import { recordBytes, type EncodedRecord } from './record.ts';
import { writeAll, type RecordLocation, type Segment } from './segment.ts';
import { WriteBatch } from './write-batch.ts';

/** Results that may wait in memory while the disk is full, in bytes; past it they are refused to their callers. */
const PENDING_BYTES_MAX = 256 * 1024 * 1024;

const RETRY = { baseMs: 500, maxMs: 5000 };

/** A record on its way to the disk. Exactly one of the callbacks is called. */
export interface Commit {
  readonly record: EncodedRecord;
  /** New work: refused rather than kept when the disk is full. */
  readonly isIntake: boolean;
  /** Durable at that place. Called in the order of the log. */
  readonly written: (location: RecordLocation) => void;
  readonly refused: (error: Error) => void;
}

/** What a writer needs. */
export interface JournalWriterOptions {
  readonly directory: string;
  readonly segmentBytesMax: number;
  readonly reserve: DiskReserve;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly createSegment: () => Promise<Segment>;
  /** A record that goes along with the next batch, if there is one waiting. */
  readonly piggyback: () => Commit | undefined;
  readonly onBatch: () => void;
  readonly onFullChange: (full: boolean) => void;
}

/** Appends records to segments, many at a time. */
export class JournalWriter {
  readonly #options: JournalWriterOptions;
  readonly #batch = new WriteBatch();
  #queue: Commit[] = [];
  #pendingBytes = 0;
  #batchCount = 0;
  readonly #withdrawn = new Set<Commit>();
  #active: Segment | undefined;
  #isRunning = false;
  #isClosing = false;
  #isStalled = false;
  #isFull = false;
  #isReserveDue = true;
  #isReserveReleased = false;
  #mustRotate = false;
  #retryCount = 0;
  #retryTimer: Timer | undefined;
  #lastError: Error | undefined;
  #idleWaiters: (() => void)[] = [];

  constructor(options: JournalWriterOptions) {
    this.#options = options;
  }

  get active(): Segment | undefined {
    return this.#active;
  }

  get isFull(): boolean {
    return this.#isFull;
  }

  /** Bytes that wait to be written. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** Attempts to write that have ended, well or not. */
  get batchCount(): number {
    return this.#batchCount;
  }

  /** Why the disk counts as full. */
  get lastError(): Error | undefined {
    return this.#lastError;
  }

  /** Makes the reserve, which also tells whether the disk has room at all. */
  start(): void {
    this.#wake();
  }

  append(commit: Commit): void {
    if (this.#isClosing) {
      commit.refused(new InvariantError('the task journal is closed'));
      return;
    }
    const bytes = recordBytes(commit.record);
    const refusesIntake = commit.isIntake && this.#isFull;
    if (refusesIntake || (this.#isStalled && this.#pendingBytes + bytes > PENDING_BYTES_MAX)) {
      commit.refused(this.fullError());
      return;
    }
    this.#queue.push(commit);
    this.#pendingBytes += bytes;
    this.#wake();
  }

  /** The record is no longer needed: should the disk not take it, it is refused instead of being kept. */
  withdraw(commit: Commit): void {
    this.#withdrawn.add(commit);
    if (this.#isStalled) {
      this.#refuse((queued) => this.#withdrawn.has(queued));
    }
  }

  /** The next record begins a new segment. */
  rotate(): void {
    if (this.#isRunning) {
      this.#mustRotate = true;
    } else {
      this.#active = undefined;
    }
  }

  /** Something was freed: try again now. */
  retryNow(): void {
    if (this.#isFull && !this.#isClosing) {
      this.#retry();
    }
  }

  /** The error for whoever cannot be served. */
  fullError(): UnavailableError {
    const why = this.#lastError === undefined ? 'no room' : errorText(this.#lastError);
    return new UnavailableError(
      'JOURNAL_FULL',
      `the task journal under ${this.#options.directory} cannot be written (${why}): free disk space there; running tasks go on, and new ones wait in their queue until then`,
      { cause: this.#lastError },
    );
  }

  /** Resolves when nothing waits and nothing is in flight. Never resolves while stalled, unless the writer is closed. */
  async idle(): Promise<void> {
    if (this.#isRunning || this.#queue.length > 0) {
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve);
      });
    }
  }

  /** Writes what waits. What the disk does not take in one more attempt is refused. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#retryTimer?.cancel();
    this.#isStalled = false;
    if (this.#queue.length > 0) {
      this.#wake();
    }
    await this.idle();
  }

  #wake(): void {
    if (this.#isRunning || this.#isStalled) {
      return;
    }
    this.#isRunning = true;
    setImmediate(() => {
      detach(this.#options.logger, 'journal writer', this.#run());
    });
  }

  async #run(): Promise<void> {
    while (this.#hasWork()) {
      const problem = await (this.#queue.length > 0 ? this.#commitBatch() : this.#makeReserve());
      this.#batchCount += 1;
      if (problem !== undefined) {
        await this.#onProblem(problem);
      }
    }
    this.#isRunning = false;
    if (this.#mustRotate) {
      this.#mustRotate = false;
      this.#active = undefined;
    }
    if (this.#isFull && this.#retryTimer === undefined && !this.#isClosing) {
      this.#scheduleRetry();
    }
    if (this.#queue.length === 0) {
      const waiters = this.#idleWaiters;
      this.#idleWaiters = [];
      waiters.forEach((resolve) => {
        resolve();
      });
    }
  }

  #hasWork(): boolean {
    if (this.#isStalled) {
      return false;
    }
    return this.#queue.length > 0 || (this.#isReserveDue && !this.#isClosing);
  }

  /** Writes and syncs as much of the queue as fits into one batch; returns what went wrong, if anything. */
  async #commitBatch(): Promise<Error | undefined> {
    const extra = this.#options.piggyback();
    if (extra !== undefined) {
      this.#queue.push(extra);
      this.#pendingBytes += recordBytes(extra.record);
    }
    let segment: Segment;
    let handle: FileHandle;
    try {
      segment = await this.#segment();
      handle = await segment.handle();
    } catch (error) {
      return error as Error;
    }
    const count = this.#fillBatch(segment);
    try {
      await writeAll(handle, this.#batch.buffers(), segment.size);
    } catch (error) {
      await this.#cutBack(segment, handle, error);
      return error as Error;
    }
    this.#settle(segment, count);
    return undefined;
  }

  /** The segment for the first record of the queue. */
  async #segment(): Promise<Segment> {
    const first = this.#queue[0];
    const active = this.#active;
    const isFresh = active?.isFresh === true;
    const isOver =
      active !== undefined &&
      first !== undefined &&
      active.size + recordBytes(first.record) > this.#options.segmentBytesMax;
    if (active !== undefined && (isFresh || (!this.#mustRotate && !isOver))) {
      return active;
    }
    this.#mustRotate = false;
    this.#active = undefined;
    const segment = await this.#options.createSegment();
    this.#active = segment;
    return segment;
  }

  #fillBatch(segment: Segment): number {
    this.#batch.begin(segment.header.salt);
    let count = 0;
    for (const commit of this.#queue) {
      const end = segment.size + this.#batch.bytes + recordBytes(commit.record);
      if (count > 0 && end > this.#options.segmentBytesMax) {
        break;
      }
      if (!this.#batch.add(commit.record)) {
        break;
      }
      count += 1;
    }
    return count;
  }

  #settle(segment: Segment, count: number): void {
    const commits = this.#queue.splice(0, count);
    for (const commit of commits) {
      const length = recordBytes(commit.record);
      const offset = segment.size;
      segment.size += length;
      this.#pendingBytes -= length;
      this.#withdrawn.delete(commit);
      commit.written({ segment, offset, length });
    }
    this.#options.onBatch();
  }

  async #cutBack(segment: Segment, handle: FileHandle, error: unknown): Promise<void> {
    const isSpace = errorCode(error) === 'ENOSPC' || errorCode(error) === 'EDQUOT';
    try {
      await handle.truncate(segment.size);
      if (!isSpace) {
        this.#active = undefined;
      }
    } catch (truncateError) {
      this.#options.logger.debug(
        { err: truncateError },
        'a journal segment could not be cut back and is left',
      );
      this.#active = undefined;
    }
  }

  async #makeReserve(): Promise<Error | undefined> {
    this.#isReserveDue = false;
    try {
      await this.#options.reserve.ensure();
    } catch (error) {
      return error as Error;
    }
    this.#isReserveReleased = false;
    this.#retryCount = 0;
    if (this.#isFull) {
      this.#isFull = false;
      this.#lastError = undefined;
      this.#options.logger.info({}, 'the task journal can be written again');
      this.#options.onFullChange(false);
    }
    return undefined;
  }

  async #onProblem(problem: Error): Promise<void> {
    this.#lastError = problem;
    if (!this.#isFull) {
      this.#isFull = true;
      this.#options.logger.error({ err: problem }, 'the task journal cannot be written');
      this.#options.onFullChange(true);
    }
    this.#refuse((commit) => commit.isIntake || this.#withdrawn.has(commit));
    if (!this.#isReserveReleased) {
      this.#isReserveReleased = true;
      try {
        await this.#options.reserve.release();
      } catch (error) {
        this.#options.logger.warn(
          { err: error },
          'the reserve of the task journal could not be released',
        );
      }
      return;
    }
    if (this.#isClosing) {
      this.#refuse(() => true);
      return;
    }
    this.#isStalled = true;
  }

  #refuse(which: (commit: Commit) => boolean): void {
    const refused = this.#queue.filter(which);
    this.#queue = this.#queue.filter((commit) => !which(commit));
    const error = this.fullError();
    for (const commit of refused) {
      this.#pendingBytes -= recordBytes(commit.record);
      this.#withdrawn.delete(commit);
      commit.refused(error);
    }
  }

  #scheduleRetry(): void {
    const delayMs = backoffDelayMs(this.#retryCount, RETRY);
    this.#retryCount += 1;
    const retry = (): void => {
      this.#retry();
    };
    this.#retryTimer = this.#options.clock.after(delayMs, retry, { background: true });
  }

  #retry(): void {
    this.#retryTimer?.cancel();
    this.#retryTimer = undefined;
    this.#isStalled = false;
    this.#isReserveDue = true;
    this.#wake();
  }
}

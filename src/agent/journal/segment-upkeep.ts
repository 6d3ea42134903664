/**
 * Drops segments in which nothing is live, oldest first, and empties the oldest one when it is all that keeps a mostly dead
 * journal on the disk. Runs beside the writer, one run at a time; a failure is told, and tried again after the next batch.
 */
import { rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';

import { errorCode } from '../../base/errors.ts';
import { detach, type Logger } from '../../base/logger.ts';
import type { JournalWriter } from './journal-writer.ts';
import type { Segment } from './segment.ts';
import { removeFile, type TombstoneFiles } from './tombstone-files.ts';

/** Less than this is not worth writing live tasks again, not even in a quiet hour. */
const COMPACTED_BYTES_MIN = 1024 * 1024;

/** What the upkeep works on. */
export interface SegmentUpkeepOptions {
  readonly logger: Logger;
  readonly segmentBytesMax: number;
  readonly bytesMax: number;
  readonly epochDirectory: string;
  readonly segments: Segment[];
  readonly tombstoneFiles: TombstoneFiles;
  readonly writer: JournalWriter;
  readonly isBytesFull: () => boolean;
  /** Writes the tasks that pin a segment again at the end of the journal. */
  readonly carry: (segment: Segment) => Promise<void>;
  readonly onDropped: () => void;
}

/** The upkeep of one journal. */
export class SegmentUpkeep {
  readonly #options: SegmentUpkeepOptions;
  #run: Promise<void> | undefined;
  #isFinishing = false;
  #isCompacting = false;
  #lastError: unknown;

  constructor(options: SegmentUpkeepOptions) {
    this.#options = options;
  }

  /** Why the last run failed. */
  get lastError(): unknown {
    return this.#lastError;
  }

  /** Starts a run when there is something to do and none is under way. */
  start(): void {
    if (this.#run === undefined && this.#isDue()) {
      this.#run = this.#keepUp();
      detach(this.#options.logger, 'journal upkeep', this.#run);
    }
  }

  /** A run that also empties what is small and mostly dead, for a quiet hour. */
  async compact(): Promise<void> {
    await this.#run;
    this.#isCompacting = true;
    try {
      const { active } = this.#options.writer;
      if (active?.isFresh === false && active.liveBytes * 2 < active.size) {
        this.#options.writer.rotate();
      }
      this.start();
      await this.#run;
    } finally {
      this.#isCompacting = false;
    }
  }

  /** The last run, after the writer has ended: when nothing is live, nothing stays for the next start to read. */
  async finish(): Promise<void> {
    this.#isFinishing = true;
    await this.#run;
    this.#options.writer.rotate();
    this.start();
    await this.#run;
  }

  #isDue(): boolean {
    const oldest = this.#options.segments[0];
    if (oldest === undefined) {
      return false;
    }
    const isDead = oldest !== this.#options.writer.active && oldest.liveCount === 0;
    return isDead || this.#options.isBytesFull() || this.#isCarryDue();
  }

  /** Whether most of what is on disk is dead, and the oldest segment keeps it from being dropped. */
  #isCarryDue(): boolean {
    const { segments, segmentBytesMax, bytesMax, writer, isBytesFull } = this.#options;
    if (this.#isFinishing || writer.isFull || segments[0] === writer.active) {
      return false;
    }
    let [sealedBytes, liveBytes] = [0, 0];
    for (const segment of segments) {
      sealedBytes += segment === writer.active ? 0 : segment.size;
      liveBytes += segment.liveBytes;
    }
    const largeBytes = Math.min(4 * segmentBytesMax, bytesMax / 2);
    const isLarge = sealedBytes > (this.#isCompacting ? COMPACTED_BYTES_MIN : largeBytes);
    return (isLarge || isBytesFull()) && liveBytes * 2 < sealedBytes;
  }

  async #keepUp(): Promise<void> {
    try {
      await this.#dropDead();
      this.#lastError = undefined;
    } catch (error) {
      this.#lastError = error;
      this.#options.logger.warn(
        { err: error },
        'old segments of the task journal could not be dropped',
      );
    } finally {
      this.#run = undefined;
    }
  }

  async #dropDead(): Promise<void> {
    const { segments, writer, isBytesFull, carry } = this.#options;
    const active = writer.active;
    // Over the bound, what is dead in the segment that is being written has to go as well.
    if (isBytesFull() && active?.isFresh === false && active.liveBytes * 2 < active.size) {
      writer.rotate();
    }
    for (;;) {
      const oldest = segments[0];
      if (oldest === undefined || oldest === writer.active) {
        return;
      }
      if (oldest.liveCount > 0 && this.#isCarryDue()) {
        await carry(oldest);
      }
      if (oldest.liveCount > 0) {
        return;
      }
      await this.#drop(oldest);
    }
  }

  async #drop(segment: Segment): Promise<void> {
    const { segments, tombstoneFiles, epochDirectory, writer, onDropped } = this.#options;
    // First the tombstones (I3): a crash in between leaves an id in both places, which does no harm.
    await tombstoneFiles.append(segment.confirmedKeys.bytes());
    await segment.close();
    await removeFile(segment.path);
    segments.shift();
    const directory = dirname(segment.path);
    const isInUse = segments.some((other) => dirname(other.path) === directory);
    if (directory !== epochDirectory && !isInUse) {
      await removeEmptyDirectory(directory);
    }
    onDropped();
    writer.retryNow();
  }
}

async function removeEmptyDirectory(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    // A damaged segment that was kept aside stays where it is.
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(errorCode(error) ?? '')) {
      throw error;
    }
  }
}

/**
 * A log file with a budget for it and its predecessors together: when it is full it becomes `name.1`, `name.1` becomes `name.2`, and
 * the oldest goes (I6). At no moment do they hold more than `bytesMax`.
 *
 * Lines are written synchronously, so that the last words of a crash are on disk; the log is quiet enough for that. A line
 * that cannot be written is dropped: a full disk must not end the agent, whose journal reports the disk itself.
 */
import { closeSync, fstatSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';

import { errorCode } from '../base/errors.ts';

/** Bounds of the log. */
export interface RotatingFileOptions {
  readonly path: string;
  /** For all files together. */
  readonly bytesMax?: number;
  /** Older files beside the one that is written. */
  readonly olderCountMax?: number;
}

/** Budget of a log that nobody has set one for. */
const BYTES_MAX = 64 * 1024 * 1024;
const OLDER_COUNT_MAX = 4;
/** A longer line is cut: it would push out everything else that is worth reading. */
const LINE_BYTES_MAX = 256 * 1024;
/** How much of a line that is cut stays. */
const CUT_LINE_CHARS = 4096;
/** Numbers beyond are not looked for when the budget shrinks. */
const NUMBER_MAX = 100;

/** Writes lines to a file that is rotated by size. */
export class RotatingFile {
  readonly #path: string;
  readonly #olderCountMax: number;
  #bytesMax: number;
  #descriptor: number;
  #bytes: number;
  #droppedCount = 0;

  constructor({
    path,
    bytesMax = BYTES_MAX,
    olderCountMax = OLDER_COUNT_MAX,
  }: RotatingFileOptions) {
    this.#path = path;
    this.#bytesMax = bytesMax;
    this.#olderCountMax = olderCountMax;
    this.#descriptor = openSync(path, 'a', 0o600);
    this.#bytes = fstatSync(this.#descriptor).size;
    this.#keepToBudget();
  }

  /** Lines that could not be written. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  /** Gives the files another budget, from now on. */
  setBytesMax(bytesMax: number): void {
    this.#bytesMax = bytesMax;
    this.#keepToBudget();
  }

  /** Appends a line, which ends in a line feed. */
  write(line: string): void {
    this.#guard(() => {
      const whole = Buffer.from(line);
      const bytes =
        whole.length > Math.min(LINE_BYTES_MAX, this.#fileBytesMax)
          ? Buffer.from(cutLine(line, whole.length, this.#fileBytesMax))
          : whole;
      if (this.#bytes > 0 && this.#bytes + bytes.length > this.#fileBytesMax) {
        this.#rotate();
      }
      this.#bytes += writeSync(this.#descriptor, bytes);
    });
  }

  /** Closes the file; a later write is dropped. */
  close(): void {
    closeSync(this.#descriptor);
    this.#descriptor = -1;
  }

  get #fileBytesMax(): number {
    return Math.floor(this.#bytesMax / (this.#olderCountMax + 1));
  }

  #rotate(): void {
    for (let number = this.#olderCountMax; number > 0; number -= 1) {
      const from = number === 1 ? this.#path : `${this.#path}.${number - 1}`;
      try {
        renameSync(from, `${this.#path}.${number}`);
      } catch (error) {
        if (errorCode(error) !== 'ENOENT') {
          throw error;
        }
      }
    }
    const full = this.#descriptor;
    this.#descriptor = openSync(this.#path, 'a', 0o600);
    this.#bytes = fstatSync(this.#descriptor).size;
    closeSync(full);
    this.#removeBeyondBudget();
  }

  /** Files of a run with a larger budget: too long, or too many. */
  #keepToBudget(): void {
    this.#guard(() => {
      if (this.#bytes > this.#fileBytesMax) {
        this.#rotate();
      }
      this.#removeBeyondBudget();
    });
  }

  /** The oldest go until the rest and one full file fit. */
  #removeBeyondBudget(): void {
    let bytes = this.#fileBytesMax;
    for (let number = 1; number <= NUMBER_MAX; number += 1) {
      const path = `${this.#path}.${number}`;
      const found = statSync(path, { throwIfNoEntry: false });
      if (found === undefined) {
        if (number > this.#olderCountMax) {
          return;
        }
        continue;
      }
      bytes += found.size;
      if (number > this.#olderCountMax || bytes > this.#bytesMax) {
        rmSync(path, { force: true });
      }
    }
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (errorCode(error) === undefined) {
        throw error;
      }
      this.#droppedCount += 1;
    }
  }
}

/** A line that says how long it was and how it began; JSON, as the others are. */
function cutLine(line: string, bytes: number, fileBytesMax: number): string {
  // A character may become twelve bytes when it is escaped twice.
  const begins = line.slice(0, Math.min(CUT_LINE_CHARS, Math.floor(fileBytesMax / 24)));
  const entry = { level: 'warn', time: new Date().toISOString(), bytes, begins };
  return `${JSON.stringify({ ...entry, msg: 'a line was too long for the log and is cut' })}\n`;
}

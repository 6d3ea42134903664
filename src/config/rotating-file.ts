/**
 * A log file with a budget for it and its predecessors together: when it is full it becomes `name.1`, `name.1` becomes `name.2`, and
 * the oldest goes (I6). At no moment do they hold more than `bytesMax`, with one exception: while the files cannot be renewed (no
 * permission, no free descriptor, no room), the newest goes on to twice its share, and then begins anew.
 *
 * Lines are written synchronously, so that the last words of a crash are on disk; the log is quiet enough for that. A line
 * that cannot be written is dropped, and counted in the log as soon as that is possible: a full disk must not end the agent, whose
 * journal reports the disk itself.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';

import { errorCode, errorText } from '../base/errors.ts';

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
const LINE_FEED = Buffer.from('\n');
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
  /** Of those, what the log does not tell yet. */
  #untoldCount = 0;
  /** A line was written in part. */
  #isTorn = false;
  /** The file is beyond its share, and that has been said. */
  #isOverdue = false;

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
      const kept =
        whole.length > Math.min(LINE_BYTES_MAX, this.#fileBytesMax)
          ? cutLine(line, whole.length, this.#fileBytesMax)
          : whole;
      const bytes = this.#untoldCount === 0 ? kept : Buffer.concat([this.#untold(), kept]);
      this.#makeRoom(bytes.length + 1);
      this.#append(bytes);
      this.#untoldCount = 0;
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

  #untold(): Buffer {
    return entry({ droppedCount: this.#untoldCount }, 'lines could not be written to the log');
  }

  #append(bytes: Buffer): void {
    const whole = this.#isTorn ? Buffer.concat([LINE_FEED, bytes]) : bytes;
    for (let at = 0; at < whole.length;) {
      const written = writeSync(this.#descriptor, whole, at);
      this.#bytes += written;
      at += written;
      // The next line must not become part of this one when the rest cannot be written.
      this.#isTorn = at < whole.length;
    }
  }

  /** Another file when this one has no room for so many bytes; when there can be none, this one goes on. */
  #makeRoom(bytes: number): void {
    const isFull = this.#bytes > 0 && this.#bytes + bytes > this.#fileBytesMax;
    if (!isFull || this.#descriptor === -1) {
      return;
    }
    try {
      this.#rotate();
    } catch (error) {
      const reason = errorText(error);
      if (this.#bytes + bytes > 2 * this.#fileBytesMax) {
        ftruncateSync(this.#descriptor);
        this.#bytes = 0;
        this.#isTorn = false;
        this.#append(entry({ reason }, 'the log cannot be rotated, and has begun anew'));
      } else if (!this.#isOverdue) {
        this.#append(entry({ reason }, 'the log cannot be rotated, and goes on in the same file'));
      }
      this.#isOverdue = true;
      return;
    }
    this.#removeBeyondBudget();
  }

  #rotate(): void {
    // Opened before any file moves: whoever could move them and not go on would push out one after the other.
    const draft = `${this.#path}.new`;
    const next = openSync(draft, 'a', 0o600);
    try {
      ftruncateSync(next);
      this.#shift();
      renameSync(draft, this.#path);
    } catch (error) {
      closeSync(next);
      throw error;
    }
    const full = this.#descriptor;
    this.#descriptor = next;
    this.#bytes = 0;
    this.#isTorn = false;
    this.#isOverdue = false;
    closeSync(full);
  }

  #shift(): void {
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
  }

  /** Files of a run with a larger budget: too long, or too many. */
  #keepToBudget(): void {
    this.#guard(() => {
      this.#makeRoom(0);
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
      this.#untoldCount += 1;
    }
  }
}

/** A line that says how long it was and how it began. */
function cutLine(line: string, bytes: number, fileBytesMax: number): Buffer {
  // A character may become twelve bytes when it is escaped twice.
  const begins = line.slice(0, Math.min(CUT_LINE_CHARS, Math.floor(fileBytesMax / 24)));
  return entry({ bytes, begins }, 'a line was too long for the log and is cut');
}

/** What the log says of itself; JSON, as the other lines are. */
function entry(fields: Readonly<Record<string, unknown>>, msg: string): Buffer {
  const time = new Date().toISOString();
  return Buffer.from(`${JSON.stringify({ level: 'warn', time, ...fields, msg })}\n`);
}

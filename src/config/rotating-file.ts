/**
 * A log file of bounded size: when it is full it becomes `name.1`, `name.1` becomes `name.2`, and the oldest goes (I6).
 *
 * Lines are written synchronously, so that the last words of a crash are on disk; the log is quiet enough for that. A line
 * that cannot be written is dropped: a full disk must not end the agent, whose journal reports the disk itself.
 */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';

import { errorCode } from '../base/errors.ts';

/** Bounds of the log. */
export interface RotatingFileOptions {
  readonly path: string;
  readonly bytesMax?: number;
  /** Older files beside the one that is written. */
  readonly olderCountMax?: number;
}

const BYTES_MAX = 10 * 1024 * 1024;
const OLDER_COUNT_MAX = 4;

/** Writes lines to a file that is rotated by size. */
export class RotatingFile {
  readonly #path: string;
  readonly #bytesMax: number;
  readonly #olderCountMax: number;
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
  }

  /** Lines that could not be written. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  /** Appends a line, which ends in a line feed. */
  write(line: string): void {
    try {
      const bytes = Buffer.from(line);
      if (this.#bytes > 0 && this.#bytes + bytes.length > this.#bytesMax) {
        this.#rotate();
      }
      this.#bytes += writeSync(this.#descriptor, bytes);
    } catch (error) {
      if (errorCode(error) === undefined) {
        throw error;
      }
      this.#droppedCount += 1;
    }
  }

  /** Closes the file; a later write is dropped. */
  close(): void {
    closeSync(this.#descriptor);
    this.#descriptor = -1;
  }

  #rotate(): void {
    for (let index = this.#olderCountMax; index > 0; index -= 1) {
      const from = index === 1 ? this.#path : `${this.#path}.${index - 1}`;
      try {
        renameSync(from, `${this.#path}.${index}`);
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
  }
}

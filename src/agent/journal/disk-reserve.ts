/**
 * A file of bytes that is deleted when the disk is full, so that what runs can still be journalled to its end (I2), and
 * that is made again before new tasks are taken: while it cannot be made, the disk counts as full.
 */
import { randomBytes } from 'node:crypto';
import { open, stat, type FileHandle } from 'node:fs/promises';

import { errorCode } from '../../base/errors.ts';
import { writeAll } from './segment.ts';
import { removeFile } from './tombstone-files.ts';

const CHUNK_BYTES = 1024 * 1024;

/** The reserve file. */
export class DiskReserve {
  readonly #path: string;
  readonly #bytes: number;

  constructor(path: string, bytes: number) {
    this.#path = path;
    this.#bytes = bytes;
  }

  /** Makes the file when it is not there. Rejects with the disk's error when there is no room; nothing is left behind then. */
  async ensure(): Promise<void> {
    if (this.#bytes === 0 || (await this.#isWhole())) {
      return;
    }
    const handle = await open(this.#path, 'w', 0o600);
    try {
      await this.#fill(handle);
    } catch (error) {
      await handle.close();
      await this.release();
      throw error;
    }
    await handle.close();
  }

  /** Gives the bytes back to the disk. */
  async release(): Promise<void> {
    await removeFile(this.#path);
  }

  async #isWhole(): Promise<boolean> {
    try {
      return (await stat(this.#path)).size >= this.#bytes;
    } catch (error) {
      if (errorCode(error) === 'ENOENT') {
        return false;
      }
      throw error;
    }
  }

  async #fill(handle: FileHandle): Promise<void> {
    // Random, because a file system that compresses would give nothing back for zeros.
    const chunk = randomBytes(Math.min(CHUNK_BYTES, this.#bytes));
    for (let at = 0; at < this.#bytes; at += chunk.length) {
      await writeAll(handle, [chunk.subarray(0, this.#bytes - at)], at);
    }
    // Network file systems say only now that there is no room.
    await handle.datasync();
  }
}

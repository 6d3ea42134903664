/**
 * Tombstones on disk (I3): before a segment is dropped, the keys of the tasks confirmed in it are appended to a tombstone file.
 *
 * Each key is written once more in its life, however many segments come and go. A file takes a share of the count and of the
 * age that are allowed, and is deleted whole when its youngest key is past the age or the count is exceeded (I6).
 */
import { open, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '../../base/clock.ts';
import { errorCode } from '../../base/errors.ts';
import { encodeTombstones, scanRecords, serializeRecord } from './record.ts';
import {
  createSegment,
  decodeHeader,
  listDirectory,
  Segment,
  segmentName,
  writeAll,
  type SegmentHeader,
} from './segment.ts';
import {
  generationShare,
  isGenerationOver,
  type TombstoneBounds,
  type TombstoneTable,
} from './tombstone-table.ts';

const TOMBSTONE_NAME = /^(\d{8,})\.tomb$/;

interface TombstoneFile {
  readonly path: string;
  readonly number: number;
  keyCount: number;
  bytes: number;
  lastAtMs: number;
  /** Present when the file is whole, so that it can be continued. */
  readonly header?: SegmentHeader;
}

/** What the files of a host hold. */
export interface LoadedTombstones {
  readonly files: TombstoneFile[];
  readonly notices: string[];
  readonly nextNumber: number;
}

/** Loads a host's tombstone files into the table, oldest first, and deletes those past their age. */
export async function loadTombstones(
  hostDir: string,
  table: TombstoneTable,
  bounds: TombstoneBounds,
  clock: Clock,
): Promise<LoadedTombstones> {
  const notices: string[] = [];
  const files: TombstoneFile[] = [];
  const names = (await listDirectory(hostDir)).filter((name) => TOMBSTONE_NAME.test(name));
  const numbered = names.map((name) => ({ name, number: Number(TOMBSTONE_NAME.exec(name)?.[1]) }));
  numbered.sort((left, right) => left.number - right.number);
  for (const { name, number } of numbered) {
    const path = join(hostDir, name);
    const bytes = await readFile(path);
    const decoded = decodeHeader(bytes, path);
    const chunks: { keys: Buffer; atMs: number }[] = [];
    const damages =
      decoded === undefined
        ? [{ kind: 'corrupt', offset: 0, bytes: bytes.length }]
        : scanRecords(bytes, decoded.headerBytes, decoded.header.salt, (record) => {
            if (record.type === 'tombstones') {
              chunks.push(record);
            }
          });
    const file: TombstoneFile = {
      path,
      number,
      keyCount: 0,
      bytes: bytes.length,
      lastAtMs: Math.max(0, ...chunks.map((chunk) => chunk.atMs)),
      ...(decoded !== undefined && damages.length === 0 ? { header: decoded.header } : {}),
    };
    for (const damage of damages) {
      notices.push(
        `${path}: ${damage.bytes} bytes at offset ${damage.offset} are no tombstones and were skipped`,
      );
    }
    if (clock.now() - file.lastAtMs > bounds.ttlMs) {
      await removeFile(path);
      continue;
    }
    for (const chunk of chunks) {
      table.add(chunk.keys, chunk.atMs);
      file.keyCount += chunk.keys.length / 16;
    }
    files.push(file);
  }
  return { files, notices, nextNumber: (numbered.at(-1)?.number ?? 0) + 1 };
}

/** Appends tombstones to the files of this host. One call at a time. */
export class TombstoneFiles {
  readonly #hostDir: string;
  readonly #identity: { host: string; epoch: number };
  readonly #bounds: TombstoneBounds;
  readonly #clock: Clock;
  readonly #files: TombstoneFile[];
  #nextNumber: number;
  #current: { file: TombstoneFile; segment: Segment } | undefined;
  /** After a failed write no file is continued: what is behind its good end is unknown. */
  #isFailed = false;

  constructor(
    hostDir: string,
    identity: { host: string; epoch: number },
    bounds: TombstoneBounds,
    clock: Clock,
    loaded: LoadedTombstones,
  ) {
    this.#hostDir = hostDir;
    this.#identity = identity;
    this.#bounds = bounds;
    this.#clock = clock;
    this.#files = [...loaded.files];
    this.#nextNumber = loaded.nextNumber;
  }

  get bytes(): number {
    return this.#files.reduce((sum, file) => sum + file.bytes, 0);
  }

  /** Durable when resolved. */
  async append(keys: Buffer): Promise<void> {
    if (keys.length === 0) {
      return;
    }
    const { file, segment } = await this.#open();
    const nowMs = this.#clock.now();
    const bytes = serializeRecord(encodeTombstones(nowMs, keys), segment.header.salt);
    const handle = await segment.handle();
    try {
      await writeAll(handle, [bytes], segment.size);
      await handle.datasync();
    } catch (error) {
      // What reached the disk is unknown: the next call begins a new file. A torn tail is skipped when this one is loaded.
      this.#current = undefined;
      this.#isFailed = true;
      await segment.close();
      throw error;
    }
    segment.size += bytes.length;
    file.bytes = segment.size;
    file.keyCount += keys.length / 16;
    file.lastAtMs = nowMs;
  }

  async close(): Promise<void> {
    const current = this.#current;
    this.#current = undefined;
    await current?.segment.close();
  }

  async #open(): Promise<{ file: TombstoneFile; segment: Segment }> {
    const current = this.#current;
    if (current !== undefined) {
      const { file, segment } = current;
      if (
        !isGenerationOver(
          file.keyCount,
          segment.header.createdAtMs,
          this.#clock.now(),
          this.#bounds,
        )
      ) {
        return current;
      }
      await this.close();
    }
    await this.#expire();
    const resumed = await this.#resume();
    if (resumed !== undefined) {
      return resumed;
    }
    const number = this.#nextNumber;
    this.#nextNumber += 1;
    const path = join(this.#hostDir, segmentName(number, 'tomb'));
    const segment = await createSegment(path, {
      ...this.#identity,
      number,
      createdAtMs: this.#clock.now(),
    });
    const file: TombstoneFile = {
      path,
      number,
      keyCount: 0,
      bytes: segment.size,
      lastAtMs: segment.header.createdAtMs,
    };
    this.#files.push(file);
    const opened = { file, segment };
    this.#current = opened;
    return opened;
  }

  /** Continues the file of an earlier run, so that a thousand restarts do not leave a thousand files. */
  async #resume(): Promise<{ file: TombstoneFile; segment: Segment } | undefined> {
    const file = this.#files.at(-1);
    const header = file?.header;
    const isOpenable =
      header !== undefined &&
      !isGenerationOver(file?.keyCount ?? 0, header.createdAtMs, this.#clock.now(), this.#bounds);
    if (file === undefined || !isOpenable || this.#isFailed) {
      return undefined;
    }
    const segment = new Segment(file.path, header, file.bytes, await open(file.path, 'r+'));
    const resumed = { file, segment };
    this.#current = resumed;
    return resumed;
  }

  /** Deletes the oldest files that are past their age, or that the count has no room for. */
  async #expire(): Promise<void> {
    for (;;) {
      const oldest = this.#files[0];
      const keyCount = this.#files.reduce((sum, file) => sum + file.keyCount, 0);
      const isOver = keyCount + generationShare(this.#bounds) > this.#bounds.countMax;
      const isOld =
        oldest !== undefined && this.#clock.now() - oldest.lastAtMs > this.#bounds.ttlMs;
      if (oldest === undefined || !(isOver || isOld)) {
        return;
      }
      await removeFile(oldest.path);
      this.#files.shift();
    }
  }
}

/** Deletes a file; one that is gone already is fine, because a takeover on another host may have moved it. */
export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') {
      throw error;
    }
  }
}

/**
 * Segment files of the journal: names, header, creating, reading records back, and the directories around them.
 *
 *   journal/<host>/<lease epoch>/NNNNNNNN.seg    records; numbers go up over all epochs of a host, so they order its history
 *   journal/<host>/NNNNNNNN.tomb                 the same format, holding tombstones only (tombstone-files.ts)
 *   journal/<host>/reserve                       bytes to give back when the disk is full (disk-reserve.ts)
 *   *.seg.corrupt                                a damaged segment, kept for whoever wants to look at it
 *   *.seg.adopted                                a segment of another host that a takeover has copied into its own
 *
 *   header   "OPJL", u16 version, u16 header bytes, u32 salt, u64 number, u64 epoch, u64 created (ms), host as UTF-8,
 *            u32 crc32 of what precedes it                                                    all little endian
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readdir, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';

import {
  ConflictError,
  errorCode,
  InvariantError,
  ProtocolError,
  UnavailableError,
} from '../../base/errors.ts';
import { decodeAt, recordLengthAt, type JournalRecord } from './record.ts';
import { KeyList } from './tombstone-table.ts';

const MAGIC = Buffer.from('OPJL', 'latin1');
const FORMAT_VERSION = 1;
const HEADER_FIXED_BYTES = 36;

/** What the header of a segment says. */
export interface SegmentHeader {
  readonly salt: number;
  readonly number: number;
  readonly epoch: number;
  readonly createdAtMs: number;
  readonly host: string;
}

/** Where a record lies. */
export interface RecordLocation {
  readonly segment: Segment;
  readonly offset: number;
  readonly length: number;
}

/** One segment file and what the journal knows of it. The fields that change belong to the journal. */
export class Segment {
  readonly path: string;
  readonly header: SegmentHeader;
  readonly headerBytes: number;
  /** Bytes that are written and synced; the file may be longer after a failed write. */
  size: number;
  /** Tasks whose state begins in this segment; while there is one, neither it nor a younger segment may go. */
  liveCount = 0;
  liveBytes = 0;
  /** Tasks whose confirmation stands in this segment: they go to a tombstone file before it is dropped. */
  readonly confirmedKeys = new KeyList();
  #handle: Promise<FileHandle> | undefined;

  constructor(path: string, header: SegmentHeader, size: number, handle?: FileHandle) {
    this.path = path;
    this.header = header;
    this.headerBytes = HEADER_FIXED_BYTES + Buffer.byteLength(header.host) + 4;
    this.size = size;
    this.#handle = handle === undefined ? undefined : Promise.resolve(handle);
  }

  /** Whether no record was written to it yet. */
  get isFresh(): boolean {
    return this.size === this.headerBytes;
  }

  /** The descriptor; opened for reading on first use when the file is an older one. */
  async handle(): Promise<FileHandle> {
    this.#handle ??= open(this.path, 'r');
    try {
      return await this.#handle;
    } catch (error) {
      // Descriptors may have run out: the next reader tries again.
      this.#handle = undefined;
      throw error;
    }
  }

  /** Reads a record back and checks it. @throws UnavailableError JOURNAL_UNREADABLE when the disk returns something else. */
  async read(offset: number, length: number): Promise<JournalRecord> {
    const bytes = Buffer.allocUnsafe(length);
    const handle = await this.handle();
    let got = 0;
    while (got < length) {
      const { bytesRead } = await handle.read(bytes, got, length - got, offset + got);
      if (bytesRead === 0) {
        break;
      }
      got += bytesRead;
    }
    const whole = got === length && recordLengthAt(bytes, 0, this.header.salt) === length;
    const record = whole ? decodeAt(bytes, 0, length) : undefined;
    if (record === undefined) {
      throw new UnavailableError(
        'JOURNAL_UNREADABLE',
        `a record of the task journal can no longer be read (${this.path}, offset ${offset}): the disk returned other bytes than were written; check the disk of this machine`,
      );
    }
    return record;
  }

  async close(): Promise<void> {
    const opening = this.#handle;
    this.#handle = undefined;
    const handle = await opening?.catch(() => undefined);
    await handle?.close();
  }
}

/** Directory name of a host: what is not safe in a file name is replaced. */
export function hostDirectory(journalDirectory: string, host: string): string {
  const safe = host.replaceAll(/[^A-Za-z0-9._-]/g, '_').replace(/^\.+/, '_');
  return join(journalDirectory, safe === '' ? '_' : safe);
}

/** File name for a number. */
export function segmentName(number: number, extension: 'seg' | 'tomb'): string {
  return `${String(number).padStart(8, '0')}.${extension}`;
}

function encodeHeader(header: SegmentHeader): Buffer {
  const host = Buffer.from(header.host, 'utf8');
  const bytes = Buffer.alloc(HEADER_FIXED_BYTES + host.length + 4);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt16LE(FORMAT_VERSION, 4);
  bytes.writeUInt16LE(bytes.length, 6);
  bytes.writeUInt32LE(header.salt, 8);
  bytes.writeBigUInt64LE(BigInt(header.number), 12);
  bytes.writeBigUInt64LE(BigInt(header.epoch), 20);
  bytes.writeBigUInt64LE(BigInt(header.createdAtMs), 28);
  host.copy(bytes, HEADER_FIXED_BYTES);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, bytes.length - 4)), bytes.length - 4);
  return bytes;
}

/**
 * Reads the header of a segment: undefined when there is no valid one.
 *
 * @throws ConflictError PRECONDITION_FAILED when a newer version of the product wrote it: its tasks must not be dropped unread.
 */
export function decodeHeader(
  bytes: Buffer,
  path: string,
): { header: SegmentHeader; headerBytes: number } | undefined {
  if (bytes.length < HEADER_FIXED_BYTES + 4 || !bytes.subarray(0, 4).equals(MAGIC)) {
    return undefined;
  }
  const headerBytes = bytes.readUInt16LE(6);
  if (headerBytes < HEADER_FIXED_BYTES + 4 || headerBytes > bytes.length) {
    return undefined;
  }
  if (crc32(bytes.subarray(0, headerBytes - 4)) !== bytes.readUInt32LE(headerBytes - 4)) {
    return undefined;
  }
  const version = bytes.readUInt16LE(4);
  if (version !== FORMAT_VERSION) {
    throw new ConflictError(
      'PRECONDITION_FAILED',
      `the task journal ${path} has format ${version}, and this version of outpost reads format ${FORMAT_VERSION}: start the version that wrote it and let its tasks finish`,
    );
  }
  const header: SegmentHeader = {
    salt: bytes.readUInt32LE(8),
    number: Number(bytes.readBigUInt64LE(12)),
    epoch: Number(bytes.readBigUInt64LE(20)),
    createdAtMs: Number(bytes.readBigUInt64LE(28)),
    host: bytes.toString('utf8', HEADER_FIXED_BYTES, headerBytes - 4),
  };
  return { header, headerBytes };
}

/**
 * Creates a file with a header, durable together with its name; whatever is written to its handle is durable when the call returns
 * (O_DSYNC: one call per batch where a write and a sync would be two). Fails when it exists: numbers are never reused.
 */
export async function createSegment(
  path: string,
  identity: Omit<SegmentHeader, 'salt'>,
): Promise<Segment> {
  const header = { ...identity, salt: randomBytes(4).readUInt32LE(0) };
  await makeDirectory(dirname(path));
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_DSYNC;
  const handle = await open(path, flags, 0o600);
  try {
    const bytes = encodeHeader(header);
    await writeAll(handle, [bytes], 0);
    await syncDirectory(dirname(path));
    return new Segment(path, header, bytes.length, handle);
  } catch (error) {
    // The half-made file stays behind: its number is used up, and the next open removes it.
    await handle.close();
    throw error;
  }
}

/** Writes all of `buffers` at `position`; a short write is continued, so a full disk surfaces as its error. */
export async function writeAll(
  handle: FileHandle,
  buffers: readonly Uint8Array[],
  position: number,
): Promise<void> {
  let at = position;
  let rest = buffers;
  while (rest.length > 0) {
    const { bytesWritten } = await handle.writev(rest, at);
    at += bytesWritten;
    rest = skipBytes(rest, bytesWritten);
    if (bytesWritten === 0 && rest.length > 0) {
      throw new InvariantError('writing to a journal segment made no progress');
    }
  }
}

function skipBytes(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  let left = count;
  const rest: Uint8Array[] = [];
  for (const buffer of buffers) {
    if (left >= buffer.length) {
      left -= buffer.length;
    } else {
      rest.push(left === 0 ? buffer : buffer.subarray(left));
      left = 0;
    }
  }
  return rest;
}

/** Makes a directory (and its parents), private to the user, and the names durable. */
export async function makeDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) {
    return;
  }
  for (let made = path; made.length >= first.length; made = dirname(made)) {
    await syncDirectory(dirname(made));
  }
}

/** Makes the names in a directory durable. Some network file systems refuse that, and cannot do better: they are warned about. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } catch (error) {
    if (!['EINVAL', 'ENOTSUP', 'EBADF', 'EPERM', 'EACCES'].includes(errorCode(error) ?? '')) {
      throw error;
    }
  } finally {
    await handle.close();
  }
}

/** Names in a directory; none when it does not exist. */
export async function listDirectory(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') {
      return [];
    }
    throw error;
  }
}

/** A task's record as it must be at a location. @throws ProtocolError BUFFER_INVALID when it is of another type. */
export function expectRecord<T extends JournalRecord['type']>(
  record: JournalRecord,
  type: T,
): Extract<JournalRecord, { type: T }> {
  if (record.type !== type) {
    throw new ProtocolError(
      'BUFFER_INVALID',
      `the journal holds ${record.type} where ${type} was written`,
    );
  }
  return record as Extract<JournalRecord, { type: T }>;
}

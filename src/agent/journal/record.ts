/**
 * The journal's records on disk: encoding, decoding, and scanning a segment that may be damaged.
 *
 *   record   u32 length (type and payload), u32 crc32, u8 type, payload           all little endian
 *   crc32    over type and payload, started from (the segment's salt XOR length), so that bytes of another
 *            segment, or a journal that somebody sent as a task's argument, never pass for a record of this one
 *
 * Every record stands for itself and may be repeated: replaying a log twice, or one batch twice in a row, yields the
 * same state. A write that failed half-way can therefore be repeated in the next segment.
 */
import { crc32 } from 'node:zlib';

import { readTaskId, taskIdBytes, writeTaskId } from '../../protocol/task-id.ts';

/** Bytes before the payload: length, checksum, type. */
export const RECORD_HEADER_BYTES = 9;

/** Largest record, in bytes: a frame of FRAME_BYTES_MAX with its meta data, and room. Larger ones are refused. */
export const RECORD_BYTES_MAX = 320 * 1024 * 1024;

/** Bytes that a scan may checksum while it looks for the next whole record behind damage; bounds the start-up time. */
const RESYNC_BYTES_MAX = 256 * 1024 * 1024;

/** Types of records. Numbers are on disk: never reuse one. */
export const RECORD_TYPE = {
  received: 1,
  started: 2,
  done: 3,
  confirmed: 4,
  handedBack: 5,
  tombstones: 6,
} as const;

/** Number of a record's type. */
export type RecordType = (typeof RECORD_TYPE)[keyof typeof RECORD_TYPE];

/** A record ready to be written: payload is `head` and then `body`, which is not copied until then. */
export interface EncodedRecord {
  readonly type: RecordType;
  readonly head: Buffer;
  readonly body?: Uint8Array;
}

/** A decoded record. Buffers are views of what was decoded: copy what is kept. */
export type JournalRecord =
  | {
      readonly type: 'received';
      readonly taskId: string;
      readonly started: boolean;
      readonly attempts: number;
      readonly meta: Buffer;
      readonly body: Buffer;
    }
  | { readonly type: 'started'; readonly taskId: string; readonly attempts: number }
  | {
      readonly type: 'done';
      readonly taskId: string;
      readonly attempts: number;
      readonly meta: Buffer;
      readonly headers: Buffer;
      readonly body: Buffer;
    }
  | { readonly type: 'confirmed' | 'handedBack'; readonly taskIds: readonly string[] }
  | { readonly type: 'tombstones'; readonly atMs: number; readonly keys: Buffer };

/** Bytes that the record takes on disk. */
export function recordBytes(record: EncodedRecord): number {
  return RECORD_HEADER_BYTES + record.head.length + (record.body?.length ?? 0);
}

/** RECEIVED: the task, and whether it was started in the same breath (I5: one record, one sync). `meta` is JSON. */
export function encodeReceived(
  taskId: string,
  started: boolean,
  attempts: number,
  meta: string,
  body: Uint8Array,
): EncodedRecord {
  const metaBytes = Buffer.byteLength(meta, 'utf8');
  const head = Buffer.allocUnsafe(taskIdBytes(taskId) + 9 + metaBytes);
  let at = writeTaskId(head, 0, taskId);
  at = head.writeUInt8(started ? 1 : 0, at);
  at = head.writeUInt32LE(attempts, at);
  at = head.writeUInt32LE(metaBytes, at);
  head.write(meta, at, 'utf8');
  return { type: RECORD_TYPE.received, head, body };
}

/** STARTED: the number of the attempt, so that repeating the record changes nothing. */
export function encodeStarted(taskId: string, attempts: number): EncodedRecord {
  const head = Buffer.allocUnsafe(taskIdBytes(taskId) + 4);
  head.writeUInt32LE(attempts, writeTaskId(head, 0, taskId));
  return { type: RECORD_TYPE.started, head };
}

/** DONE: carries the task's meta data too, so that RECEIVED's segment is no longer needed. `meta` and `headers` are JSON. */
export function encodeDone(
  taskId: string,
  attempts: number,
  meta: string,
  headers: string,
  body: Uint8Array,
): EncodedRecord {
  const metaBytes = Buffer.byteLength(meta, 'utf8');
  const headersBytes = Buffer.byteLength(headers, 'utf8');
  const head = Buffer.allocUnsafe(taskIdBytes(taskId) + 12 + metaBytes + headersBytes);
  let at = writeTaskId(head, 0, taskId);
  at = head.writeUInt32LE(attempts, at);
  at = head.writeUInt32LE(metaBytes, at);
  at += head.write(meta, at, 'utf8');
  at = head.writeUInt32LE(headersBytes, at);
  head.write(headers, at, 'utf8');
  return { type: RECORD_TYPE.done, head, body };
}

/** CONFIRMED or HANDED_BACK: a list of task ids. */
export function encodeIds(
  type: 'confirmed' | 'handedBack',
  taskIds: readonly string[],
): EncodedRecord {
  const head = Buffer.allocUnsafe(taskIds.reduce((sum, taskId) => sum + taskIdBytes(taskId), 0));
  taskIds.reduce((at, taskId) => writeTaskId(head, at, taskId), 0);
  return { type: RECORD_TYPE[type], head };
}

/** TOMBSTONES: 16-byte keys, and when they were written. */
export function encodeTombstones(atMs: number, keys: Buffer): EncodedRecord {
  const head = Buffer.allocUnsafe(8);
  head.writeBigUInt64LE(BigInt(Math.max(0, Math.floor(atMs))), 0);
  return { type: RECORD_TYPE.tombstones, head, body: keys };
}

/** Where the checksum of a record starts. */
export function checksumSeed(salt: number, length: number): number {
  return (salt ^ length) >>> 0;
}

/** Continues a checksum. */
export function checksum(bytes: Uint8Array, sum: number): number {
  return crc32(bytes, sum);
}

/** Writes header and payload as one buffer; the writer's batches do the same without the copy. */
export function serializeRecord(record: EncodedRecord, salt: number): Buffer {
  const out = Buffer.alloc(recordBytes(record));
  record.head.copy(out, RECORD_HEADER_BYTES);
  if (record.body !== undefined) {
    out.set(record.body, RECORD_HEADER_BYTES + record.head.length);
  }
  out[8] = record.type;
  const content = out.subarray(8);
  out.writeUInt32LE(content.length, 0);
  out.writeUInt32LE(checksum(content, checksumSeed(salt, content.length)), 4);
  return out;
}

/** A whole, undamaged record at `offset`: its length on disk; undefined when there is none. */
export function recordLengthAt(bytes: Buffer, offset: number, salt: number): number | undefined {
  const length = plausibleLength(bytes, offset);
  if (length === undefined) {
    return undefined;
  }
  const content = bytes.subarray(offset + 8, offset + 8 + length);
  return checksum(content, checksumSeed(salt, length)) === bytes.readUInt32LE(offset + 4)
    ? 8 + length
    : undefined;
}

/** What the length field says, when a record of that length fits and its type is one of ours. */
function plausibleLength(bytes: Buffer, offset: number): number | undefined {
  if (offset + RECORD_HEADER_BYTES > bytes.length) {
    return undefined;
  }
  const length = bytes.readUInt32LE(offset);
  const type = bytes.readUInt8(offset + 8);
  const fits = length >= 1 && length <= RECORD_BYTES_MAX && offset + 8 + length <= bytes.length;
  return fits && type >= RECORD_TYPE.received && type <= RECORD_TYPE.tombstones
    ? length
    : undefined;
}

/** A stretch of a segment that is no record. `torn`: nothing whole follows, as after a crash in the middle of a write. */
export interface Damage {
  readonly kind: 'torn' | 'corrupt';
  readonly offset: number;
  readonly bytes: number;
}

/**
 * Calls back for every whole record from `from` on, in order, and says what was damaged. Never throws for what the bytes hold.
 *
 * Behind damage it looks for the next record that checks out instead of giving up on the rest: a flipped bit then costs one
 * record, not the tasks of a whole segment. The search is bounded; past the bound the rest counts as one damaged stretch.
 */
export function scanRecords(
  bytes: Buffer,
  from: number,
  salt: number,
  onRecord: (record: JournalRecord, offset: number, length: number) => void,
): Damage[] {
  const damages: Damage[] = [];
  const budget = { bytes: RESYNC_BYTES_MAX };
  let offset = from;
  while (offset < bytes.length) {
    const length = recordLengthAt(bytes, offset, salt);
    const record = length === undefined ? undefined : decodeAt(bytes, offset, length);
    if (length !== undefined && record !== undefined) {
      onRecord(record, offset, length);
      offset += length;
      continue;
    }
    const next = findRecord(bytes, offset + 1, salt, budget);
    const end = next ?? bytes.length;
    const torn = next === undefined && budget.bytes > 0;
    damages.push({ kind: torn ? 'torn' : 'corrupt', offset, bytes: end - offset });
    offset = end;
  }
  return damages;
}

function findRecord(
  bytes: Buffer,
  from: number,
  salt: number,
  budget: { bytes: number },
): number | undefined {
  for (let offset = from; offset + RECORD_HEADER_BYTES <= bytes.length; offset += 1) {
    const length = plausibleLength(bytes, offset);
    if (length === undefined) {
      continue;
    }
    // A body can be made of bytes that look like headers everywhere; without the bound this is quadratic.
    budget.bytes -= length;
    if (budget.bytes <= 0) {
      return undefined;
    }
    if (recordLengthAt(bytes, offset, salt) !== undefined) {
      return offset;
    }
  }
  return undefined;
}

/** Decodes the record of `length` bytes at `offset`; undefined when its content makes no sense. */
export function decodeAt(bytes: Buffer, offset: number, length: number): JournalRecord | undefined {
  const payload = bytes.subarray(offset + RECORD_HEADER_BYTES, offset + length);
  try {
    return decodePayload(bytes.readUInt8(offset + 8), payload);
  } catch (error) {
    // RangeError: reading past the end. Such a record was written by something that is not this code.
    if (error instanceof RangeError) {
      return undefined;
    }
    throw error;
  }
}

function decodePayload(type: number, payload: Buffer): JournalRecord | undefined {
  switch (type) {
    case RECORD_TYPE.received: {
      const { taskId, end } = readTaskId(payload, 0);
      const meta = decodeBytes(payload, end + 5);
      return {
        type: 'received',
        taskId,
        started: (payload.readUInt8(end) & 1) === 1,
        attempts: payload.readUInt32LE(end + 1),
        meta: meta.bytes,
        body: payload.subarray(meta.end),
      };
    }
    case RECORD_TYPE.started: {
      const { taskId, end } = readTaskId(payload, 0);
      return { type: 'started', taskId, attempts: payload.readUInt32LE(end) };
    }
    case RECORD_TYPE.done: {
      const { taskId, end } = readTaskId(payload, 0);
      const meta = decodeBytes(payload, end + 4);
      const headers = decodeBytes(payload, meta.end);
      return {
        type: 'done',
        taskId,
        attempts: payload.readUInt32LE(end),
        meta: meta.bytes,
        headers: headers.bytes,
        body: payload.subarray(headers.end),
      };
    }
    case RECORD_TYPE.confirmed:
    case RECORD_TYPE.handedBack: {
      const taskIds: string[] = [];
      for (let at = 0; at < payload.length;) {
        const { taskId, end } = readTaskId(payload, at);
        taskIds.push(taskId);
        at = end;
      }
      return { type: type === RECORD_TYPE.confirmed ? 'confirmed' : 'handedBack', taskIds };
    }
    case RECORD_TYPE.tombstones: {
      const keys = payload.subarray(8);
      return keys.length % 16 === 0
        ? { type: 'tombstones', atMs: Number(payload.readBigUInt64LE(0)), keys }
        : undefined;
    }
    default:
      return undefined;
  }
}

function decodeBytes(payload: Buffer, at: number): { bytes: Buffer; end: number } {
  const end = at + 4 + payload.readUInt32LE(at);
  checkEnd(payload, end);
  return { bytes: payload.subarray(at + 4, end), end };
}

function checkEnd(payload: Buffer, end: number): void {
  if (end > payload.length) {
    throw new RangeError('a field of a journal record ends behind the record');
  }
}

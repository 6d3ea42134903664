/**
 * Task ids on disk and as tombstones. On the path of every task, so without regular expressions and without garbage.
 *
 *   on disk    u8 0 and 16 bytes for a UUID in its canonical spelling, else u8 n and n bytes of UTF-8
 *   tombstone  the 16 bytes of the UUID, or of a hash of any other id
 */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';

import { ProtocolError } from '../base/errors.ts';

const UUID_CHARS = 36;
const UUID_BYTES = 16;
const TEXT_BYTES_MAX = 255;

const scratch = Buffer.alloc(UUID_BYTES);

/** Bytes that an id takes on disk. @throws ProtocolError ENVELOPE_INVALID when it is empty or longer than 255 bytes. */
export function taskIdBytes(taskId: string): number {
  return parseUuid(taskId, scratch, 0) ? 1 + UUID_BYTES : 1 + textBytes(taskId);
}

/** Writes an id and returns where it ends. */
export function writeTaskId(target: Buffer, at: number, taskId: string): number {
  if (parseUuid(taskId, target, at + 1)) {
    target[at] = 0;
    return at + 1 + UUID_BYTES;
  }
  target[at] = textBytes(taskId);
  return at + 1 + target.write(taskId, at + 1, 'utf8');
}

/** Reads an id. @throws RangeError when it goes past the end or is no text. */
export function readTaskId(source: Buffer, at: number): { taskId: string; end: number } {
  const length = source.readUInt8(at);
  const end = at + 1 + (length === 0 ? UUID_BYTES : length);
  if (end > source.length) {
    throw new RangeError('a task id ends behind its record');
  }
  if (length !== 0) {
    const text = source.subarray(at + 1, end);
    if (!isUtf8(text)) {
      throw new RangeError('a task id is not UTF-8');
    }
    return { taskId: text.toString('utf8'), end };
  }
  const hex = source.toString('hex', at + 1, end);
  const taskId = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  return { taskId, end };
}

/** The 16 bytes under which a task id stands among the tombstones. Valid until the next call: copy what is kept. */
export function taskKey(taskId: string): Buffer {
  if (!parseUuid(taskId, scratch, 0)) {
    textBytes(taskId);
    createHash('sha256').update(taskId, 'utf8').digest().copy(scratch, 0, 0, UUID_BYTES);
  }
  return scratch;
}

function textBytes(taskId: string): number {
  const length = Buffer.byteLength(taskId, 'utf8');
  if (length === 0 || length > TEXT_BYTES_MAX) {
    throw new ProtocolError(
      'ENVELOPE_INVALID',
      `a task id must have 1 to ${TEXT_BYTES_MAX} bytes, this one has ${length}; the sender must use a UUID`,
    );
  }
  return length;
}

/** Writes the 16 bytes of a UUID in its canonical (lower case) spelling; false, with garbage written, for anything else. */
function parseUuid(text: string, target: Buffer, at: number): boolean {
  if (text.length !== UUID_CHARS) {
    return false;
  }
  let out = at;
  for (let index = 0; index < UUID_CHARS;) {
    if (index === 8 || index === 13 || index === 18 || index === 23) {
      if (text.charCodeAt(index) !== 0x2d) {
        return false;
      }
      index += 1;
      continue;
    }
    const high = hexDigit(text.charCodeAt(index));
    const low = hexDigit(text.charCodeAt(index + 1));
    if (high < 0 || low < 0) {
      return false;
    }
    target[out] = (high << 4) | low;
    out += 1;
    index += 2;
  }
  return true;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) {
    return code - 0x30;
  }
  return code >= 0x61 && code <= 0x66 ? code - 0x57 : -1;
}

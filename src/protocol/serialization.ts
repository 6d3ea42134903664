/**
 * Packed buffers and serialization identifiers (protocol.md 8.1, 8.2).
 *
 * A serialized buffer is text: a two-character id, a newline, the payload. Packing puts the decimal length before
 * each buffer; **the length counts Unicode code points**, neither bytes nor UTF-16 units.
 */
import { ProtocolError } from '../base/errors.ts';

/** Identifier of each serialization strategy. `js` and `v8` are ours, the others are Globus Compute's. */
export const SERIALIZERS = {
  DILL_DATA: '00',
  JSON_DATA: '11',
  ALL_DATA: '13',
  V8_DATA: 'v8',
  DILL_CODE: '01',
  PICKLE_CODE: '02',
  DILL_CODE_TEXT_INSPECT: '03',
  DILL_CODE_SOURCE: '04',
  COMBINED_CODE: '10',
  ALL_CODE: '12',
  SOURCE_TEXT_INSPECT: 'st',
  SOURCE_DILL: 'sd',
  JAVASCRIPT_SOURCE: 'js',
} as const;

/** Language that a function is written in. */
export type Language = 'javascript' | 'python';

const PYTHON_CODE_IDS: ReadonlySet<string> = new Set([
  '01',
  '02',
  '03',
  '04',
  '10',
  '12',
  'st',
  'sd',
]);

/** Language of the function behind a code identifier, or undefined when the identifier is not one for code. */
export function languageOf(codeId: string): Language | undefined {
  if (codeId === SERIALIZERS.JAVASCRIPT_SOURCE) {
    return 'javascript';
  }
  return PYTHON_CODE_IDS.has(codeId) ? 'python' : undefined;
}

/** Number of Unicode code points in a text (Python's `len`). A lone surrogate counts as one. */
export function codePointLength(text: string): number {
  let length = text.length;
  for (let index = 0; index < text.length - 1; index += 1) {
    if (isPairAt(text, index)) {
      length -= 1;
      index += 1;
    }
  }
  return length;
}

function isPairAt(text: string, index: number): boolean {
  const high = text.charCodeAt(index);
  if (high < 0xd800 || high > 0xdbff) {
    return false;
  }
  const low = text.charCodeAt(index + 1);
  return low >= 0xdc00 && low <= 0xdfff;
}

/** Packs buffers: for each its length in code points, a newline, the buffer. */
export function packBuffers(buffers: readonly string[]): string {
  return buffers.map((buffer) => `${codePointLength(buffer)}\n${buffer}`).join('');
}

/** Unpacks what {@link packBuffers} made. @throws ProtocolError BUFFER_INVALID. */
export function unpackBuffers(packed: string): string[] {
  const buffers: string[] = [];
  let offset = 0;
  while (offset < packed.length) {
    const newline = packed.indexOf('\n', offset);
    const digits = newline === -1 ? '' : packed.slice(offset, newline);
    if (!/^\d{1,10}$/.test(digits)) {
      throw new ProtocolError(
        'BUFFER_INVALID',
        `packed buffer ${buffers.length + 1}: no length before it`,
      );
    }
    const end = skipCodePoints(packed, newline + 1, Number(digits));
    if (end === -1) {
      throw new ProtocolError(
        'BUFFER_INVALID',
        `packed buffer ${buffers.length + 1}: says ${digits} characters, but the text ends before`,
      );
    }
    buffers.push(packed.slice(newline + 1, end));
    offset = end;
  }
  return buffers;
}

/** UTF-16 offset after `count` code points from `start`, or -1 when the text is shorter. */
function skipCodePoints(text: string, start: number, count: number): number {
  let offset = start;
  for (let left = count; left > 0; left -= 1) {
    if (offset >= text.length) {
      return -1;
    }
    offset += isPairAt(text, offset) ? 2 : 1;
  }
  return offset;
}

/** A serialized buffer taken apart. */
export interface SerializedBuffer {
  readonly id: string;
  readonly payload: string;
}

/** Splits a serialized buffer into id and payload. @throws ProtocolError BUFFER_INVALID. */
export function splitSerialized(buffer: string): SerializedBuffer {
  if (buffer.length < 3 || buffer[2] !== '\n') {
    throw new ProtocolError(
      'BUFFER_INVALID',
      'a serialized buffer starts with a two-character identifier and a newline',
    );
  }
  return { id: buffer.slice(0, 2), payload: buffer.slice(3) };
}

/** Serializes a value as JSON data (`11`). @throws ProtocolError BUFFER_INVALID when JSON cannot hold the value. */
export function serializeJson(value: unknown): string {
  // undefined has no JSON form; null is what a caller in another language would expect of a function without a result.
  return `${SERIALIZERS.JSON_DATA}\n${JSON.stringify(value ?? null)}`;
}

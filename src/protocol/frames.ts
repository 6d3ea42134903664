/**
 * Frames between agent, worker host and Python interpreter: one codec, twice (here and in python/outpost_worker.py).
 *
 *   offset 0   u32, big endian: number of bytes that follow
 *   offset 4   u32, big endian: number of header bytes
 *   offset 8   header: UTF-8 JSON object with a "type"
 *   then       body: bytes that are passed through
 *
 * Bounded: a frame over FRAME_BYTES_MAX or a header over FRAME_HEADER_BYTES_MAX is refused before it is stored.
 */
import { isUtf8 } from 'node:buffer';

import { ProtocolError } from '../base/errors.ts';
import { FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX } from './limits.ts';

const PREFIX_BYTES = 8;

/** Header of any frame. */
export interface FrameHeader {
  readonly type: string;
}

/** A decoded frame. `body` is a view of the received bytes: copy it to keep it past the callback. */
export interface Frame<H extends FrameHeader = FrameHeader> {
  readonly header: H;
  readonly body: Buffer;
}

/** Encodes a frame as two buffers to be written together, so that the body is not copied. */
export function encodeFrame(
  header: FrameHeader,
  body: Uint8Array = Buffer.alloc(0),
): [Buffer, Uint8Array] {
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  if (json.length > FRAME_HEADER_BYTES_MAX || json.length + body.length + 4 > FRAME_BYTES_MAX) {
    throw new ProtocolError(
      'PAYLOAD_TOO_LARGE',
      `frame of type ${header.type} has ${json.length} header and ${body.length} body bytes, over the limit`,
    );
  }
  const head = Buffer.allocUnsafe(PREFIX_BYTES + json.length);
  head.writeUInt32BE(4 + json.length + body.length, 0);
  head.writeUInt32BE(json.length, 4);
  json.copy(head, PREFIX_BYTES);
  return [head, body];
}

/** Cuts a byte stream into frames. */
export class FrameDecoder {
  #chunks: Buffer[] = [];
  #bytes = 0;

  /** Bytes received that do not make a whole frame yet. */
  get pendingBytes(): number {
    return this.#bytes;
  }

  /**
   * Takes the next chunk and returns the frames that it completes.
   *
   * @throws ProtocolError FRAME_INVALID; the stream is then out of step and must be closed.
   */
  push(chunk: Buffer): Frame[] {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    const frames: Frame[] = [];
    let buffer = this.#peek(PREFIX_BYTES);
    while (buffer !== undefined) {
      const length = 4 + checkLengths(buffer);
      const whole = this.#peek(length);
      if (whole === undefined) {
        break;
      }
      frames.push(parseFrame(whole.subarray(0, length)));
      this.#consume(whole, length);
      buffer = this.#peek(PREFIX_BYTES);
    }
    return frames;
  }

  /** The received bytes as one buffer when there are at least `count` of them. */
  #peek(count: number): Buffer | undefined {
    if (this.#bytes < count) {
      return undefined;
    }
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= count) {
      return first;
    }
    const joined = Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }

  #consume(first: Buffer, count: number): void {
    this.#bytes -= count;
    if (first.length === count) {
      this.#chunks.shift();
    } else {
      this.#chunks[0] = first.subarray(count);
    }
  }
}

function checkLengths(prefix: Buffer): number {
  const length = prefix.readUInt32BE(0);
  const headerLength = prefix.readUInt32BE(4);
  if (
    length > FRAME_BYTES_MAX ||
    headerLength > FRAME_HEADER_BYTES_MAX ||
    headerLength + 4 > length
  ) {
    throw new ProtocolError(
      'FRAME_INVALID',
      `frame says ${length} bytes with ${headerLength} of header: out of bounds or not a frame`,
    );
  }
  return length;
}

function parseFrame(bytes: Buffer): Frame {
  const headerEnd = PREFIX_BYTES + bytes.readUInt32BE(4);
  const json = bytes.subarray(PREFIX_BYTES, headerEnd);
  if (!isUtf8(json)) {
    throw new ProtocolError('FRAME_INVALID', 'the header of a frame is not UTF-8');
  }
  let header: unknown;
  try {
    header = JSON.parse(json.toString('utf8'));
  } catch (error) {
    throw new ProtocolError('FRAME_INVALID', 'the header of a frame is not JSON', { cause: error });
  }
  if (
    typeof header !== 'object' ||
    header === null ||
    !('type' in header) ||
    typeof header.type !== 'string'
  ) {
    throw new ProtocolError('FRAME_INVALID', 'the header of a frame has no type');
  }
  return { header: header as FrameHeader, body: bytes.subarray(headerEnd) };
}

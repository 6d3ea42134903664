/**
 * Writes frames to a stream, those of one turn of the loop in one system call.
 *
 * Small bodies are copied behind their header, because two small buffers cost more than one copy; large ones are not.
 */
import type { Writable } from 'node:stream';

import { encodeFrame } from '../protocol/frames.ts';
import type { FrameHeader } from '../protocol/frames.ts';

const COPY_BYTES_MAX = 8 * 1024;

/** Batching writer of frames. */
export class FrameWriter {
  readonly #stream: Writable;
  #isCorked = false;

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  /** Bytes that the stream has not passed on yet. */
  get pendingBytes(): number {
    return this.#stream.writableLength;
  }

  /** Writes a frame at the end of this turn of the loop. @throws ProtocolError PAYLOAD_TOO_LARGE. */
  write(header: FrameHeader, body?: Uint8Array): void {
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.#stream.cork();
      setImmediate(() => {
        this.flush();
      });
    }
    this.#put(header, body);
  }

  /** Writes a frame at once, for a stream that carries one frame at a time. @throws ProtocolError PAYLOAD_TOO_LARGE. */
  writeNow(header: FrameHeader, body?: Uint8Array): void {
    this.#put(header, body);
  }

  /** Passes on what has been written. */
  flush(): void {
    if (this.#isCorked) {
      this.#isCorked = false;
      this.#stream.uncork();
    }
  }

  #put(header: FrameHeader, body?: Uint8Array): void {
    const [head, rest] = encodeFrame(header, body);
    if (rest.length === 0) {
      this.#stream.write(head);
    } else if (rest.length <= COPY_BYTES_MAX) {
      this.#stream.write(Buffer.concat([head, rest]));
    } else {
      this.#stream.write(head);
      this.#stream.write(rest);
    }
  }
}

/**
 * Writes frames to a stream, those of one turn of the loop in one system call; in a burst, those of a few turns.
 *
 * Small bodies are copied behind their header, because two small buffers cost more than one copy; large ones are not.
 */
import type { Writable } from 'node:stream';

import { encodeFrame } from '../protocol/frames.ts';
import type { FrameHeader } from '../protocol/frames.ts';

const COPY_BYTES_MAX = 8 * 1024;

/**
 * Frames that are held back for company: waking the reader costs more than writing a frame does. This count is the size of the batches
 * in which a backlog moves through the whole agent: journal, acks, publishes, and what the broker delivers upon that.
 */
const HELD_COUNT_MAX = 128;
/** Longest time that a frame is held back. Only a burst of short tasks gets here, and it fills the count sooner. */
const HELD_MS_MAX = 4;

/** Batching writer of frames. */
export class FrameWriter {
  readonly #stream: Writable;
  #isCorked = false;
  #isFlushScheduled = false;
  #heldCount = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  /** Bytes that the stream has not passed on yet. */
  get pendingBytes(): number {
    return this.#stream.writableLength;
  }

  /** Writes a frame at the end of this turn of the loop. @throws ProtocolError PAYLOAD_TOO_LARGE. */
  write(header: FrameHeader, body?: Uint8Array): void {
    this.#cork();
    this.#put(header, body);
    this.#scheduleFlush();
  }

  /**
   * Writes a frame soon: with others that follow at once, or a moment later. `followingCount`: how many can follow before the reader has
   * to do something; when that is less than what is held, waiting on would only keep both sides idle. @throws ProtocolError PAYLOAD_TOO_LARGE.
   */
  writeHeld(header: FrameHeader, followingCount: number, body?: Uint8Array): void {
    this.#cork();
    this.#put(header, body);
    this.#heldCount += 1;
    if (this.#heldCount >= Math.min(HELD_COUNT_MAX, followingCount)) {
      this.#scheduleFlush();
    } else {
      this.#timer ??= setTimeout(() => {
        this.flush();
      }, HELD_MS_MAX);
    }
  }

  /** Writes a frame at once, for a stream that carries one frame at a time. @throws ProtocolError PAYLOAD_TOO_LARGE. */
  writeNow(header: FrameHeader, body?: Uint8Array): void {
    this.#put(header, body);
  }

  /** Passes on what has been written. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#heldCount = 0;
    if (this.#isCorked) {
      this.#isCorked = false;
      this.#stream.uncork();
    }
  }

  #cork(): void {
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.#stream.cork();
    }
  }

  #scheduleFlush(): void {
    if (!this.#isFlushScheduled) {
      this.#isFlushScheduled = true;
      setImmediate(() => {
        this.#isFlushScheduled = false;
        this.flush();
      });
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

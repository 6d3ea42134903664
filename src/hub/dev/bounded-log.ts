/**
 * The log file of one private server: what the server prints, in a file that never grows past a bound
 * (one older generation is kept as `<path>.1`), and the last lines in memory for an error message.
 */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';

/** Size at which the file is turned over; with the older generation a log takes at most twice this. */
const LOG_BYTES_MAX = 5 * 1024 * 1024;
/** Enough for a start failure with its reason; more would bury it. */
const TAIL_BYTES_MAX = 8 * 1024;

/** Append-only log of bounded size. */
export class BoundedLog {
  readonly path: string;
  #descriptor: number;
  #sizeBytes: number;
  #tail = '';
  #closed = false;

  constructor(path: string) {
    this.path = path;
    this.#descriptor = openSync(path, 'a', 0o600);
    this.#sizeBytes = fstatSync(this.#descriptor).size;
  }

  /** Appends; turns the file over when it is full. Output after `close` is dropped. */
  write(chunk: Buffer): void {
    if (this.#closed) {
      return;
    }
    if (this.#sizeBytes + chunk.length > LOG_BYTES_MAX) {
      closeSync(this.#descriptor);
      renameSync(this.path, `${this.path}.1`);
      this.#descriptor = openSync(this.path, 'a', 0o600);
      this.#sizeBytes = 0;
    }
    writeSync(this.#descriptor, chunk);
    this.#sizeBytes += chunk.length;
    this.#tail = (this.#tail + chunk.toString('utf8')).slice(-TAIL_BYTES_MAX);
  }

  /** The last lines that were written, for a message. */
  tail(lineCount = 15): string {
    return this.#tail.trimEnd().split('\n').slice(-lineCount).join('\n');
  }

  /** Closes the file; idempotent. */
  close(): void {
    if (!this.#closed) {
      this.#closed = true;
      closeSync(this.#descriptor);
    }
  }
}

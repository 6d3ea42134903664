/**
 * Who gets a task that a thread was given ahead of time: the thread, which takes a token before it begins, or the host, which takes
 * one to have the newest of them back. One counter in shared memory, so that each token is taken once.
 */

/** Tokens of one thread. */
export class AheadTokens {
  readonly buffer: SharedArrayBuffer;
  readonly #count: Int32Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer;
    this.#count = new Int32Array(buffer);
  }

  /** One more task is given ahead of time. */
  add(): void {
    Atomics.add(this.#count, 0, 1);
  }

  /** Takes a token, if there is one. */
  take(): boolean {
    let count = Atomics.load(this.#count, 0);
    while (count > 0) {
      const seen = Atomics.compareExchange(this.#count, 0, count, count - 1);
      if (seen === count) {
        return true;
      }
      count = seen;
    }
    return false;
  }
}

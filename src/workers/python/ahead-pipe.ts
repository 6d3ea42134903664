/**
 * Who gets a task that an interpreter was given ahead of time: the interpreter, which reads a byte before it begins, or the host, which
 * reads one to have the newest of them back. A pipe, because a read of a byte is atomic between two processes. The interpreter makes
 * it, and the host opens it by way of /proc; where that is not possible nothing is given ahead of time.
 */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';

import { errorCode } from '../../base/errors.ts';

const TOKEN = Buffer.from([1]);

/** The host's end. */
export class AheadPipe {
  #descriptor: number | undefined;
  readonly #read = Buffer.alloc(1);

  private constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /** The pipe that a process has under `descriptor`. */
  static open(pid: number, descriptor: number): AheadPipe | undefined {
    try {
      const flags = constants.O_RDWR | constants.O_NONBLOCK;
      return new AheadPipe(openSync(`/proc/${pid}/fd/${descriptor}`, flags));
    } catch {
      // /proc may be hidden; it costs speed, nothing else.
      return undefined;
    }
  }

  /** One more task is given ahead of time. */
  add(): void {
    if (this.#descriptor !== undefined) {
      writeSync(this.#descriptor, TOKEN);
    }
  }

  /** Takes a token, if there is one. */
  take(): boolean {
    if (this.#descriptor === undefined) {
      return false;
    }
    try {
      return readSync(this.#descriptor, this.#read) === 1;
    } catch (error) {
      if (errorCode(error) === 'EAGAIN') {
        return false;
      }
      throw error;
    }
  }

  close(): void {
    if (this.#descriptor !== undefined) {
      closeSync(this.#descriptor);
      this.#descriptor = undefined;
    }
  }
}

/**
 * Captures what a task writes to process.stdout and process.stderr of its thread (console included), each stream's tail.
 *
 * What is written is attributed by the asynchronous context, so that a timer or promise which outlives its task never writes into the
 * output of the next one: what comes after the end is dropped.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

import type { TaskOutput } from '../../protocol/host-frames.ts';

/** The last bytes of a stream. */
class Tail {
  readonly #bytesMax: number;
  #chunks: Buffer[] = [];
  #bytes = 0;
  isCut = false;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    // Cutting at twice the bound makes the copying amortized.
    if (this.#bytes > 2 * this.#bytesMax) {
      this.#cut();
    }
  }

  text(): string | undefined {
    if (this.#bytes > this.#bytesMax) {
      this.#cut();
    }
    return this.#bytes === 0 ? undefined : Buffer.concat(this.#chunks).toString('utf8');
  }

  #cut(): void {
    const kept = Buffer.concat(this.#chunks).subarray(-this.#bytesMax);
    this.#chunks = [Buffer.from(kept)];
    this.#bytes = kept.length;
    this.isCut = true;
  }
}

/** A running task as its asynchronous context knows it. */
export class TaskContext {
  readonly #bytesMax: number;
  readonly #tails: { stdout?: Tail; stderr?: Tail } = {};
  #hasEnded = false;
  /** Ends the task with an error that no caller of it could catch. */
  fail: (thrown: unknown) => void = () => undefined;

  constructor(outputBytesMax: number) {
    this.#bytesMax = outputBytesMax;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Adds to a stream's tail. */
  write(stream: 'stdout' | 'stderr', chunk: Buffer): void {
    if (!this.#hasEnded) {
      (this.#tails[stream] ??= new Tail(this.#bytesMax)).push(chunk);
    }
  }

  /** Ends the capture and returns what there is. */
  end(): TaskOutput | undefined {
    this.#hasEnded = true;
    const { stdout, stderr } = this.#tails;
    if (stdout === undefined && stderr === undefined) {
      return undefined;
    }
    const texts = { stdout: stdout?.text(), stderr: stderr?.text() };
    return {
      ...(texts.stdout !== undefined && { stdout: texts.stdout }),
      ...(texts.stderr !== undefined && { stderr: texts.stderr }),
      ...((stdout?.isCut === true || stderr?.isCut === true) && { truncated: true }),
    };
  }
}

/** Which task the running code belongs to. */
export const taskContexts = new AsyncLocalStorage<TaskContext>();

/** Points the streams of this thread to the captures. */
export function captureStreams(): void {
  for (const name of ['stdout', 'stderr'] as const) {
    process[name].write = (
      chunk: Uint8Array | string,
      encodingOrDone?: BufferEncoding | ((error?: Error | null) => void),
      done?: (error?: Error | null) => void,
    ): boolean => {
      const encoding = typeof encodingOrDone === 'string' ? encodingOrDone : 'utf8';
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk);
      taskContexts.getStore()?.write(name, bytes);
      const callback = typeof encodingOrDone === 'function' ? encodingOrDone : done;
      if (callback !== undefined) {
        queueMicrotask(callback);
      }
      return true;
    };
  }
}

/**
 * What an interpreter and its tasks write to the two standard streams. It is bounded on disk while a task runs, and its end is read
 * here when the interpreter died before it could return it itself.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import type { TaskOutput } from '../../protocol/host-frames.ts';
import { CaptureFile } from './capture-file.ts';

/** Settings of {@link CapturedOutput}. */
export interface CapturedOutputOptions {
  /** How much of the end of each stream is returned. */
  readonly tailBytesMax: number;
  /** Where the files get names, for an interpreter that opens them itself. */
  readonly namedIn?: string;
  readonly clock: Clock;
}

/** Written output that is kept on disk while a task runs. */
const CAPTURE_BYTES_MAX = 16 * 1024 * 1024;
/** How often a running task's output is held against that bound. */
const CHECK_MS = 1_000;

/** The files behind both streams. */
export class CapturedOutput {
  readonly #options: CapturedOutputOptions;
  readonly #stdout: CaptureFile;
  readonly #stderr: CaptureFile;
  #timer: Timer | undefined;

  constructor(options: CapturedOutputOptions) {
    this.#options = options;
    this.#stdout = new CaptureFile(options.namedIn);
    try {
      try {
        this.#stderr = new CaptureFile(options.namedIn);
      } catch (error) {
        this.#stdout.close();
        throw error;
      }
    } catch (error) {
      this.#stdout.close();
      throw error;
    }
  }

  /** Descriptors of the host. */
  get descriptors(): { readonly stdout: number; readonly stderr: number } {
    return { stdout: this.#stdout.fd, stderr: this.#stderr.fd };
  }

  /** Where the interpreter finds them; empty texts when they have no name. */
  get paths(): readonly [string, string] {
    return [this.#stdout.path ?? '', this.#stderr.path ?? ''];
  }

  /** Takes their names away: whoever needed them has opened them. */
  unlink(): void {
    this.#stdout.unlink();
    this.#stderr.unlink();
  }

  /** Keeps them within their bound from now on, for as long as a task runs. */
  boundWhile(isRunning: () => boolean): void {
    this.#timer ??= this.#options.clock.after(
      CHECK_MS,
      () => {
        this.#timer = undefined;
        if (isRunning()) {
          this.#stdout.limit(CAPTURE_BYTES_MAX);
          this.#stderr.limit(CAPTURE_BYTES_MAX);
          this.boundWhile(isRunning);
        }
      },
      { background: true },
    );
  }

  /** Whether something was dropped since this was last asked. */
  takeCut(): boolean {
    const wasCut = this.#stdout.wasCut || this.#stderr.wasCut;
    this.#stdout.clearCut();
    this.#stderr.clearCut();
    return wasCut;
  }

  /** The end of what was written to standard error. */
  stderrTail(): string {
    return this.#stderr.tail(this.#options.tailBytesMax).text;
  }

  /** The end of both streams; undefined when nothing was written. */
  tails(): TaskOutput | undefined {
    const stdout = this.#stdout.tail(this.#options.tailBytesMax);
    const stderr = this.#stderr.tail(this.#options.tailBytesMax);
    const output: TaskOutput = {
      ...(stdout.text !== '' && { stdout: stdout.text }),
      ...(stderr.text !== '' && { stderr: stderr.text }),
      ...((stdout.truncated || stderr.truncated) && { truncated: true }),
    };
    return Object.keys(output).length === 0 ? undefined : output;
  }

  /** Closes the host's descriptors. Idempotent. */
  close(): void {
    this.#timer?.cancel();
    this.#stdout.close();
    this.#stderr.close();
  }
}

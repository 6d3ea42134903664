/**
 * Keeps what tasks printed, and how they ended, on the machine where they ran: for `agent logs NAME --task ID`.
 *
 * A task that printed nothing and succeeded costs nothing here. What is kept is noted in memory and written in batches, off the way
 * of the tasks, and a disk that does not take it is no concern of theirs: the output travels with the result in any case. Bounded
 * (I6): in memory by PENDING_BYTES_MAX, beyond which output is dropped and counted; on disk by days and bytes, the oldest going first.
 */
import type { FileHandle } from 'node:fs/promises';

import { blankSecrets } from '../../base/blank-secrets.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { detach } from '../../base/logger.ts';
import type { TaskEnd, TaskObserver } from '../task-observer.ts';
import { cleanTaskLogs, dayOf, openTaskLog } from './task-log-files.ts';
import type { TaskLogBounds, TaskLogEntry } from './task-log-files.ts';

const FLUSH_AFTER_MS = 250;
/** Writing begins without waiting from so much on. */
const FLUSH_BYTES = 512 * 1024;
const PENDING_BYTES_MAX = 8 * 1024 * 1024;
/** What is made into text and written at once: the loop belongs to the tasks. */
const PIECE_BYTES = 256 * 1024;
/** A file is removed as a whole, so the budget is spread over several. */
const FILES_IN_BUDGET = 8;
const FILE_BYTES_MAX = 16 * 1024 * 1024;
/** What an entry takes beside the output. */
const ENTRY_BYTES = 400;

/** Settings. */
export interface TaskLogsOptions {
  /** Directory of the files (task-log-files.ts). */
  readonly directory: string;
  readonly bounds: TaskLogBounds;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface PendingEntry {
  readonly entry: TaskLogEntry;
  readonly bytes: number;
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly path: string;
  readonly day: string;
  bytes: number;
}

/** Writes the output of tasks. */
export class TaskLogs implements TaskObserver {
  readonly #options: TaskLogsOptions;
  #bounds: TaskLogBounds;
  readonly #pending: PendingEntry[] = [];
  #pendingBytes = 0;
  #timer: Timer | undefined;
  #writing: Promise<void> = Promise.resolve();
  #file: OpenFile | undefined;
  /** The end of the file may be half a line. */
  #isTorn = true;
  #bytesSinceCleaning = Infinity;
  #droppedCount = 0;
  #isFailing = false;

  constructor(options: TaskLogsOptions) {
    this.#options = options;
    this.#bounds = options.bounds;
  }

  /** Entries that could not be kept: the disk was too slow, full, or not there. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  /** Other bounds, from now on. */
  configure(bounds: TaskLogBounds): void {
    this.#bounds = bounds;
    this.#bytesSinceCleaning = Infinity;
  }

  /** Removes what is beyond its days or the budget; returns the paths. */
  async clean(): Promise<string[]> {
    const { directory, clock } = this.#options;
    this.#bytesSinceCleaning = 0;
    const { days, bytesMax } = this.#bounds;
    // The file that is being written may still fill up.
    const bounds = { days, bytesMax: bytesMax - this.#fileBytesMax };
    return await cleanTaskLogs(directory, bounds, clock.now(), this.#file?.path);
  }

  readonly onEnded = (end: TaskEnd): void => {
    if (!end.failed && end.output === undefined) {
      return;
    }
    if (this.#bounds.days > 0) {
      this.#note(end);
    }
  };

  /** Resolves when what was noted is in the files, or was dropped. Never rejects. */
  async flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#writing = this.#writing.then(async () => {
      await this.#writePending();
    });
    await this.#writing;
  }

  /** Writes what is left and closes the file. Never rejects. */
  async close(): Promise<void> {
    await this.flush();
    await this.#closeFile();
  }

  #note(end: TaskEnd): void {
    const entry = entryOf(end, this.#options.clock);
    const texts = [entry.message, entry.stdout, entry.stderr];
    const bytes = texts.reduce((sum, text) => sum + (text?.length ?? 0), ENTRY_BYTES);
    if (this.#pendingBytes + bytes > PENDING_BYTES_MAX) {
      this.#drop(1, 'the disk is too slow for what tasks print');
      return;
    }
    this.#pending.push({ entry, bytes });
    this.#pendingBytes += bytes;
    if (this.#pendingBytes >= FLUSH_BYTES && this.#pendingBytes - bytes < FLUSH_BYTES) {
      detach(this.#options.logger, 'keeping output of tasks', this.flush());
    } else {
      this.#timer ??= this.#options.clock.after(
        FLUSH_AFTER_MS,
        () => {
          detach(this.#options.logger, 'keeping output of tasks', this.flush());
        },
        { background: true },
      );
    }
  }

  async #writePending(): Promise<void> {
    while (this.#pending.length > 0) {
      const piece = this.#takePiece();
      try {
        await this.#write(piece);
        this.#onWritten();
      } catch (error) {
        this.#isTorn = true;
        this.#drop(piece.length, errorText(error));
      }
    }
  }

  #takePiece(): PendingEntry[] {
    let count = 0;
    let bytes = 0;
    while (count < this.#pending.length && bytes < PIECE_BYTES) {
      bytes += this.#pending[count]?.bytes ?? 0;
      count += 1;
    }
    this.#pendingBytes -= bytes;
    return this.#pending.splice(0, count);
  }

  async #write(piece: readonly PendingEntry[]): Promise<void> {
    const file = await this.#openFile();
    const text = piece.map(({ entry }) => `${JSON.stringify(withoutSecrets(entry))}\n`).join('');
    // What a crash or a full disk left of a line must not spoil the next one.
    const bytes = Buffer.from(this.#isTorn && file.bytes > 0 ? `\n${text}` : text);
    await file.handle.appendFile(bytes);
    this.#isTorn = false;
    file.bytes += bytes.length;
    this.#bytesSinceCleaning += bytes.length;
    if (this.#bytesSinceCleaning > this.#fileBytesMax) {
      await this.clean();
    }
  }

  get #fileBytesMax(): number {
    return Math.min(FILE_BYTES_MAX, Math.floor(this.#bounds.bytesMax / FILES_IN_BUDGET));
  }

  async #openFile(): Promise<OpenFile> {
    const { directory, clock } = this.#options;
    const day = dayOf(clock.now());
    const current = this.#file;
    if (
      current?.day === day &&
      current.bytes < this.#fileBytesMax &&
      // Somebody may have tidied up by hand.
      (await current.handle.stat()).nlink > 0
    ) {
      return current;
    }
    await this.#closeFile();
    const opened = await openTaskLog(directory, day, this.#fileBytesMax);
    this.#isTorn = true;
    this.#file = { ...opened, day };
    return this.#file;
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    try {
      await file?.handle.close();
    } catch (error) {
      this.#options.logger.debug({ reason: errorText(error) }, 'closing output of tasks failed');
    }
  }

  #onWritten(): void {
    if (this.#isFailing) {
      this.#isFailing = false;
      this.#options.logger.info(
        { droppedCount: this.#droppedCount },
        'what tasks print is kept again',
      );
    }
  }

  #drop(count: number, reason: string): void {
    this.#droppedCount += count;
    if (!this.#isFailing) {
      this.#isFailing = true;
      this.#options.logger.warn(
        { reason, directory: this.#options.directory },
        'what tasks print cannot be kept here; it still travels with their results',
      );
    }
  }
}

function entryOf(
  { task, failed, failure, output, isRetried }: TaskEnd,
  clock: Clock,
): TaskLogEntry {
  const { taskId, meta, attempts, receivedAtMs, begunAtMs } = task;
  const nowMs = clock.now();
  const epochOfZeroMs = nowMs - clock.monotonicMs();
  const timeOf = (atMs: number): string | null =>
    atMs === 0 ? null : new Date(epochOfZeroMs + atMs).toISOString();
  return {
    task_id: taskId,
    function_id: meta.functionId,
    language: meta.language,
    attempt: attempts,
    received_at: timeOf(receivedAtMs),
    began_at: timeOf(begunAtMs),
    ended_at: new Date(nowMs).toISOString(),
    outcome: isRetried ? 'started again' : failed ? 'failed' : 'succeeded',
    ...failure,
    ...output,
  };
}

function withoutSecrets(entry: TaskLogEntry): TaskLogEntry {
  const { message, stdout, stderr } = entry;
  return {
    ...entry,
    ...(message !== undefined && { message: blankSecrets(message) }),
    ...(stdout !== undefined && { stdout: blankSecrets(stdout) }),
    ...(stderr !== undefined && { stderr: blankSecrets(stderr) }),
  };
}

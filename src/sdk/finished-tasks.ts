/**
 * Documents of tasks that have ended, so that a program which asks again does not ask the hub again.
 *
 * Documents and not values: each reader gets a value of its own, and one that is changed changes nothing here. A failure
 * that a real result may still replace is not kept.
 */
import type { TaskDocument } from '../protocol/rest.ts';

const COUNT_MAX = 10_000;
/** What an entry takes beside its texts. */
const ENTRY_BYTES = 500;

/** The last tasks that were seen to have ended, bounded in count and in bytes. */
export class FinishedTasks {
  readonly #bytesMax: number;
  /** Last used, last dropped. */
  readonly #documents = new Map<string, TaskDocument>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(taskId: string): TaskDocument | undefined {
    const document = this.#documents.get(taskId);
    if (document !== undefined) {
      this.#documents.delete(taskId);
      this.#documents.set(taskId, document);
    }
    return document;
  }

  /** Keeps a document if its task has ended for good. */
  add(taskId: string, document: TaskDocument): void {
    const status = document.status.toLowerCase();
    const isFinal = status === 'success' || status === 'failed';
    if (!isFinal || document.outpost?.provisional === true) {
      return;
    }
    this.#drop(taskId);
    this.#documents.set(taskId, document);
    this.#bytes += weight(document);
    for (const oldest of this.#documents.keys()) {
      if (this.#documents.size <= COUNT_MAX && this.#bytes <= this.#bytesMax) {
        return;
      }
      this.#drop(oldest);
    }
  }

  clear(): void {
    this.#documents.clear();
    this.#bytes = 0;
  }

  #drop(taskId: string): void {
    const document = this.#documents.get(taskId);
    if (document !== undefined) {
      this.#documents.delete(taskId);
      this.#bytes -= weight(document);
    }
  }
}

/** Strings of V8 take one or two bytes a character. */
function weight({ result = '', exception = '', outpost }: TaskDocument): number {
  const printed = (outpost?.stdout ?? '').length + (outpost?.stderr ?? '').length;
  return 2 * (result.length + exception.length + printed) + ENTRY_BYTES;
}

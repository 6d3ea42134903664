/**
 * Turns single submissions into few requests: what is added within one turn of the loop, or while a request is in flight,
 * goes together. One request is in flight at a time, so the order of submission is the order at the hub.
 */

/** One task on its way to the hub. */
export interface QueuedTask {
  readonly functionId: string;
  /** Packed arguments. */
  readonly payload: string;
  /** Tasks with different ones cannot share a request. */
  readonly resultSerializers: readonly string[];
}

/** Settings of a {@link SubmissionQueue}. */
export interface SubmissionQueueOptions<T extends QueuedTask> {
  /** Most tasks in one request. */
  readonly batchSize: number;
  /** Most payload in one request; a single task may exceed it, and then goes alone. */
  readonly batchBytes: number;
  /** Sends a batch and deals with its failure: must not reject. */
  readonly send: (batch: readonly T[]) => Promise<void>;
}

/** Queue of tasks to submit. */
export class SubmissionQueue<T extends QueuedTask> {
  readonly #options: SubmissionQueueOptions<T>;
  /** Waiting tasks by their result serializers. */
  readonly #waiting = new Map<string, T[]>();
  #running: Promise<void> | undefined;

  constructor(options: SubmissionQueueOptions<T>) {
    this.#options = options;
  }

  /** Adds a task. */
  add(task: T): void {
    const key = task.resultSerializers.join(' ');
    const queue = this.#waiting.get(key);
    if (queue === undefined) {
      this.#waiting.set(key, [task]);
    } else {
      queue.push(task);
    }
    this.#running ??= this.#run();
  }

  /** Takes out what has not been sent. */
  clear(): T[] {
    const tasks = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    return tasks;
  }

  /** Resolves when nothing waits and nothing is in flight. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    await endOfTurn();
    for (let batch = this.#take(); batch.length > 0; batch = this.#take()) {
      await this.#options.send(batch);
    }
    this.#running = undefined;
  }

  #take(): T[] {
    const [entry] = this.#waiting;
    if (entry === undefined) {
      return [];
    }
    const [key, queue] = entry;
    const count = this.#countThatFits(queue);
    const batch = queue.splice(0, count);
    this.#waiting.delete(key);
    if (queue.length > 0) {
      // At the end, so that the kinds take turns.
      this.#waiting.set(key, queue);
    }
    return batch;
  }

  #countThatFits(queue: readonly T[]): number {
    let bytes = 0;
    let count = 0;
    for (const task of queue) {
      bytes += Buffer.byteLength(task.payload, 'utf8');
      if (count === this.#options.batchSize || (count > 0 && bytes > this.#options.batchBytes)) {
        break;
      }
      count += 1;
    }
    return count;
  }
}

async function endOfTurn(): Promise<void> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve);
  });
}

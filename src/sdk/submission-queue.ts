/**
 * Turns single submissions into few requests, without a timer:
 *
 *   a full batch (count or bytes)   leaves at once, unless `concurrency` requests are in flight
 *   a smaller one                   leaves at the end of the turn of the loop, if no request is in flight; otherwise it
 *                                   gathers until one of them is answered
 *
 * Tasks leave in the order in which they came, apart from those that want other result serializers: these cannot share a
 * request, and the kinds take turns.
 */

/** One task on its way to the hub. */
export interface QueuedTask {
  readonly functionId: string;
  /** Packed arguments. */
  readonly payload: string;
  /** What the payload takes in a request. */
  readonly bytes: number;
  /** Tasks with different ones cannot share a request. */
  readonly resultSerializers: readonly string[];
}

/** Settings of a {@link SubmissionQueue}. */
export interface SubmissionQueueOptions<T extends QueuedTask> {
  /** Most tasks in one request. */
  readonly batchSize: number;
  /** Most bytes in one request; a single task may exceed it, and then goes alone. */
  readonly batchBytes: number;
  /** Most requests in flight; asked before each. */
  readonly concurrency: () => number;
  /** Sends a batch and deals with its failure: must not reject. */
  readonly send: (batch: readonly T[]) => Promise<void>;
}

/** Waiting tasks of one kind. A set, because tasks are taken from the front and called off anywhere. */
interface Lane<T> {
  readonly tasks: Set<T>;
  bytes: number;
}

/** Queue of tasks to submit. */
export class SubmissionQueue<T extends QueuedTask> {
  readonly #options: SubmissionQueueOptions<T>;
  /** By result serializers; a lane is never empty. */
  readonly #lanes = new Map<string, Lane<T>>();
  readonly #onIdle: (() => void)[] = [];
  #inFlight = 0;
  #isTurnAwaited = false;

  constructor(options: SubmissionQueueOptions<T>) {
    this.#options = options;
  }

  /** Adds a task. */
  add(task: T): void {
    const key = laneOf(task);
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { tasks: new Set(), bytes: 0 };
      this.#lanes.set(key, lane);
    }
    lane.tasks.add(task);
    lane.bytes += task.bytes;
    if (this.#isFull(lane)) {
      this.#sendFull();
    }
    if (this.#inFlight === 0 && !this.#isTurnAwaited) {
      this.#isTurnAwaited = true;
      setImmediate(() => {
        this.#isTurnAwaited = false;
        this.#sendRest();
      });
    }
  }

  /** Takes a task out; false when it has been sent, or was never here. */
  remove(task: T): boolean {
    const key = laneOf(task);
    const lane = this.#lanes.get(key);
    if (lane?.tasks.delete(task) !== true) {
      return false;
    }
    lane.bytes -= task.bytes;
    if (lane.tasks.size === 0) {
      this.#lanes.delete(key);
    }
    return true;
  }

  /** Takes out what has not been sent. */
  clear(): T[] {
    const tasks = [...this.#lanes.values()].flatMap((lane) => [...lane.tasks]);
    this.#lanes.clear();
    return tasks;
  }

  /** Resolves when nothing waits and nothing is in flight. */
  async idle(): Promise<void> {
    while (this.#inFlight > 0 || this.#lanes.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle.push(resolve);
      });
    }
  }

  #sendFull(): void {
    for (const [key, lane] of this.#lanes) {
      while (this.#isFull(lane) && this.#inFlight < this.#options.concurrency()) {
        this.#send(key, lane);
      }
    }
  }

  #sendRest(): void {
    this.#sendFull();
    const [first] = this.#lanes;
    if (this.#inFlight === 0 && first !== undefined) {
      this.#send(...first);
    }
  }

  #isFull({ tasks, bytes }: Lane<T>): boolean {
    return tasks.size >= this.#options.batchSize || bytes >= this.#options.batchBytes;
  }

  #send(key: string, lane: Lane<T>): void {
    const batch = this.#take(lane);
    this.#lanes.delete(key);
    if (lane.tasks.size > 0) {
      // At the end, so that the kinds take turns.
      this.#lanes.set(key, lane);
    }
    this.#inFlight += 1;
    const onAnswered = (): void => {
      this.#inFlight -= 1;
      this.#sendRest();
      if (this.#inFlight === 0) {
        this.#onIdle.splice(0).forEach((resolve) => {
          resolve();
        });
      }
    };
    this.#options.send(batch).then(onAnswered, onAnswered);
  }

  #take(lane: Lane<T>): T[] {
    const batch: T[] = [];
    let bytes = 0;
    for (const task of lane.tasks) {
      bytes += task.bytes;
      if (
        batch.length === this.#options.batchSize ||
        (batch.length > 0 && bytes > this.#options.batchBytes)
      ) {
        break;
      }
      batch.push(task);
      lane.tasks.delete(task);
      lane.bytes -= task.bytes;
    }
    return batch;
  }
}

function laneOf(task: QueuedTask): string {
  return task.resultSerializers.join(' ');
}

/**
 * How much one executor has taken on, in tasks and in bytes, and a way to wait until there is room for more.
 *
 * The bounds bind those who wait: `submit` itself neither waits nor refuses, because its future is returned at once.
 */
import { UsageError } from '../base/errors.ts';
import { AbortWatch } from './abort-watch.ts';

/** Bounds of {@link BackPressure}. */
export interface BackPressureBounds {
  /** Futures that are not settled. */
  readonly maxOpenTasks: number;
  /** Arguments that the hub has not taken yet. */
  readonly maxUnsentBytes: number;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Counts what is open, and wakes who waits for room. */
export class BackPressure {
  readonly #bounds: BackPressureBounds;
  readonly #watch = new AbortWatch();
  readonly #waiters = new Set<Waiter>();
  #openTasks = 0;
  #unsentBytes = 0;
  #isWaking = false;
  #end: Error | undefined;

  /** @throws UsageError when a bound leaves no room at all. */
  constructor(bounds: BackPressureBounds) {
    if (!(bounds.maxOpenTasks >= 1) || !(bounds.maxUnsentBytes >= 1)) {
      throw new UsageError('maxOpenTasks and maxUnsentBytes must be at least 1');
    }
    this.#bounds = bounds;
  }

  get openTasks(): number {
    return this.#openTasks;
  }

  get hasRoom(): boolean {
    const { maxOpenTasks, maxUnsentBytes } = this.#bounds;
    return this.#openTasks < maxOpenTasks && this.#unsentBytes < maxUnsentBytes;
  }

  /** A task was taken on (+1) or has ended (-1). */
  addTasks(count: number): void {
    this.#openTasks += count;
    this.#wakeSoon();
  }

  /** Arguments came (+) or were taken by the hub, or called off (-). */
  addBytes(bytes: number): void {
    this.#unsentBytes += bytes;
    this.#wakeSoon();
  }

  /** Resolves when there is room: at once, or in the order of asking. Rejects after `end()`, or with the signal's reason. */
  async ready(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#end !== undefined) {
      throw this.#end;
    }
    if (this.hasRoom && this.#waiters.size === 0) {
      return;
    }
    let release: (() => void) | undefined;
    let waiter: Waiter | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        waiter = { resolve, reject };
        this.#waiters.add(waiter);
        release = signal && this.#watch.add(signal, reject);
      });
    } finally {
      release?.();
      if (waiter !== undefined) {
        this.#waiters.delete(waiter);
      }
    }
  }

  /** Nothing more will be taken on: who waits is told, and so is who comes. */
  end(error: Error): void {
    this.#end ??= error;
    for (const { reject } of this.#waiters) {
      reject(this.#end);
    }
  }

  /**
   * Wakes as many as there is room for. Those who are woken submit in the turn that follows; whether they did is seen in
   * the turn after that, so that one who was woken and changed his mind holds nobody up.
   */
  #wakeSoon(): void {
    if (this.#waiters.size === 0 || this.#isWaking || !this.hasRoom) {
      return;
    }
    this.#isWaking = true;
    let room = this.#bounds.maxOpenTasks - this.#openTasks;
    for (const waiter of this.#waiters) {
      if (room <= 0) {
        break;
      }
      room -= 1;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
    setImmediate(() => {
      this.#isWaking = false;
      this.#wakeSoon();
    });
  }
}

/**
 * A small cache of what the database knows: bounded in weight, each entry valid for a limited time.
 *
 * The least recently used entry goes first. An entry heavier than the whole cache is not kept. Times come from the
 * monotonic clock, so that a clock that jumps neither keeps nor drops entries.
 *
 * A value that is read while somebody changes it may be the old one: none is kept that was read before something was forgotten.
 */
import type { Clock } from '../base/clock.ts';

/** Bounds of a {@link BoundedCache}. */
export interface BoundedCacheOptions<V> {
  readonly clock: Clock;
  readonly ttlMs: number;
  /** Sum of weights that is kept. */
  readonly weightMax: number;
  /** Weight of an entry; 1 when absent, so that `weightMax` counts entries. */
  readonly weigh?: (value: V) => number;
}

interface Entry<V> {
  readonly value: V;
  readonly weight: number;
  readonly expiresAtMs: number;
}

/** Least-recently-used cache with a time limit. */
export class BoundedCache<V> {
  readonly #options: BoundedCacheOptions<V>;
  /** In order of last use: a Map iterates in the order of insertion. */
  readonly #entries = new Map<string, Entry<V>>();
  #weight = 0;
  /** How often something was forgotten because it has changed. */
  #forgottenCount = 0;

  constructor(options: BoundedCacheOptions<V>) {
    this.#options = options;
  }

  /** Sum of the weights that are held. */
  get weight(): number {
    return this.#weight;
  }

  /** The value, unless absent or expired. */
  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      return undefined;
    }
    this.#entries.delete(key);
    if (entry.expiresAtMs <= this.#options.clock.monotonicMs()) {
      this.#weight -= entry.weight;
      return undefined;
    }
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** To be taken before a value is read that `setSince` is to store. */
  get mark(): number {
    return this.#forgottenCount;
  }

  /** Stores a value, unless it or another one was forgotten since the mark: it may have changed after it was read. */
  setSince(mark: number, key: string, value: V): void {
    if (mark === this.#forgottenCount) {
      this.set(key, value);
    }
  }

  /** Reads a value anew and stores it as `setSince` does; undefined is not stored. */
  async read<Read extends V | undefined>(key: string, read: () => Promise<Read>): Promise<Read> {
    const { mark } = this;
    const value = await read();
    if (value !== undefined) {
      this.setSince(mark, key, value);
    }
    return value;
  }

  /** Stores a value and makes room for it. */
  set(key: string, value: V): void {
    this.#drop(key);
    const weight = this.#options.weigh?.(value) ?? 1;
    if (weight > this.#options.weightMax) {
      return;
    }
    this.#entries.set(key, {
      value,
      weight,
      expiresAtMs: this.#options.clock.monotonicMs() + this.#options.ttlMs,
    });
    this.#weight += weight;
    for (const oldest of this.#entries.keys()) {
      if (this.#weight <= this.#options.weightMax) {
        break;
      }
      this.#drop(oldest);
    }
  }

  /** Forgets a value. */
  delete(key: string): void {
    this.#forgottenCount += 1;
    this.#drop(key);
  }

  /** Forgets everything. */
  clear(): void {
    this.#forgottenCount += 1;
    this.#entries.clear();
    this.#weight = 0;
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) {
      this.#weight -= entry.weight;
      this.#entries.delete(key);
    }
  }
}

/**
 * Tombstones in memory: 16-byte keys of tasks whose results were confirmed (I3), in open-addressing tables of plain
 * integers. A million of them take about 30 MB, where a Set of strings would take 150 MB and slow every collection down.
 *
 * Bounded in count and age by generations (I6): new keys go into the youngest; when the count or the age reaches its bound, the
 * oldest generation is dropped whole. Losing one only means that a delivery older than the bound would be taken as new.
 */
import type { Clock } from '../../base/clock.ts';

/** Generations alive at a time: the bounds are kept to within one part in this many. */
const GENERATIONS = 8;

const CAPACITY_MIN = 1024;

/** A set of 16-byte keys. */
export class KeyTable {
  #words = new Uint32Array(CAPACITY_MIN * 4);
  #capacity = CAPACITY_MIN;
  #count = 0;
  /** The all-zero key marks a free place, so it is kept aside. */
  #hasZero = false;

  get count(): number {
    return this.#count;
  }

  has(key: Buffer, at = 0): boolean {
    const a = key.readUInt32LE(at);
    const b = key.readUInt32LE(at + 4);
    const c = key.readUInt32LE(at + 8);
    const d = key.readUInt32LE(at + 12);
    if ((a | b | c | d) === 0) {
      return this.#hasZero;
    }
    return !this.#isFree(this.#place(a, b, c, d));
  }

  /** Adds the key at `at`; false when it was there already. */
  add(key: Buffer, at = 0): boolean {
    const a = key.readUInt32LE(at);
    const b = key.readUInt32LE(at + 4);
    const c = key.readUInt32LE(at + 8);
    const d = key.readUInt32LE(at + 12);
    if ((a | b | c | d) === 0) {
      const added = !this.#hasZero;
      this.#hasZero = true;
      this.#count += added ? 1 : 0;
      return added;
    }
    if ((this.#count + 1) * 5 > this.#capacity * 4) {
      this.#grow();
    }
    const place = this.#place(a, b, c, d);
    if (!this.#isFree(place)) {
      return false;
    }
    this.#put(place, a, b, c, d);
    this.#count += 1;
    return true;
  }

  /** Index of the key's first word, or of the free place where it belongs. */
  #place(a: number, b: number, c: number, d: number): number {
    const words = this.#words;
    const mask = this.#capacity - 1;
    // UUIDs are random in most bits but not in all; mixing makes the low bits depend on every word.
    let hash = Math.imul(a ^ Math.imul(b, 0x9e3779b1), 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35) ^ d;
    hash ^= hash >>> 15;
    let slot = hash & mask;
    for (;;) {
      const at = slot * 4;
      const same =
        words[at] === a && words[at + 1] === b && words[at + 2] === c && words[at + 3] === d;
      if (same || this.#isFree(at)) {
        return at;
      }
      slot = (slot + 1) & mask;
    }
  }

  #isFree(at: number): boolean {
    const words = this.#words;
    return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0 && words[at + 3] === 0;
  }

  #put(at: number, a: number, b: number, c: number, d: number): void {
    this.#words[at] = a;
    this.#words[at + 1] = b;
    this.#words[at + 2] = c;
    this.#words[at + 3] = d;
  }

  #grow(): void {
    const old = this.#words;
    this.#capacity *= 2;
    this.#words = new Uint32Array(this.#capacity * 4);
    for (let at = 0; at < old.length; at += 4) {
      const [a = 0, b = 0, c = 0, d = 0] = [old[at], old[at + 1], old[at + 2], old[at + 3]];
      if ((a | b | c | d) !== 0) {
        this.#put(this.#place(a, b, c, d), a, b, c, d);
      }
    }
  }
}

/** Keys in the order they came: what a segment remembers of the tasks that were confirmed in it. */
export class KeyList {
  #bytes = Buffer.alloc(0);
  #length = 0;

  get count(): number {
    return this.#length / 16;
  }

  push(key: Buffer): void {
    if (this.#length + 16 > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(1024, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    this.#length += key.copy(this.#bytes, this.#length, 0, 16);
  }

  /** All keys, one behind the other. A view. */
  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }
}

/** Bounds of the tombstones. */
export interface TombstoneBounds {
  readonly countMax: number;
  readonly ttlMs: number;
}

interface Generation {
  readonly table: KeyTable;
  readonly bornAtMs: number;
}

/** All tombstones that the agent remembers. */
export class TombstoneTable {
  readonly #bounds: TombstoneBounds;
  readonly #clock: Clock;
  /** Oldest first. */
  #generations: Generation[] = [];

  constructor(bounds: TombstoneBounds, clock: Clock) {
    this.#bounds = bounds;
    this.#clock = clock;
  }

  get count(): number {
    return this.#generations.reduce((sum, generation) => sum + generation.table.count, 0);
  }

  has(key: Buffer): boolean {
    return this.#generations.some((generation) => generation.table.has(key));
  }

  /** Adds the keys in `keys`, one behind the other, as of `atMs` (now, unless they are replayed from a file). */
  add(keys: Buffer, atMs = this.#clock.now()): void {
    for (let at = 0; at < keys.length; at += 16) {
      this.#youngest(atMs).table.add(keys, at);
    }
  }

  #youngest(atMs: number): Generation {
    const youngest = this.#generations.at(-1);
    if (
      youngest !== undefined &&
      !isGenerationOver(youngest.table.count, youngest.bornAtMs, atMs, this.#bounds)
    ) {
      return youngest;
    }
    const generation: Generation = { table: new KeyTable(), bornAtMs: atMs };
    this.#generations.push(generation);
    this.#expire();
    return generation;
  }

  /** Drops the oldest generations that are over age or over count. */
  #expire(): void {
    const oldestAllowed = this.#clock.now() - this.#bounds.ttlMs;
    for (;;) {
      const [oldest, next] = this.#generations;
      // The age that counts is that of a generation's last key: the next one's birth.
      const isOld = next !== undefined && next.bornAtMs < oldestAllowed;
      // The youngest will grow by its share: that room is made now.
      const isOver =
        next !== undefined && this.count + generationShare(this.#bounds) > this.#bounds.countMax;
      if (oldest === undefined || !(isOld || isOver)) {
        return;
      }
      this.#generations = this.#generations.slice(1);
    }
  }
}

/** Keys in one generation. */
export function generationShare(bounds: TombstoneBounds): number {
  return Math.max(1, Math.ceil(bounds.countMax / GENERATIONS));
}

/** Whether a generation takes no more keys. */
export function isGenerationOver(
  count: number,
  bornAtMs: number,
  nowMs: number,
  bounds: TombstoneBounds,
): boolean {
  return count >= generationShare(bounds) || nowMs - bornAtMs >= bounds.ttlMs / GENERATIONS;
}

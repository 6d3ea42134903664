/** Tombstones in memory: exact, and bounded in count and age. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';

import fc from 'fast-check';

import { KeyTable, TombstoneTable } from '../../../src/agent/journal/tombstone-table.ts';
import { systemClock, type Clock } from '../../../src/base/clock.ts';

function handClock(): Clock & { at: number } {
  const clock = { ...systemClock, at: 1_000_000, now: () => clock.at };
  return clock;
}

describe('the table of keys', () => {
  it('holds what was added and nothing else', () => {
    // Few different bytes, so that keys resemble each other and zeros occur.
    const keys = fc.array(fc.constantFrom(0, 1, 255), { minLength: 16, maxLength: 16 });
    fc.assert(
      fc.property(fc.array(keys), fc.array(keys), (added, asked) => {
        const table = new KeyTable();
        const model = new Set<string>();
        for (const key of added) {
          assert.equal(table.add(Buffer.from(key)), !model.has(key.join()));
          model.add(key.join());
        }
        assert.equal(table.count, model.size);
        for (const key of [...added, ...asked]) {
          assert.equal(table.has(Buffer.from(key)), model.has(key.join()));
        }
      }),
    );
  });

  it('keeps every key while it grows', () => {
    const keys = randomBytes(16 * 50_000);
    const table = new KeyTable();
    for (let at = 0; at < keys.length; at += 16) {
      table.add(keys, at);
    }
    assert.equal(table.count, 50_000);
    for (let at = 0; at < keys.length; at += 16) {
      assert.ok(table.has(keys, at));
    }
    assert.equal(table.has(randomBytes(16)), false);
  });
});

describe('tombstones', () => {
  it('forget the oldest first when there are too many', () => {
    const table = new TombstoneTable({ countMax: 800, ttlMs: 1e12 }, handClock());
    const keys = Array.from({ length: 2000 }, () => randomBytes(16));
    for (const key of keys) {
      table.add(key);
      assert.ok(table.count <= 800);
    }
    assert.ok(table.count >= 700);
    assert.ok(keys.slice(-700).every((key) => table.has(key)));
    assert.ok(!keys.slice(0, 1200).some((key) => table.has(key)));
  });

  it('forget what is older than the time to live, and nothing younger', () => {
    const clock = handClock();
    const table = new TombstoneTable({ countMax: 1e6, ttlMs: 8000 }, clock);
    const keys: Buffer[] = [];
    for (let second = 0; second < 30; second += 1) {
      const key = randomBytes(16);
      keys.push(key);
      table.add(key);
      clock.at += 1000;
    }
    assert.ok(keys.slice(-8).every((key) => table.has(key)));
    assert.ok(!keys.slice(0, 18).some((key) => table.has(key)));
  });
});

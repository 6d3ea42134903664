import assert from 'node:assert/strict';

import type { Clock } from '../../../src/base/clock.ts';
import { BoundedCache } from '../../../src/hub/bounded-cache.ts';

function turnedClock(): Clock & { turn: (ms: number) => void } {
  let nowMs = 0;
  return {
    now: () => nowMs,
    monotonicMs: () => nowMs,
    after: () => {
      throw new Error('not used');
    },
    turn: (ms) => {
      nowMs += ms;
    },
  };
}

describe('BoundedCache', () => {
  it('drops the least recently used entry first', () => {
    const cache = new BoundedCache<number>({ clock: turnedClock(), ttlMs: 10, weightMax: 2 });
    cache.set('a', 1);
    cache.set('b', 2);
    cache.get('a');
    cache.set('c', 3);
    assert.equal(cache.get('b'), undefined);
    assert.equal(cache.get('a'), 1);
    assert.equal(cache.get('c'), 3);
  });

  it('forgets an entry when its time has passed, however often it was read', () => {
    const clock = turnedClock();
    const cache = new BoundedCache<number>({ clock, ttlMs: 10, weightMax: 2 });
    cache.set('a', 1);
    clock.turn(9);
    assert.equal(cache.get('a'), 1);
    clock.turn(1);
    assert.equal(cache.get('a'), undefined);
    assert.equal(cache.weight, 0);
  });

  it('keeps the sum of weights within its bound', () => {
    const cache = new BoundedCache<string>({
      clock: turnedClock(),
      ttlMs: 10,
      weightMax: 10,
      weigh: (text) => text.length,
    });
    cache.set('a', 'xxxx');
    cache.set('b', 'xxxx');
    cache.set('b', 'xxxxx');
    assert.equal(cache.weight, 9);
    cache.set('c', 'xxxxxx');
    assert.equal(cache.get('a'), undefined);
    assert.equal(cache.get('b'), undefined);
    assert.equal(cache.weight, 6);
  });

  it('does not keep an entry that is heavier than the whole', () => {
    const cache = new BoundedCache<string>({
      clock: turnedClock(),
      ttlMs: 10,
      weightMax: 3,
      weigh: (text) => text.length,
    });
    cache.set('a', 'x');
    cache.set('a', 'xxxx');
    assert.equal(cache.get('a'), undefined);
    assert.equal(cache.weight, 0);
  });
});

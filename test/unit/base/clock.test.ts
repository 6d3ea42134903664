import assert from 'node:assert/strict';

import { coalesceTimers, systemClock } from '../../../src/base/clock.ts';

const HOUR_MS = 3_600_000;

describe('the clock', () => {
  it('fires what may come sooner together with something else, once, and nothing else', async () => {
    const fired: string[] = [];
    const timer = (name: string, delayMs: number, toleranceMs?: number) =>
      systemClock.after(
        delayMs,
        () => {
          fired.push(name);
        },
        { background: true, ...(toleranceMs !== undefined && { toleranceMs }) },
      );
    const timers = [
      timer('may come now', HOUR_MS, HOUR_MS),
      timer('not so soon', HOUR_MS, HOUR_MS / 2),
      timer('at its time', HOUR_MS),
    ];
    timer('cancelled', HOUR_MS, HOUR_MS).cancel();
    const late = timer('cancelled late', HOUR_MS, HOUR_MS);
    coalesceTimers();
    late.cancel();
    assert.deepEqual(fired, []);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    coalesceTimers();
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    assert.deepEqual(fired, ['may come now']);
    for (const each of timers) {
      each.cancel();
    }
  });

  it('fires by itself what nothing else comes for', async () => {
    await new Promise<void>((resolve) => {
      systemClock.after(1, resolve, { toleranceMs: 1 });
    });
  });
});

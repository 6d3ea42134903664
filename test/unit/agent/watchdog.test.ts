import assert from 'node:assert/strict';

import { Watchdog } from '../../../src/agent/watchdog.ts';
import type { WatchedLoop } from '../../../src/agent/watchdog.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { TurnedClock } from '../../support/turned-clock.ts';

const PERIOD_MS = 30_000;

describe('the watchdog', () => {
  let clock: TurnedClock;
  let busy: boolean;
  let progress: number;
  let restarts: number[];
  let watchdog: Watchdog;

  beforeEach(() => {
    clock = new TurnedClock();
    busy = true;
    progress = 0;
    restarts = [];
    const loop: WatchedLoop = {
      name: 'a loop',
      limitMs: 60_000,
      isBusy: () => busy,
      progress: () => progress,
      restart: (stalledMs) => restarts.push(stalledMs),
    };
    watchdog = new Watchdog({ loops: [loop], clock, logger: silentLogger });
    watchdog.start();
  });

  it('starts a loop again that has work and made no progress for its limit, and tells so', () => {
    clock.turn(59_000);
    assert.deepEqual(watchdog.stalls, []);
    clock.turn(1_000);
    assert.deepEqual(restarts, [60_000]);
    clock.turn(60_000);
    assert.equal(restarts.length, 2);
    assert.deepEqual(watchdog.stalls, [
      { loop: 'a loop', count: 2, last_at: new Date(120_000).toISOString() },
    ]);
  });

  it('leaves a loop alone that makes progress, or has nothing to do', () => {
    for (let count = 0; count < 10; count += 1) {
      progress += 1;
      clock.turn(PERIOD_MS);
    }
    busy = false;
    clock.turn(10 * PERIOD_MS);
    assert.deepEqual(restarts, []);
    busy = true;
    clock.turn(PERIOD_MS);
    assert.deepEqual(restarts, [], 'the time without work does not count');
  });

  it('blames nobody for a time in which the agent itself did not run', () => {
    clock.turn(PERIOD_MS);
    clock.turn(3_600_000, true);
    assert.deepEqual(restarts, []);
    clock.turn(60_000);
    assert.equal(restarts.length, 1);
  });

  it('has one timer, and none after it was stopped', () => {
    assert.equal(clock.isIdle, false);
    watchdog.stop();
    assert.equal(clock.isIdle, true);
  });
});

import assert from 'node:assert/strict';

import { StartBreaker } from '../../../src/workers/start-breaker.ts';

const SECOND_MS = 1000;

function isOpen(breaker: StartBreaker): boolean {
  return breaker.openReason !== undefined;
}

describe('the breaker of an engine', () => {
  it('opens after ten workers that had been ready died and none had ended a task', () => {
    const breaker = new StartBreaker();
    for (let count = 1; count < 10; count += 1) {
      breaker.succeed();
      assert.equal(breaker.lose('bad library', count * SECOND_MS), false);
      assert.equal(breaker.openReason, undefined);
    }
    assert.equal(breaker.lose('bad library', 10 * SECOND_MS), true);
    assert.match(breaker.openReason ?? '', /10 workers died.*bad library/);
  });

  it('is closed by a worker that becomes ready, and opened again by its death', () => {
    const breaker = new StartBreaker();
    for (let count = 0; count < 10; count += 1) {
      breaker.lose('bad library', 0);
    }
    breaker.succeed();
    assert.equal(isOpen(breaker), false);
    assert.equal(breaker.lose('still bad', 30 * SECOND_MS), true);
    assert.match(breaker.openReason ?? '', /still bad/);
  });

  it('starts to count again when a task has ended in a worker', () => {
    const breaker = new StartBreaker();
    for (let count = 0; count < 100; count += 1) {
      if (count % 9 === 0) {
        breaker.work();
      }
      breaker.lose('a function called os._exit()', 0);
    }
    assert.equal(breaker.openReason, undefined);
  });

  it('does not take deaths that lie far apart for a series', () => {
    const breaker = new StartBreaker();
    for (let count = 0; count < 100; count += 1) {
      breaker.lose('killed', count * 20 * SECOND_MS);
    }
    assert.equal(breaker.openReason, undefined);
  });
});

import assert from 'node:assert/strict';

import { systemClock } from '../../../src/base/clock.ts';
import { LoginThrottle } from '../../../src/hub/auth/login-throttle.ts';

describe('the limits on guessing passwords', () => {
  let nowMs: number;
  let throttle: LoginThrottle;
  beforeEach(() => {
    nowMs = 0;
    throttle = new LoginThrottle({ ...systemClock, monotonicMs: () => nowMs });
  });

  function fail(username: string, address: string, times: number): void {
    for (let attempt = 0; attempt < times; attempt += 1) {
      throttle.attempted(username, address);
    }
  }

  it('hold a username up after five attempts, until five minutes after the first', () => {
    fail('ada', 'one', 4);
    assert.equal(throttle.waitS('ada', 'one'), 0);
    nowMs = 60_000;
    fail('ada', 'two', 1);
    assert.equal(throttle.waitS('ada', 'three'), 240);
    assert.equal(throttle.waitS('grace', 'one'), 0);
    nowMs = 300_000;
    assert.equal(throttle.waitS('ada', 'one'), 0);
  });

  it('hold an address up that guesses the passwords of many people', () => {
    for (let person = 0; person < 50; person += 1) {
      fail(`person-${person}`, 'one', 1);
    }
    assert.equal(throttle.waitS('ada', 'one'), 300);
    assert.equal(throttle.waitS('ada', 'two'), 0);
  });

  it('do not count the right password', () => {
    fail('ada', 'one', 4);
    for (let login = 0; login < 100; login += 1) {
      throttle.attempted('ada', 'one');
      throttle.succeeded('ada', 'one');
    }
    assert.equal(throttle.waitS('ada', 'one'), 0);
  });
});

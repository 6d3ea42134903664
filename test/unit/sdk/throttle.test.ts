import assert from 'node:assert/strict';

import type { Clock } from '../../../src/base/clock.ts';
import { Throttle } from '../../../src/sdk/throttle.ts';

/** A clock whose time passes only while somebody waits for it. */
class PatientClock implements Clock {
  nowMs = 0;
  readonly #waiting: { atMs: number; callback: () => void }[] = [];

  now = (): number => this.nowMs;
  monotonicMs = (): number => this.nowMs;

  after = (delayMs: number, callback: () => void): { cancel: () => void } => {
    const entry = { atMs: this.nowMs + delayMs, callback };
    this.#waiting.push(entry);
    return {
      cancel: (): void => {
        const index = this.#waiting.indexOf(entry);
        if (index !== -1) {
          this.#waiting.splice(index, 1);
        }
      },
    };
  };

  jump(toMs: number): void {
    this.nowMs = toMs;
  }

  /** Lets time pass until nobody waits. */
  async run(): Promise<void> {
    for (;;) {
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
      this.#waiting.sort((a, b) => a.atMs - b.atMs);
      const next = this.#waiting.shift();
      if (next === undefined) {
        return;
      }
      this.nowMs = next.atMs;
      next.callback();
    }
  }
}

describe('throttle', () => {
  it('lets 20 requests through in any 10 seconds, the others in the order of coming', async () => {
    const clock = new PatientClock();
    const throttle = new Throttle(clock);
    const passed: [number, number][] = [];
    const pass = async (index: number): Promise<void> => {
      await throttle.pass();
      passed.push([index, clock.nowMs]);
    };
    const all = Array.from({ length: 45 }, async (_, index) => {
      await pass(index);
    });
    await clock.run();
    await Promise.all(all);
    assert.deepEqual(
      passed.map(([index]) => index),
      Array.from({ length: 45 }, (_, index) => index),
    );
    for (const [index, atMs] of passed) {
      assert.equal(atMs, Math.floor(index / 20) * 10_000);
    }
    clock.jump(60_000);
    await pass(45);
    assert.equal(passed.at(-1)?.[1], 60_000);
  });

  it('gives the turn of a request that was given up to the next', async () => {
    const clock = new PatientClock();
    const throttle = new Throttle(clock);
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        await throttle.pass();
      }),
    );
    const abort = new AbortController();
    const given = Array.from({ length: 20 }, async () => {
      await assert.rejects(throttle.pass(abort.signal), { message: 'enough' });
    });
    abort.abort(new Error('enough'));
    await Promise.all(given);
    const next = throttle.pass();
    await clock.run();
    await next;
    assert.equal(clock.nowMs, 10_000);
  });
});

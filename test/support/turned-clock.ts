/** A clock for what waits for one timer at a time: time passes when a test says so. */
import assert from 'node:assert/strict';
import { setImmediate as turnOfTheLoop } from 'node:timers/promises';

import type { Clock, Timer } from '../../src/base/clock.ts';

/** Time that a test turns. */
export class TurnedClock implements Clock {
  #nowMs = 0;
  #due: { atMs: number; callback: () => void } | undefined;

  readonly now = (): number => this.#nowMs;
  readonly monotonicMs = (): number => this.#nowMs;
  readonly after = (delayMs: number, callback: () => void): Timer => {
    const due = { atMs: this.#nowMs + delayMs, callback };
    this.#due = due;
    return {
      cancel: () => {
        this.#due = this.#due === due ? undefined : this.#due;
      },
    };
  };

  get isIdle(): boolean {
    return this.#due === undefined;
  }

  /** Lets the next timer come, and what it begins come to its end. */
  async next(): Promise<void> {
    const due = this.#due;
    assert.ok(due !== undefined, 'nothing is waited for');
    this.#due = undefined;
    this.#nowMs = due.atMs;
    due.callback();
    await turnOfTheLoop();
  }

  /** Lets the time pass, one timer at a time; a leap is a time in which nothing ran. */
  turn(ms: number, isLeap = false): void {
    const untilMs = this.#nowMs + ms;
    while (this.#due !== undefined && this.#due.atMs <= untilMs) {
      this.#nowMs = isLeap ? untilMs : this.#due.atMs;
      const { callback } = this.#due;
      this.#due = undefined;
      callback();
    }
    this.#nowMs = untilMs;
  }
}

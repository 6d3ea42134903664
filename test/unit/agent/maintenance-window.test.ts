/** What the schedule of maintenance windows asks for, at any moment and whatever was asked for before. */
import assert from 'node:assert/strict';

import type { ModeRecord } from '../../../src/agent/agent-mode.ts';
import { previousRun } from '../../../src/agent/cron-times.ts';
import { scheduledChange } from '../../../src/agent/maintenance-window.ts';

/** Local time. */
function at(text: string): Date {
  return new Date(text);
}

function record(mode: ModeRecord['mode'], by: string, since: string): ModeRecord {
  return { mode, by, since: at(since).toISOString(), reason: null };
}

describe('the last time of a schedule', () => {
  for (const [expression, now, expected] of [
    ['0 2 * * *', '2026-03-10T02:00:00', '2026-03-10T02:00:00'],
    ['0 2 * * *', '2026-03-10T01:59:59', '2026-03-09T02:00:00'],
    ['30 4 * * 6', '2026-03-10T12:00:00', '2026-03-07T04:30:00'],
    ['0 0 29 2 *', '2026-03-10T12:00:00', '2024-02-29T00:00:00'],
    ['15,45 8-10 * * 1-5', '2026-03-09T08:20:00', '2026-03-09T08:15:00'],
    ['15,45 8-10 * * 1-5', '2026-03-09T08:10:00', '2026-03-06T10:45:00'],
    ['*/10 * * * * *', '2026-03-10T12:00:19', '2026-03-10T12:00:10'],
    ['0 12 L * *', '2026-03-10T12:00:00', '2026-02-28T12:00:00'],
  ] as const) {
    it(`of ${expression} at ${now} is ${expected}`, () => {
      assert.deepEqual(previousRun(expression, at(now)), at(expected));
    });
  }

  it('is unknown when it never came', () => {
    assert.equal(previousRun('0 0 29 2 1', at('2026-03-10T12:00:00')), undefined);
  });
});

describe('a maintenance window', () => {
  const window = { drainAt: '0 2 * * 6', resumeAt: '0 6 * * *' };
  const inside = at('2026-03-07T03:00:00');
  const after = at('2026-03-07T07:00:00');
  const later = at('2026-03-10T12:00:00');

  it('drains what takes tasks, also when its begin was not seen', () => {
    for (const before of [undefined, record('running', 'anna', '2026-03-06T12:00:00')]) {
      const change = scheduledChange(window, before, inside);
      assert.deepEqual([change?.mode, change?.by], ['drained', 'schedule']);
      assert.match(change?.reason ?? '', /^maintenance until /);
    }
  });

  it('ends what it began, also when its end was not seen', () => {
    const drained = record('drained', 'schedule', '2026-03-07T02:00:00');
    for (const now of [after, later]) {
      assert.equal(scheduledChange(window, drained, now)?.mode, 'running');
    }
    assert.equal(scheduledChange(window, drained, inside), undefined);
  });

  it('leaves alone what a person has asked for', () => {
    const resumed = record('running', 'anna', '2026-03-07T02:30:00');
    assert.equal(scheduledChange(window, resumed, inside), undefined);
    const drained = record('drained', 'anna', '2026-03-06T12:00:00');
    for (const now of [inside, after, later]) {
      assert.equal(scheduledChange(window, drained, now), undefined);
    }
  });

  it('gives a paused endpoint its pause back', () => {
    const paused = record('paused', 'anna', '2026-03-06T12:00:00');
    const change = scheduledChange(window, paused, inside);
    assert.equal(change?.mode, 'drained');
    assert.deepEqual(change.before, paused);
    const drained = { ...record('drained', 'schedule', '2026-03-07T02:00:00'), before: paused };
    const back = scheduledChange(window, drained, after);
    assert.deepEqual([back?.mode, back?.by], ['paused', 'anna']);
  });

  it('begins and ends although the clock was far ahead when its mode was last changed', () => {
    const resumed = record('running', 'anna', '2031-01-01T00:00:00');
    assert.equal(scheduledChange(window, resumed, inside)?.mode, 'drained');
    const drained = record('drained', 'schedule', '2031-01-01T00:00:00');
    assert.equal(scheduledChange(window, drained, after)?.mode, 'running');
    const aMomentAhead = record('running', 'anna', '2026-03-07T03:00:01');
    assert.equal(scheduledChange(window, aMomentAhead, inside), undefined);
  });

  it('is not open because its end comes next', () => {
    // Every morning ends a window, and only on Saturdays one begins.
    assert.equal(scheduledChange(window, undefined, later), undefined);
  });
});

describe('a maintenance window where the clock is put forward', () => {
  const zone = process.env['TZ'];

  before(() => {
    process.env['TZ'] = 'Europe/Berlin';
  });

  after(() => {
    if (zone === undefined) {
      delete process.env['TZ'];
    } else {
      process.env['TZ'] = zone;
    }
  });

  it('ends on that day too, when its end is one of the times that were left out', () => {
    const window = { drainAt: '0 1 * * *', resumeAt: '30 2 * * *' };
    const drained = record('drained', 'schedule', '2026-03-29T01:00:00');
    assert.equal(scheduledChange(window, drained, at('2026-03-29T03:10:00')), undefined);
    assert.equal(scheduledChange(window, drained, at('2026-03-29T04:00:00'))?.mode, 'running');
  });

  it('begins on that day too', () => {
    const window = { drainAt: '0 30 2 * * 7', resumeAt: '0 6 * * *' };
    assert.equal(scheduledChange(window, undefined, at('2026-03-29T04:00:00'))?.mode, 'drained');
    assert.equal(scheduledChange(window, undefined, at('2026-03-30T04:00:00')), undefined);
  });
});

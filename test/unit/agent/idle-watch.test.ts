/** When an agent has nothing to do, by the table of the protocol: soft after work, hard without work or with work that hangs. */
import assert from 'node:assert/strict';

import { IdleWatch } from '../../../src/agent/idle-watch.ts';
import type { IdleLimits, WorkCounts } from '../../../src/agent/idle-watch.ts';

const NOTHING: WorkCounts = {
  receivedCount: 0,
  deliveredCount: 0,
  heldCount: 0,
  isTaking: true,
};
const DONE: WorkCounts = { ...NOTHING, receivedCount: 1, deliveredCount: 1 };
const HANGS: WorkCounts = { ...NOTHING, receivedCount: 1, heldCount: 1 };

/** Heartbeats until the agent stops, and why; undefined after 50. */
function beatsUntilStop(
  limits: IdleLimits,
  work: (beat: number) => WorkCounts,
): { beat: number; reason: string } | undefined {
  const watch = new IdleWatch(limits);
  for (let beat = 0; beat < 50; beat += 1) {
    const reason = watch.onHeartbeat(work(beat));
    if (reason !== undefined) {
      return { beat, reason };
    }
  }
  return undefined;
}

describe('idle watch', () => {
  it('stops after the soft limit once there was work and all of it is done', () => {
    const stop = beatsUntilStop({ soft: 3, hard: 20 }, () => DONE);
    // The first heartbeat is the one that finds the work.
    assert.equal(stop?.beat, 3);
    assert.match(stop.reason, /idle_heartbeats_soft/);
  });

  it('stops beyond the hard limit when there was no work at all', () => {
    const stop = beatsUntilStop({ soft: 3, hard: 8 }, () => NOTHING);
    assert.equal(stop?.beat, 9);
    assert.match(stop.reason, /no task yet.*idle_heartbeats_hard/);
  });

  it('stops beyond the hard limit when a task hangs', () => {
    const stop = beatsUntilStop({ soft: 3, hard: 8 }, () => HANGS);
    assert.equal(stop?.beat, 9);
    assert.match(stop.reason, /no progress/);
  });

  it('never lets the hard limit come before the soft one', () => {
    assert.equal(beatsUntilStop({ soft: 10, hard: 2 }, () => NOTHING)?.beat, 12);
  });

  it('never stops without a soft limit, nor by the hard one when that is 0', () => {
    assert.equal(
      beatsUntilStop({ soft: 0, hard: 1 }, () => DONE),
      undefined,
    );
    assert.equal(
      beatsUntilStop({ soft: 3, hard: 0 }, () => NOTHING),
      undefined,
    );
  });

  it('begins anew with every task and every result', () => {
    const work = (beat: number): WorkCounts => ({
      ...DONE,
      deliveredCount: Math.floor(beat / 3),
    });
    assert.equal(beatsUntilStop({ soft: 3, hard: 4 }, work), undefined);
  });

  it('counts from the moment on at which a limit is set', () => {
    const watch = new IdleWatch({ soft: 0, hard: 0 });
    for (let beat = 0; beat < 10; beat += 1) {
      watch.onHeartbeat(DONE);
    }
    watch.setLimits({ soft: 2, hard: 0 });
    assert.equal(watch.onHeartbeat(DONE), undefined);
    assert.match(watch.onHeartbeat(DONE) ?? '', /2 heartbeats/);
  });

  it('does not count while no tasks are taken, because somebody wanted that', () => {
    assert.equal(
      beatsUntilStop({ soft: 2, hard: 4 }, () => ({ ...DONE, isTaking: false })),
      undefined,
    );
  });
});

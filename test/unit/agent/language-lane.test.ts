/** How many tasks of a language may be under way, by how long they turn out to be. */
import assert from 'node:assert/strict';

import type { HeldTask } from '../../../src/agent/held-task.ts';
import { LanguageLane } from '../../../src/agent/language-lane.ts';

const AT_FIRST = 32;
const AT_MOST = 256;

function task(index: number): HeldTask {
  return {
    taskId: `t${index}`,
    meta: { functionId: '', language: 'javascript' },
    phase: 'done',
    attempts: 1,
    nonce: '',
    receivedAtMs: 0,
    begunAtMs: 0,
    endedAtMs: 0,
    bodyBytes: 100,
    body: undefined,
    accepted: Promise.resolve(),
  };
}

/** How many tasks the lane sends before it wants a result. */
function sendable(lane: LanguageLane): number {
  const tasks = Array.from({ length: 1000 }, (_, index) => task(index));
  for (const one of tasks) {
    lane.add(one, 'ready');
  }
  let count = 0;
  for (let next = lane.nextToSend; next !== undefined; next = lane.nextToSend) {
    lane.move(next, 'ahead');
    count += 1;
  }
  for (const one of tasks) {
    lane.remove(one);
  }
  return count;
}

function laneWith(resultCount: number, runMs: number): LanguageLane {
  const lane = new LanguageLane();
  lane.placeCount = 2;
  for (let index = 0; index < resultCount; index += 1) {
    lane.noteResult(runMs);
  }
  return lane;
}

describe('language lane', () => {
  it('hands over few tasks ahead of time until they have turned out to be short, then more and more', () => {
    assert.equal(sendable(laneWith(0, 1)), 2 + 2 * AT_FIRST);
    assert.equal(sendable(laneWith(10, 1)), 2 + 2 * (AT_FIRST + 10));
    assert.equal(sendable(laneWith(1000, 1)), 2 + 2 * AT_MOST);
  });

  it('hands over no more than ten seconds of work, and none ahead of long tasks', () => {
    for (const runMs of [50, 100, 190]) {
      const workMs = ((sendable(laneWith(1000, runMs)) - 2) / 2) * runMs;
      assert.ok(Math.abs(workMs - 10_000) <= runMs, `${workMs} ms of tasks of ${runMs} ms`);
    }
    assert.equal(sendable(laneWith(1000, 500)), 2);
  });

  it('begins with few again after tasks were long', () => {
    const lane = laneWith(1000, 1);
    lane.noteResult(10_000);
    assert.equal(sendable(lane), 2);
    for (let count = 0; count < 60; count += 1) {
      lane.noteResult(1);
    }
    const sent = sendable(lane);
    assert.ok(sent > 2 + 2 * AT_FIRST, String(sent));
    assert.ok(sent < 2 + 2 * (AT_FIRST + 60), String(sent));
  });
});

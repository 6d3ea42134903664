import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { Socket } from 'node:net';

import { joinHeartbeats } from '../../../src/transport/amqp/heartbeats.ts';
import { eventually } from '../../support/eventually.ts';

const INTERVAL_MS = 1000;
/** How long before a moment for a tick the loop is free again. */
const SHORT_MS = 50;

describe('heartbeats of a connection', () => {
  it('leave time to read between two ticks, also when one came late', async () => {
    const ticksMs: number[] = [];
    const heartbeater = Object.assign(new EventEmitter(), {
      interval: INTERVAL_MS / 1000,
      sendTimer: setTimeout(() => undefined, 0),
      recvTimer: setTimeout(() => undefined, 0),
    });
    const connection = {
      heartbeater,
      checkSend: () => true,
      checkRecv: () => {
        ticksMs.push(performance.now());
        return false;
      },
    };
    let isGivenUp = false;
    heartbeater.on('timeout', () => {
      isGivenUp = true;
      clearTimeout(heartbeater.recvTimer);
    });
    joinHeartbeats(connection, new Socket());
    // The loop is held up for longer than an interval, until just before the next moment for a tick.
    const heldUntilMs = (Math.floor(performance.now() / INTERVAL_MS) + 2) * INTERVAL_MS - SHORT_MS;
    while (performance.now() < heldUntilMs) {
      // Busy.
    }
    await eventually(() => {
      assert.ok(isGivenUp);
    }, 30_000);
    const [first = 0, second = 0] = ticksMs;
    assert.ok(second - first > 2 * SHORT_MS, `${second - first} ms apart`);
  });
});

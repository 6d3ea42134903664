import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { Socket } from 'node:net';

import { sleep, systemClock } from '../../../src/base/clock.ts';
import { joinHeartbeats } from '../../../src/transport/amqp/heartbeats.ts';
import { eventually } from '../../support/eventually.ts';

const INTERVAL_MS = 1000;
/** How long before a moment for a look the loop is free again. */
const SHORT_MS = 50;

/** What amqplib keeps of a connection for its heartbeats. Something was always sent. */
function fakeConnection() {
  const heartbeater = Object.assign(new EventEmitter(), {
    interval: INTERVAL_MS / 1000,
    sendTimer: setTimeout(() => undefined, 0),
    recvTimer: setTimeout(() => undefined, 0),
  });
  return { connection: { heartbeater, checkSend: () => true }, heartbeater };
}

describe('heartbeats of a connection', () => {
  it('leave time to read between two looks, also when one came late', async () => {
    const looksMs: number[] = [];
    const { connection, heartbeater } = fakeConnection();
    heartbeater.on('beat', () => {
      looksMs.push(performance.now());
    });
    let isGivenUp = false;
    heartbeater.on('timeout', () => {
      looksMs.push(performance.now());
      isGivenUp = true;
      clearTimeout(heartbeater.recvTimer);
    });
    joinHeartbeats(connection, new Socket());
    // The loop is held up until just before the second look would be due.
    const heldUntilMs = performance.now() + 2 * INTERVAL_MS - SHORT_MS;
    while (performance.now() < heldUntilMs) {
      // Busy.
    }
    await eventually(() => {
      assert.ok(isGivenUp);
    }, 30_000);
    const [first = 0, second = 0] = looksMs;
    assert.ok(second - first > 2 * SHORT_MS, `${second - first} ms apart`);
  });

  it('leave with those of the broker, and so does what else is due about then', async () => {
    const { connection, heartbeater } = fakeConnection();
    let hasSent = false;
    connection.checkSend = () => hasSent;
    let beatCount = 0;
    heartbeater.on('beat', () => {
      beatCount += 1;
    });
    const socket = new Socket();
    let firedCount = 0;
    const hourMs = 3_600_000;
    const fired = new Promise<void>((resolve) => {
      systemClock.after(
        hourMs,
        () => {
          firedCount += 1;
          resolve();
        },
        { toleranceMs: hourMs },
      );
    });
    joinHeartbeats(connection, socket);
    try {
      await sleep(systemClock, INTERVAL_MS / 2);
      socket.emit('readable');
      assert.equal(beatCount, 1);
      // What comes soon after is no reason to look again.
      socket.emit('readable');
      assert.equal(beatCount, 1);
      await fired;
      hasSent = true;
      await sleep(systemClock, INTERVAL_MS / 2);
      socket.emit('readable');
      assert.deepEqual([beatCount, firedCount], [1, 1]);
    } finally {
      clearTimeout(heartbeater.recvTimer);
    }
  });

  it('come to an end with the connection, whatever is read after it', async () => {
    const { connection, heartbeater } = fakeConnection();
    let lookCount = 0;
    connection.checkSend = () => {
      lookCount += 1;
      return true;
    };
    const socket = new Socket();
    joinHeartbeats(connection, socket);
    // As amqplib ends it.
    clearTimeout(heartbeater.recvTimer);
    socket.end();
    await sleep(systemClock, INTERVAL_MS / 2);
    socket.emit('readable');
    await sleep(systemClock, 2 * INTERVAL_MS);
    assert.equal(lookCount, 0);
  });
});

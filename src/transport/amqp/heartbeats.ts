/**
 * AMQP heartbeats that wake the process as seldom as they can: an agent that has nothing to do is on machines where that is looked at.
 *
 * amqplib has timers of its own for each connection. Here the broker's heartbeat, which wakes us anyway, is the moment to send ours and to do
 * what else is due about then (`coalesceTimers`); a timer comes to pass only when nothing was heard for an interval.
 *
 * H1 Nothing was sent since the last time that something was heard: a heartbeat goes out, and one when nothing was heard for an interval. The
 *    broker sends at least one each interval and gives up after two, so it hears from us.
 * H2 Nothing was heard for two intervals: the connection has ended. amqplib takes up to three. A process that was held up has an interval to
 *    read what came meanwhile.
 */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';

import { coalesceTimers } from '../../base/clock.ts';

/** What amqplib's types do not tell about a connection. */
interface ConnectionInternals {
  /** Emits `beat` to send one and `timeout` to end the connection; absent when heartbeats are off. */
  readonly heartbeater: (EventEmitter & Heart) | null;
  /** Whether anything was sent since the last call. */
  checkSend: () => boolean;
}

interface Heart {
  /** In seconds. */
  readonly interval: number;
  readonly sendTimer: NodeJS.Timeout;
  /** Cleared when the connection has ended. */
  recvTimer: NodeJS.Timeout;
}

/** Part of an interval for which nobody listens after something was heard; brokers send one each half interval. */
const DEAF_FACTOR = 0.1;

/** Takes the heartbeats of a connection over. */
export function joinHeartbeats(connection: object, socket: Socket): void {
  const internals = connection as ConnectionInternals;
  const heart = internals.heartbeater;
  if (heart === null || socket.destroyed || socket.writableEnded) {
    return;
  }
  const intervalMs = heart.interval * 1000;
  let heardAtMs = performance.now();
  let silentCount = 0;
  const onSilence = (): void => {
    heart.recvTimer = setTimeout(onSilence, intervalMs);
    silentCount += 1;
    heart.emit(silentCount < 2 ? 'beat' : 'timeout');
  };
  clearTimeout(heart.sendTimer);
  clearTimeout(heart.recvTimer);
  heart.recvTimer = setTimeout(onSilence, intervalMs);
  socket.on('readable', () => {
    const nowMs = performance.now();
    const isDeaf = nowMs - heardAtMs < intervalMs * DEAF_FACTOR;
    // After its end a connection may still read, and its timer is cleared.
    if (isDeaf || socket.writableEnded || socket.destroyed) {
      return;
    }
    heardAtMs = nowMs;
    silentCount = 0;
    heart.recvTimer.refresh();
    if (!internals.checkSend()) {
      heart.emit('beat');
    }
    coalesceTimers();
  });
}

/**
 * AMQP heartbeats that wake the process as seldom as they can: an agent that has nothing to do is on machines where that is looked at.
 *
 * amqplib has timers of its own for each connection. Here the broker's heartbeat, which wakes us anyway, is the moment to send ours, and a
 * tick per interval, at the same moment for all connections of this process, does the rest.
 *
 * H1 Nothing was sent between two looks: a heartbeat goes out. Looks are at most one and a half intervals apart, so the broker, which gives up after two
 *    whole intervals, hears from us.
 * H2 Nothing came in two whole intervals between ticks: the connection has ended, as with amqplib's own timers. A tick that came late, or a
 *    moment early, is not followed by another at once: between the two nothing could have been read.
 */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';

/** What amqplib's types do not tell about a connection. */
interface ConnectionInternals {
  /** Emits `beat` to send one and `timeout` to end the connection; absent when heartbeats are off. */
  readonly heartbeater: (EventEmitter & Heart) | null;
  /** Whether anything was sent, or came, since the last call. */
  checkSend: () => boolean;
  checkRecv: () => boolean;
}

interface Heart {
  /** In seconds. */
  readonly interval: number;
  readonly sendTimer: NodeJS.Timeout;
  /** Cleared when the connection has ended. */
  recvTimer: NodeJS.Timeout;
}

/** The broker sends one each half interval; what comes sooner after a look needs none. */
const LOOK_AGAIN_FACTOR = 0.4;

/** Takes the heartbeats of a connection over. */
export function joinHeartbeats(connection: object, socket: Socket): void {
  const internals = connection as ConnectionInternals;
  const heart = internals.heartbeater;
  if (heart === null || socket.destroyed || socket.writableEnded) {
    return;
  }
  const intervalMs = heart.interval * 1000;
  let lookedAtMs = performance.now();
  let missedCount = 0;
  const look = (): void => {
    lookedAtMs = performance.now();
    if (!internals.checkSend()) {
      heart.emit('beat');
    }
  };
  const tick = (): void => {
    arm();
    missedCount = internals.checkRecv() ? 0 : missedCount + 1;
    if (missedCount >= 2) {
      heart.emit('timeout');
    } else {
      look();
    }
  };
  const arm = (): void => {
    const untilNextMs = intervalMs - (performance.now() % intervalMs);
    const isTooSoon = untilNextMs < intervalMs / 2;
    heart.recvTimer = setTimeout(tick, isTooSoon ? untilNextMs + intervalMs : untilNextMs);
  };
  clearTimeout(heart.sendTimer);
  clearTimeout(heart.recvTimer);
  socket.on('readable', () => {
    if (performance.now() - lookedAtMs >= intervalMs * LOOK_AGAIN_FACTOR) {
      look();
    }
  });
  arm();
}

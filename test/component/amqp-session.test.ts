/** A session that keeps its connection, against small servers that do not. */
import assert from 'node:assert/strict';

import type { Clock } from '../../src/base/clock.ts';
import { systemClock } from '../../src/base/clock.ts';
import { UnavailableError } from '../../src/base/errors.ts';
import type { Logger } from '../../src/base/logger.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { SessionOptions, SessionState } from '../../src/transport/amqp/session.ts';
import { AmqpSession } from '../../src/transport/amqp/session.ts';
import type { AmqpPeer, PeerSocket } from '../support/amqp-peer.ts';
import { politeScript, startAmqpPeer } from '../support/amqp-peer.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';

const FAST = { baseMs: 10, maxMs: 40 };
/** Longer than any test may take. */
const NEVER = { baseMs: 3_600_000, maxMs: 3_600_000 };

function recordingLogger(lines: string[]): Logger {
  const line = (level: string) => (_fields: object, message: string) => {
    lines.push(`${level}: ${message}`);
  };
  const logger: Logger = {
    ...silentLogger,
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: () => logger,
  };
  return logger;
}

/** The system's clock, whose monotonic reading a test may push. */
function pushedClock(): Clock & { push: (ms: number) => void } {
  let offsetMs = 0;
  return {
    ...systemClock,
    monotonicMs: () => systemClock.monotonicMs() + offsetMs,
    push: (ms) => {
      offsetMs += ms;
    },
  };
}

async function phase(session: AmqpSession, wanted: SessionState['phase']): Promise<void> {
  await eventually(() => {
    assert.equal(session.state.phase, wanted);
  });
}

const pending = new Promise<{ reason: string }>(() => {
  // Never settles: a setup that does not break.
});

describe('AMQP session', () => {
  const peers: AmqpPeer[] = [];
  const sessions: AmqpSession[] = [];

  async function start(...args: Parameters<typeof startAmqpPeer>): Promise<AmqpPeer> {
    const peer = await startAmqpPeer(...args);
    peers.push(peer);
    return peer;
  }

  function openSession(
    port: number,
    options: Partial<SessionOptions> = {},
  ): { session: AmqpSession; states: SessionState[]; dials: boolean[] } {
    const states: SessionState[] = [];
    const dials: boolean[] = [];
    const session = new AmqpSession({
      clock: systemClock,
      logger: silentLogger,
      name: 'test',
      dial: async ({ refused, signal }) => {
        dials.push(refused);
        return await dialAmqp({
          url: `amqp://guest:guest@127.0.0.1:${port}`,
          connectionName: 'test',
          signal,
        });
      },
      setUp: async () => await Promise.resolve({ broken: pending }),
      onState: (state) => states.push(state),
      backoff: FAST,
      ...options,
    });
    sessions.push(session);
    session.start();
    return { session, states, dials };
  }

  afterEach(async () => {
    await Promise.all(
      sessions.splice(0).map(async (session) => {
        await session.stop();
      }),
    );
    await Promise.all(
      peers.splice(0).map(async (peer) => {
        await peer.close();
      }),
    );
  });

  it('counts its failures and keeps the time at which it went offline', async () => {
    const lines: string[] = [];
    const { session, states } = openSession(await freePort(), {
      logger: recordingLogger(lines),
    });
    await eventually(() => {
      assert.ok(states.filter((state) => state.phase === 'offline').length >= 4);
    });
    const offline = states.filter((state) => state.phase === 'offline');
    assert.deepEqual(
      offline.slice(0, 4).map((state) => state.attempt),
      [1, 2, 3, 4],
    );
    assert.equal(new Set(offline.map((state) => state.since)).size, 1);
    assert.match(offline[0]?.reason ?? '', /ECONNREFUSED/);
    assert.equal(states[0]?.phase, 'connecting');
    await session.stop();
    assert.equal(session.state.phase, 'stopped');
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0] ?? '', /^warn: not connected/);
  });

  it('stops at once while it waits for its next attempt', async () => {
    const { session } = openSession(await freePort(), { backoff: NEVER });
    await phase(session, 'offline');
    await Promise.all([session.stop(), session.stop()]);
    session.start();
    assert.equal(session.state.phase, 'stopped');
  });

  it('stops at once during a dial that hangs', async () => {
    const peer = await start(() => undefined);
    const lines: string[] = [];
    const { session } = openSession(peer.port, { logger: recordingLogger(lines) });
    await eventually(() => {
      assert.equal(peer.sockets.size, 1);
    });
    await session.stop();
    assert.doesNotMatch(lines.join('\n'), /stopped without waiting/);
    await eventually(() => {
      assert.equal(peer.sockets.size, 0);
    });
  });

  it('stops within its bound during a dial that ignores the signal, and drops what it brings', async () => {
    const peer = await start(politeScript());
    let release: (() => void) | undefined;
    // A clock that runs fifty times as fast, so that the bound of 5 s passes in 100 ms.
    const clock: Clock = {
      ...systemClock,
      after: (delayMs, callback, options) => systemClock.after(delayMs / 50, callback, options),
    };
    const lines: string[] = [];
    const { session } = openSession(peer.port, {
      clock,
      logger: recordingLogger(lines),
      dial: async () => {
        await new Promise<void>((resolve) => {
          release = resolve;
        });
        return await dialAmqp({
          url: `amqp://guest:guest@127.0.0.1:${peer.port}`,
          connectionName: 'late',
        });
      },
    });
    await session.stop();
    assert.equal(session.state.phase, 'stopped');
    assert.match(lines.join('\n'), /stopped without waiting/);
    release?.();
    await eventually(() => {
      assert.equal(peer.sockets.size, 0);
    });
    assert.equal(session.state.phase, 'stopped');
  });

  it('stops at once during a setUp that hangs', async () => {
    const peer = await start(politeScript());
    let isSettingUp = false;
    const lines: string[] = [];
    const { session } = openSession(peer.port, {
      logger: recordingLogger(lines),
      setUp: async (connection) => {
        isSettingUp = true;
        // channel.open, which this peer does not answer.
        await connection.openPublisher();
        return { broken: pending };
      },
    });
    await eventually(() => {
      assert.ok(isSettingUp);
    });
    await session.stop();
    assert.doesNotMatch(lines.join('\n'), /stopped without waiting/);
    await eventually(() => {
      assert.equal(peer.sockets.size, 0);
    });
  });

  it('asks for other credentials after a refusal, and no more once they are accepted', async () => {
    let refusals = 2;
    const polite = politeScript();
    const sockets: PeerSocket[] = [];
    const peer = await start(
      (socket, method) => {
        if (method === '10.11' && refusals > 0) {
          refusals -= 1;
          socket.closeConnection(403, 'ACCESS_REFUSED');
        } else {
          polite(socket, method, 0);
        }
      },
      { onConnect: (socket) => sockets.push(socket) },
    );
    const { session, dials } = openSession(peer.port);
    await phase(session, 'online');
    assert.deepEqual(dials, [false, true, true]);
    sockets.at(-1)?.socket.resetAndDestroy();
    await eventually(() => {
      assert.deepEqual(dials, [false, true, true, false]);
    });
    await phase(session, 'online');
    sockets.at(-1)?.closeConnection(403, 'ACCESS_REFUSED');
    await eventually(() => {
      assert.deepEqual(dials, [false, true, true, false, true]);
    });
  });

  it('goes on asking for other credentials when they could not be fetched', async () => {
    const dials: boolean[] = [];
    const errors = ['refuse', 'hub', 'broker', 'hub'];
    const port = await freePort();
    const peer = await start((socket, method) => {
      if (method === 'header') {
        socket.start();
      } else if (method === '10.11') {
        socket.closeConnection(403, 'ACCESS_REFUSED');
      }
    });
    openSession(port, {
      dial: async ({ refused }) => {
        dials.push(refused);
        const next = errors.shift();
        if (next === 'hub') {
          throw new UnavailableError('HUB_UNREACHABLE', 'the hub is down');
        }
        return await dialAmqp({
          url: `amqp://guest:guest@127.0.0.1:${next === 'refuse' ? peer.port : port}`,
          connectionName: 'test',
        });
      },
    });
    await eventually(() => {
      assert.deepEqual(dials.slice(0, 5), [false, true, true, false, false]);
    });
  });

  it('dials again at once after a session that held, and tells both changes once', async () => {
    const clock = pushedClock();
    const lines: string[] = [];
    const sockets: PeerSocket[] = [];
    const peer = await start(politeScript(), { onConnect: (socket) => sockets.push(socket) });
    const { session, states } = openSession(peer.port, {
      clock,
      logger: recordingLogger(lines),
      backoff: NEVER,
    });
    await phase(session, 'online');
    clock.push(5_001);
    sockets[0]?.closeConnection(320, 'CONNECTION_FORCED - by the operator');
    await eventually(() => {
      assert.deepEqual(
        states.map((state) => state.phase),
        ['connecting', 'online', 'offline', 'connecting', 'online'],
      );
    });
    const offline = states[2];
    assert.ok(offline?.phase === 'offline');
    assert.match(offline.reason, /by the operator/);
    assert.equal(offline.attempt, 0);
    assert.deepEqual(lines, [
      'info: connected to the broker',
      'warn: not connected to the broker; trying again for ever',
      'info: connected to the broker',
    ]);
  });

  it('does not hammer a broker that drops every connection soon after it opened', async () => {
    const peer = await start((socket, method) => {
      politeScript()(socket, method, 0);
      if (method === '10.40') {
        setImmediate(() => socket.socket.resetAndDestroy());
      }
    });
    const { states } = openSession(peer.port, { backoff: { baseMs: 10, maxMs: 10_000 } });
    await eventually(() => {
      const attempts = states.flatMap((state) =>
        state.phase === 'offline' ? [state.attempt] : [],
      );
      assert.deepEqual(attempts.slice(0, 4), [1, 2, 3, 4]);
    });
  });

  it('closes the connection and dials again when the setup breaks', async () => {
    const peer = await start(politeScript());
    let setUpCount = 0;
    const { session, states } = openSession(peer.port, {
      setUp: async () => {
        setUpCount += 1;
        return await Promise.resolve({
          broken: setUpCount === 1 ? Promise.resolve({ reason: 'queue deleted' }) : pending,
        });
      },
    });
    await eventually(() => {
      assert.equal(setUpCount, 2);
    });
    await phase(session, 'online');
    assert.ok(
      states.some((state) => state.phase === 'offline' && state.reason === 'queue deleted'),
    );
    assert.equal(peer.sockets.size, 1);
  });

  it('counts a setup that fails as a failed attempt and leaves no connection behind', async () => {
    const peer = await start(politeScript());
    let openMax = 0;
    const { session, dials } = openSession(peer.port, {
      setUp: async () => {
        openMax = Math.max(openMax, peer.sockets.size);
        return await Promise.reject(new UnavailableError('CHANNEL_CLOSED', 'no such queue'));
      },
    });
    await eventually(() => {
      assert.ok(dials.length >= 3);
    });
    assert.equal(openMax, 1);
    await session.stop();
    assert.deepEqual(new Set(dials), new Set([false]));
    await eventually(() => {
      assert.equal(peer.sockets.size, 0);
    });
  });

  it('can be told to connect now, offline and online', async () => {
    const peer = await start(politeScript());
    const clock = pushedClock();
    let failures = 1;
    const { session, dials } = openSession(peer.port, {
      clock,
      backoff: { baseMs: 60_000, maxMs: 60_000 },
      setUp: async () => {
        failures -= 1;
        if (failures >= 0) {
          throw new UnavailableError('CHANNEL_CLOSED', 'not yet');
        }
        return await Promise.resolve({ broken: pending });
      },
    });
    await phase(session, 'offline');
    session.reconnectNow();
    await phase(session, 'online');
    assert.equal(dials.length, 2);
    clock.push(5_001);
    session.reconnectNow();
    await eventually(() => {
      assert.equal(dials.length, 3);
    });
    await phase(session, 'online');
  });

  it('survives a listener that throws', async () => {
    const lines: string[] = [];
    const peer = await start(politeScript());
    const { session } = openSession(peer.port, {
      logger: recordingLogger(lines),
      onState: () => {
        throw new UnavailableError('TIMED_OUT', 'listener');
      },
    });
    await phase(session, 'online');
    assert.match(lines.join('\n'), /error: a listener of the session failed/);
  });
});

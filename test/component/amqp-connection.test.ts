/** Dialling and ending a connection, against small servers that misbehave. */
import assert from 'node:assert/strict';

import { AuthError, UnavailableError } from '../../src/base/errors.ts';
import type { AmqpConnection } from '../../src/transport/amqp/connection.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { AmqpPeer, PeerSocket } from '../support/amqp-peer.ts';
import { politeScript, startAmqpPeer } from '../support/amqp-peer.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { TLS_CERTIFICATE_PEM, TLS_KEY_PEM } from '../support/tls-fixture.ts';

const PASSWORD = 'correct-horse';

function urlOf(port: number): string {
  return `amqp://alice:${PASSWORD}@127.0.0.1:${port}/`;
}

async function dial(port: number, connectTimeoutMs = 3_000): Promise<AmqpConnection> {
  return await dialAmqp({ url: urlOf(port), connectionName: 'test', connectTimeoutMs });
}

async function unreachable(attempt: Promise<unknown>, pattern: RegExp): Promise<void> {
  await assert.rejects(attempt, (error) => {
    assert.ok(error instanceof UnavailableError, String(error));
    assert.equal(error.code, 'BROKER_UNREACHABLE');
    assert.match(error.message, pattern);
    assert.doesNotMatch(JSON.stringify([error.message, error.details]), new RegExp(PASSWORD));
    return true;
  });
}

async function refused(attempt: Promise<unknown>, pattern: RegExp): Promise<void> {
  await assert.rejects(attempt, (error) => {
    assert.ok(error instanceof AuthError, String(error));
    assert.equal(error.code, 'TOKEN_REJECTED');
    assert.match(error.message, pattern);
    assert.doesNotMatch(JSON.stringify([error.message, error.details]), new RegExp(PASSWORD));
    return true;
  });
}

async function allGone(peer: AmqpPeer): Promise<void> {
  await eventually(() => {
    assert.equal(peer.sockets.size, 0);
  });
}

describe('AMQP connection', () => {
  const peers: AmqpPeer[] = [];

  async function start(...args: Parameters<typeof startAmqpPeer>): Promise<AmqpPeer> {
    const peer = await startAmqpPeer(...args);
    peers.push(peer);
    return peer;
  }

  afterEach(async () => {
    await Promise.all(
      peers.splice(0).map(async (peer) => {
        await peer.close();
      }),
    );
  });

  describe('dialling', () => {
    it('names host and port, never the password, when nobody listens', async () => {
      const port = await freePort();
      await unreachable(dial(port), new RegExp(`127\\.0\\.0\\.1:${port}: .*ECONNREFUSED`));
    });

    it('is bounded when the server accepts and stays silent', async () => {
      const peer = await start(() => undefined);
      await unreachable(dial(peer.port, 150), /no complete answer within 150 ms/);
      await allGone(peer);
    });

    it('is bounded as a whole when the server drips bytes', async () => {
      const timers: NodeJS.Timeout[] = [];
      const peer = await start(() => undefined, {
        onConnect: ({ write }) => {
          // The header of a frame that never becomes complete.
          write(Buffer.from([1, 0, 0, 0, 0, 200, 0]));
          timers.push(
            setInterval(() => {
              write(Buffer.from([0]));
            }, 20),
          );
        },
      });
      try {
        await unreachable(dial(peer.port, 200), /no complete answer within 200 ms/);
        await allGone(peer);
      } finally {
        timers.forEach(clearInterval);
      }
    });

    it('is bounded when the server goes silent in the middle of the handshake', async () => {
      const peer = await start((socket, method) => {
        if (method === 'header') {
          socket.start();
        }
      });
      await unreachable(dial(peer.port, 150), /no complete answer within 150 ms/);
      await allGone(peer);
    });

    it('fails on garbage', async () => {
      const peer = await start(() => undefined, {
        onConnect: ({ write }) => {
          write('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
        },
      });
      await unreachable(dial(peer.port), /cannot connect to the broker/);
      await allGone(peer);
    });

    it('takes a socket that closes at once for an outage, not for a refusal', async () => {
      const peer = await start(() => undefined, {
        onConnect: ({ socket }) => {
          socket.destroy();
        },
      });
      await unreachable(dial(peer.port), /closed|ECONNRESET/i);
    });

    it('fails on what is no AMQP URL, without repeating it', async () => {
      for (const url of [
        `http://alice:${PASSWORD}@host/`,
        `amqp://alice:${PASSWORD}@host:port/`,
        `amqp://al%ZZce:${PASSWORD}@127.0.0.1/`,
        PASSWORD,
      ]) {
        await unreachable(dialAmqp({ url, connectionName: 'test' }), /not a valid amqp:\/\//);
      }
    });

    it('is a refusal when the broker answers start-ok with 403', async () => {
      const peer = await start((socket, method) => {
        if (method === 'header') {
          socket.start();
        } else if (method === '10.11') {
          socket.closeConnection(403, 'ACCESS_REFUSED - Login was refused');
        }
      });
      await refused(dial(peer.port), /127\.0\.0\.1:\d+ refused the credentials of user "alice"/);
      await allGone(peer);
    });

    it('is an outage when the broker answers start-ok with another code', async () => {
      const peer = await start((socket, method) => {
        if (method === 'header') {
          socket.start();
        } else if (method === '10.11') {
          socket.closeConnection(320, 'CONNECTION_FORCED - shutting down');
        }
      });
      await unreachable(dial(peer.port), /320/);
    });

    it('is a refusal when the broker does not open the virtual host', async () => {
      const polite = politeScript();
      const peer = await start((socket, method) => {
        if (method === '10.40') {
          socket.closeConnection(530, 'NOT_ALLOWED - vhost / not found');
        } else {
          polite(socket, method, 0);
        }
      });
      await refused(dial(peer.port), /virtual host "\/"/);
      await allGone(peer);
    });

    it('decodes user, password and virtual host as UTF-8', async () => {
      const peers: PeerSocket[] = [];
      const peer = await start(politeScript(), { onConnect: (socket) => peers.push(socket) });
      const connection = await dialAmqp({
        url: `amqp://us%C3%A9r%40x:p%2Fw%25d%3A@127.0.0.1:${peer.port}/v%2Fh%25%20ost`,
        connectionName: 'name-shown',
      });
      const startOk = peers[0]?.received.get('10.11') ?? Buffer.alloc(0);
      assert.ok(startOk.includes(Buffer.from('\0usér@x\0p/w%d:')));
      assert.ok(startOk.includes('name-shown'));
      const open = peers[0]?.received.get('10.40') ?? Buffer.alloc(0);
      assert.equal(open.toString('utf8', 1, 1 + open.readUInt8(0)), 'v/h% ost');
      await connection.close();
    });

    it('can be called off', async () => {
      const peer = await start(() => undefined);
      const abort = new AbortController();
      const attempt = dialAmqp({
        url: urlOf(peer.port),
        connectionName: 'test',
        signal: abort.signal,
      });
      await eventually(() => {
        assert.equal(peer.sockets.size, 1);
      });
      abort.abort();
      await unreachable(attempt, /called off/);
      await allGone(peer);
      await unreachable(
        dialAmqp({ url: urlOf(peer.port), connectionName: 'test', signal: abort.signal }),
        /called off/,
      );
    });

    it('verifies the certificate of an amqps broker against the given authority', async () => {
      const peer = await start(politeScript(), {
        tls: { cert: TLS_CERTIFICATE_PEM, key: TLS_KEY_PEM },
      });
      const url = `amqps://alice:${PASSWORD}@127.0.0.1:${peer.port}/`;
      const connection = await dialAmqp({ url, connectionName: 'test', ca: TLS_CERTIFICATE_PEM });
      await connection.close();
      await assert.rejects(dialAmqp({ url, connectionName: 'test' }), (error) => {
        assert.ok(error instanceof UnavailableError, String(error));
        assert.equal(error.code, 'CERTIFICATE_REFUSED');
        assert.match(error.message, /127\.0\.0\.1:\d+ .*"CN=localhost" signed itself/);
        return true;
      });
      await allGone(peer);
    });

    it('is bounded when an amqps server never answers the TLS handshake', async () => {
      const peer = await start(() => undefined);
      await unreachable(
        dialAmqp({
          url: `amqps://alice:${PASSWORD}@127.0.0.1:${peer.port}/`,
          connectionName: 'test',
          connectTimeoutMs: 150,
        }),
        /no complete answer within 150 ms/,
      );
      await allGone(peer);
    });
  });

  describe('an open connection', () => {
    it('ends when heartbeats are missed, and drops its socket', async () => {
      const peer = await start(politeScript(1));
      const connection = await dialAmqp({
        url: urlOf(peer.port),
        connectionName: 'test',
        heartbeatS: 1,
      });
      const closed = await connection.closed;
      assert.equal(closed.kind, 'lost');
      assert.match(closed.reason, /heartbeat/i);
      await allGone(peer);
    });

    it('sends heartbeats as long as the broker does, also when the broker alone speaks', async () => {
      let heartbeatCount = 0;
      const beat = Buffer.from([8, 0, 0, 0, 0, 0, 0, 0xce]);
      const peer = await start(politeScript(1), {
        onConnect: ({ socket, write }) => {
          const timer = setInterval(() => {
            write(beat);
          }, 500);
          socket.once('close', () => {
            clearInterval(timer);
          });
          socket.on('data', (chunk) => {
            heartbeatCount += chunk.equals(beat) ? 1 : 0;
          });
        },
      });
      const connection = await dialAmqp({
        url: urlOf(peer.port),
        connectionName: 'test',
        heartbeatS: 1,
      });
      await eventually(() => {
        assert.ok(heartbeatCount >= 3);
      }, 30_000);
      await connection.close();
      await allGone(peer);
    });

    it('sends heartbeats to a broker that is silent, until it gives it up', async () => {
      let heartbeatCount = 0;
      const peer = await start(politeScript(1), {
        onConnect: ({ socket }) => {
          socket.on('data', (chunk) => {
            heartbeatCount += chunk[0] === 8 ? 1 : 0;
          });
        },
      });
      const connection = await dialAmqp({
        url: urlOf(peer.port),
        connectionName: 'test',
        heartbeatS: 1,
      });
      await connection.closed;
      assert.ok(heartbeatCount >= 1);
    });

    it('tells when the broker blocks it, also a listener that comes late', async () => {
      const sockets: PeerSocket[] = [];
      const peer = await start(politeScript(), { onConnect: (socket) => sockets.push(socket) });
      const connection = await dial(peer.port);
      const told: unknown[] = [];
      connection.onBlocked((...args) => told.push(args));
      sockets[0]?.blocked('low on memory');
      await eventually(() => {
        assert.deepEqual(told, [[true, 'low on memory']]);
      });
      connection.onBlocked((...args) => told.push(args));
      assert.equal(told.length, 2);
      sockets[0]?.unblocked();
      await eventually(() => {
        assert.deepEqual(told.slice(2), [
          [false, ''],
          [false, ''],
        ]);
      });
      await connection.close();
    });

    it('says why the broker closed it', async () => {
      for (const [code, kind] of [
        [320, 'lost'],
        [403, 'refused'],
        [541, 'error'],
      ] as const) {
        const sockets: PeerSocket[] = [];
        const peer = await start(politeScript(), { onConnect: (socket) => sockets.push(socket) });
        const connection = await dial(peer.port);
        sockets[0]?.closeConnection(code, `TEXT ${code}`);
        const closed = await connection.closed;
        assert.equal(closed.kind, kind);
        assert.equal(closed.code, code);
        assert.match(closed.reason, new RegExp(`TEXT ${code}`));
        await allGone(peer);
        assert.ok(sockets[0]?.received.has('10.51') === true, 'close-ok was sent');
      }
    });

    it('has ended when the broker forces it closed in the breath that opened it', async () => {
      const polite = politeScript();
      const peer = await start((socket, method) => {
        if (method === '10.40') {
          socket.socket.cork();
          socket.openOk();
          socket.closeConnection(320, 'CONNECTION_FORCED');
          socket.socket.uncork();
        } else {
          polite(socket, method, 0);
        }
      });
      const connection = await dial(peer.port);
      assert.equal((await connection.closed).kind, 'lost');
      await connection.close();
      await allGone(peer);
    });

    it('is lost when the socket is reset or ends', async () => {
      for (const end of ['resetAndDestroy', 'end'] as const) {
        const sockets: PeerSocket[] = [];
        const peer = await start(politeScript(), { onConnect: (socket) => sockets.push(socket) });
        const connection = await dial(peer.port);
        sockets[0]?.socket[end]();
        assert.equal((await connection.closed).kind, 'lost');
        await allGone(peer);
      }
    });

    it('is lost when the broker sends garbage', async () => {
      const sockets: PeerSocket[] = [];
      const peer = await start(politeScript(), { onConnect: (socket) => sockets.push(socket) });
      const connection = await dial(peer.port);
      sockets[0]?.write(Buffer.from([9, 0, 0, 0, 0, 0, 1, 7, 7]));
      assert.equal((await connection.closed).kind, 'lost');
      await allGone(peer);
    });

    // What a queue without a leader does: the channel works, and basic.consume is never answered.
    it('gives up setting up a consumer that the broker never starts', async () => {
      const polite = politeScript();
      const methods: string[] = [];
      const peer = await start((socket, method, channel) => {
        methods.push(method);
        polite(socket, method, channel);
        if (method === '20.10') {
          socket.reply(channel, 20, 11, Buffer.alloc(4));
        } else if (method === '60.10') {
          socket.reply(channel, 60, 11);
        }
      });
      const connection = await dial(peer.port);
      await assert.rejects(
        connection.openConsumer({
          queue: 'leaderless',
          prefetch: 1,
          onDelivery: () => undefined,
          setupTimeoutMs: 150,
        }),
        (error) => {
          assert.ok(error instanceof UnavailableError);
          assert.equal(error.code, 'TIMED_OUT');
          assert.match(error.message, /"leaderless" within 150 ms/);
          return true;
        },
      );
      assert.ok(methods.includes('60.20'), 'basic.consume was sent');
      await connection.close();
      assert.ok(methods.includes('10.50'), 'the channel that hangs does not hold up close');
      await allGone(peer);
    });

    it('closes within two seconds and leaves no socket when the broker answers nothing', async () => {
      const polite = politeScript();
      const peer = await start((socket, method) => {
        if (method !== '10.50') {
          polite(socket, method, 0);
        }
      });
      const connection = await dial(peer.port);
      const begin = performance.now();
      await Promise.all([connection.close(), connection.close()]);
      const tookMs = performance.now() - begin;
      assert.ok(tookMs > 1_500, `${tookMs} ms`);
      assert.equal((await connection.closed).kind, 'local');
      await allGone(peer);
    });

    it('drops its socket at once when destroyed, and rejects what waits for a channel', async () => {
      const peer = await start(politeScript());
      const connection = await dial(peer.port);
      const publisher = connection.openPublisher();
      const used = connection.withChannel(async () => await Promise.resolve(1));
      connection.destroy();
      await assert.rejects(publisher, { code: 'CHANNEL_CLOSED' });
      await assert.rejects(used, { code: 'CHANNEL_CLOSED' });
      assert.equal((await connection.closed).kind, 'local');
      await connection.close();
      await allGone(peer);
      await assert.rejects(connection.openPublisher(), { code: 'CHANNEL_CLOSED' });
    });
  });
});

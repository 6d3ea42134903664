/** The AMQP transport against RabbitMQ. */
import assert from 'node:assert/strict';

import { systemClock } from '../../src/base/clock.ts';
import { AuthError, ComputeError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { AmqpConnection, AmqpDialOptions } from '../../src/transport/amqp/connection.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { AmqpConsumer, ConsumerOptions, Delivery } from '../../src/transport/amqp/consumer.ts';
import type { SessionState } from '../../src/transport/amqp/session.ts';
import { AmqpSession } from '../../src/transport/amqp/session.ts';
import { eventually } from '../support/eventually.ts';
import type { TestServices, TestVhost } from '../support/services.ts';
import { createVhost, managementRequest, testServices, uniqueName } from '../support/services.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

/** Less than any timer that a connection could leave behind runs for. */
const SETTLED_MS = 5_000;

function hasCode(code: string, details: Record<string, unknown> = {}) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof ComputeError, String(error));
    assert.equal(error.code, code, error.message);
    for (const [key, value] of Object.entries(details)) {
      assert.equal(error.details[key], value, `details.${key} of: ${error.message}`);
    }
    return true;
  };
}

async function nextTurn(): Promise<void> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve);
  });
}

/** Sockets and timers that keep the process alive. */
function liveCount(): number {
  return process
    .getActiveResourcesInfo()
    .filter((kind) => kind === 'TCPSocketWrap' || kind === 'Timeout').length;
}

describe('AMQP transport on RabbitMQ', () => {
  let services: TestServices;
  let vhost: TestVhost;
  const connections: AmqpConnection[] = [];
  const proxies: TcpProxy[] = [];

  before(async () => {
    services = testServices();
    vhost = await createVhost(services.managementUrl);
  });

  after(async () => {
    await vhost.delete();
  });

  afterEach(async () => {
    await Promise.all(
      connections.splice(0).map(async (connection) => {
        await connection.close();
      }),
    );
    await Promise.all(
      proxies.splice(0).map(async (proxy) => {
        await proxy.close();
      }),
    );
  });

  async function dial(options: Partial<AmqpDialOptions> = {}): Promise<AmqpConnection> {
    const connection = await dialAmqp({
      url: vhost.amqpUrl,
      connectionName: 'amqp-transport.test',
      ...options,
    });
    connections.push(connection);
    return connection;
  }

  async function proxyToBroker(): Promise<{ proxy: TcpProxy; url: string }> {
    const url = new URL(vhost.amqpUrl);
    const proxy = await startTcpProxy({ targetPort: Number(url.port) });
    proxies.push(proxy);
    url.port = String(proxy.port);
    return { proxy, url: url.href };
  }

  async function declareQueue(connection: AmqpConnection): Promise<string> {
    const queue = uniqueName('queue');
    await connection.withChannel(async (channel) => await channel.assertQueue(queue));
    return queue;
  }

  async function depth(connection: AmqpConnection, queue: string): Promise<number> {
    return await connection.withChannel(
      async (channel) => (await channel.checkQueue(queue)).messageCount,
    );
  }

  async function consume(
    connection: AmqpConnection,
    queue: string,
    options: Partial<ConsumerOptions> = {},
  ): Promise<{ consumer: AmqpConsumer; deliveries: Delivery[] }> {
    const deliveries: Delivery[] = [];
    const consumer = await connection.openConsumer({
      queue,
      prefetch: 10,
      onDelivery: (delivery) => deliveries.push(delivery),
      ...options,
    });
    return { consumer, deliveries };
  }

  async function arrived(deliveries: Delivery[], count: number): Promise<void> {
    await eventually(() => {
      assert.equal(deliveries.length, count);
    });
  }

  /** Makes a user who may do everything in the virtual host. */
  async function createUser(): Promise<{ name: string; url: string }> {
    const name = uniqueName('user');
    const { managementUrl } = services;
    await managementRequest(managementUrl, 'PUT', `/users/${name}`, { password: 'pw', tags: '' });
    const path = new URL(vhost.amqpUrl).pathname.slice(1);
    await managementRequest(managementUrl, 'PUT', `/permissions/${path}/${name}`, {
      configure: '.*',
      write: '.*',
      read: '.*',
    });
    const url = new URL(vhost.amqpUrl);
    url.username = name;
    url.password = 'pw';
    return { name, url: url.href };
  }

  async function deleteUser(name: string): Promise<void> {
    await managementRequest(services.managementUrl, 'DELETE', `/users/${name}`);
  }

  describe('publisher', () => {
    it('resolves once the message is confirmed, with its properties intact', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      const body = new Uint8Array([1, 2, 3, 255]).subarray(1);
      await publisher.publish('', queue, body, {
        headers: { task_uuid: 'abc', count: 7 },
        timestampS: 1_700_000_000,
        contentType: 'application/json',
        mandatory: true,
      });
      assert.equal(publisher.unconfirmedCount, 0);
      const message = await connection.withChannel(async (channel) => await channel.get(queue));
      assert.ok(message !== false);
      assert.deepEqual([...message.content], [2, 3, 255]);
      assert.equal(message.properties.deliveryMode, 2);
      assert.equal(message.properties.contentType, 'application/json');
      assert.deepEqual({ ...message.properties.headers }, { task_uuid: 'abc', count: 7 });
      await publisher.close();
      assert.equal((await publisher.closed).kind, 'local');
      await assert.rejects(publisher.publish('', queue, body), hasCode('PUBLISH_UNCONFIRMED'));
    });

    it('rejects a mandatory message that no queue takes, and only that one', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      const body = Buffer.from('x');
      const outcomes = await Promise.allSettled(
        Array.from({ length: 100 }, async (_, index) => {
          const key = index % 3 === 0 ? 'no-such-queue' : queue;
          await publisher.publish('', key, body, { mandatory: index !== 3 });
        }),
      );
      outcomes.forEach((outcome, index) => {
        const isReturned = index % 3 === 0 && index !== 3;
        assert.equal(outcome.status, isReturned ? 'rejected' : 'fulfilled', `message ${index}`);
        if (outcome.status === 'rejected') {
          hasCode('PUBLISH_UNCONFIRMED', { returned: true })(outcome.reason);
        }
      });
      assert.equal(await depth(connection, queue), 66);
    });

    it('rejects everything unconfirmed when a missing exchange closes the channel, and the connection lives', async () => {
      const connection = await dial();
      const publisher = await connection.openPublisher();
      const queue = await declareQueue(connection);
      const outcomes = await Promise.allSettled([
        publisher.publish('no-such-exchange', 'k', Buffer.from('x')),
        publisher.publish('', queue, Buffer.from('x')),
        publisher.publish('', queue, Buffer.from('x')),
      ]);
      for (const outcome of outcomes) {
        assert.ok(outcome.status === 'rejected');
        hasCode('PUBLISH_UNCONFIRMED', { replyCode: 404 })(outcome.reason);
      }
      const closed = await publisher.closed;
      assert.equal(closed.kind, 'error');
      assert.equal(closed.code, 404);
      await assert.rejects(
        publisher.publish('', queue, Buffer.from('x')),
        hasCode('PUBLISH_UNCONFIRMED'),
      );
      const other = await connection.openPublisher();
      await other.publish('', queue, Buffer.from('x'));
    });

    it('rejects everything unconfirmed when the connection is cut', async () => {
      const { proxy, url } = await proxyToBroker();
      const connection = await dial({ url });
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      proxy.stall(true);
      // More than the channel's write buffer takes, so that some still wait outside of it.
      const outcomes = Promise.allSettled(
        Array.from({ length: 3_000 }, async () => {
          await publisher.publish('', queue, Buffer.alloc(4_096));
        }),
      );
      await eventually(() => {
        assert.equal(publisher.unconfirmedCount, 3_000);
      });
      proxy.cut();
      for (const outcome of await outcomes) {
        assert.ok(outcome.status === 'rejected');
        hasCode('PUBLISH_UNCONFIRMED')(outcome.reason);
      }
      assert.equal(publisher.unconfirmedCount, 0);
      assert.equal((await publisher.closed).kind, 'lost');
      assert.equal((await connection.closed).kind, 'lost');
    });

    it('rejects what cannot be encoded and carries on with the next message', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      await assert.rejects(
        publisher.publish('', 'k'.repeat(300), Buffer.from('x')),
        hasCode('INVARIANT'),
      );
      assert.equal(publisher.unconfirmedCount, 0);
      await publisher.publish('', queue, Buffer.from('x'));
    });

    it('keeps the order of messages past the size of its buffer, and confirms all of them', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      const count = 20_000;
      await Promise.all(
        Array.from({ length: count }, async (_, index) => {
          await publisher.publish('', queue, Buffer.from(String(index)), {
            mandatory: true,
            persistent: false,
          });
        }),
      );
      const bodies: string[] = [];
      const { consumer } = await consume(connection, queue, {
        prefetch: 500,
        onDelivery: (delivery) => {
          bodies.push(delivery.body.toString());
          consumer.ack(delivery.deliveryTag);
        },
      });
      await eventually(() => {
        assert.equal(bodies.length, count);
      });
      assert.ok(bodies.every((body, index) => body === String(index)));
    });

    it('waits for outstanding confirms when it is closed', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      const published = Array.from({ length: 200 }, async () => {
        await publisher.publish('', queue, Buffer.from('x'));
      });
      await connection.close();
      await Promise.all(published);
    });

    it('says that a permission is missing', async () => {
      const user = await createUser();
      const { managementUrl } = services;
      const path = new URL(vhost.amqpUrl).pathname.slice(1);
      await managementRequest(managementUrl, 'PUT', `/permissions/${path}/${user.name}`, {
        configure: '^$',
        write: '^$',
        read: '.*',
      });
      const connection = await dial({ url: user.url });
      const publisher = await connection.openPublisher();
      await assert.rejects(
        publisher.publish('amq.topic', 'k', Buffer.from('x')),
        hasCode('PUBLISH_UNCONFIRMED', { replyCode: 403 }),
      );
      assert.equal((await publisher.closed).kind, 'refused');
      await deleteUser(user.name);
    });
  });

  describe('consumer', () => {
    it('delivers at most its prefetch, and more as acks arrive', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      for (let index = 0; index < 5; index += 1) {
        await publisher.publish('', queue, Buffer.from(String(index)), {
          headers: { index },
          timestampS: 1_700_000_000 + index,
        });
      }
      const { consumer, deliveries } = await consume(connection, queue, { prefetch: 2 });
      await arrived(deliveries, 2);
      const [first, second] = deliveries;
      assert.ok(first !== undefined && second !== undefined);
      assert.equal(first.body.toString(), '0');
      assert.equal(first.headers['index'], 0);
      assert.equal(first.timestampS, 1_700_000_000);
      assert.equal(first.redelivered, false);
      assert.equal(first.routingKey, queue);
      assert.equal(consumer.ack(first.deliveryTag), true);
      await arrived(deliveries, 3);
      const third = deliveries[2];
      assert.ok(third !== undefined);
      assert.equal(consumer.heldCount, 2);
      assert.equal(consumer.ack(second.deliveryTag), true);
      assert.equal(consumer.ack(third.deliveryTag), true);
      await arrived(deliveries, 5);
      assert.equal(consumer.heldCount, 2);
      await consumer.close();
      assert.equal((await consumer.ended).kind, 'local');
      assert.equal(consumer.ack(5), false);
      assert.equal(consumer.requeue(5), false);
      await eventually(async () => {
        assert.equal(await depth(connection, queue), 2);
      });
    });

    it('settles with the broker exactly what was acked, in whatever order and however many in one turn', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      for (let tag = 1; tag <= 20; tag += 1) {
        await publisher.publish('', queue, Buffer.from(String(tag)));
      }
      const { consumer, deliveries } = await consume(connection, queue, { prefetch: 20 });
      await arrived(deliveries, 20);
      // The first three can be covered by one frame; the others have an unsettled one before them.
      for (const tag of [20, 3, 1, 7, 2]) {
        assert.equal(consumer.ack(tag), true);
      }
      assert.equal(consumer.heldCount, 15);
      await nextTurn();
      // Everything up to 8 but 6, which is given back in the same turn.
      for (const tag of [8, 5, 4]) {
        consumer.ack(tag);
      }
      consumer.reject(6);
      await nextTurn();
      consumer.ack(10);
      await consumer.close();
      const left = await consume(connection, queue, { prefetch: 20 });
      await arrived(left.deliveries, 10);
      assert.deepEqual(
        left.deliveries.map(({ body }) => Number(body.toString())),
        [9, 11, 12, 13, 14, 15, 16, 17, 18, 19],
      );
    });

    it('takes another prefetch, and still acks what came with the one before', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      for (let tag = 1; tag <= 7; tag += 1) {
        await publisher.publish('', queue, Buffer.from(String(tag)));
      }
      const options = { prefetch: 2, exclusive: true };
      const { consumer, deliveries } = await consume(connection, queue, options);
      await arrived(deliveries, 2);
      await consumer.setPrefetch(3);
      await arrived(deliveries, 5);
      assert.equal(consumer.heldCount, 5);
      deliveries.forEach(({ deliveryTag }) => {
        assert.equal(consumer.ack(deliveryTag), true);
      });
      await arrived(deliveries, 7);
      const { consumerCount } = await consumer.probe();
      assert.equal(consumerCount, 1);
      await consumer.cancel();
      await consumer.close();
      await eventually(async () => {
        assert.equal(await depth(connection, queue), 2);
      });
      await consumer.setPrefetch(1);
    });

    it('gets a requeued message again, flagged, and a rejected one never', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      await publisher.publish('', queue, Buffer.from('x'));
      const { consumer, deliveries } = await consume(connection, queue);
      await arrived(deliveries, 1);
      consumer.requeue(deliveries[0]?.deliveryTag ?? 0);
      await arrived(deliveries, 2);
      assert.equal(deliveries[1]?.redelivered, true);
      consumer.reject(deliveries[1].deliveryTag);
      await consumer.close();
      assert.equal(await depth(connection, queue), 0);
    });

    it('ends as cancelled when its queue is deleted, and the connection lives', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const { consumer } = await consume(connection, queue);
      await connection.withChannel(async (channel) => await channel.deleteQueue(queue));
      const ended = await consumer.ended;
      assert.equal(ended.kind, 'cancelled');
      assert.match(ended.reason, new RegExp(queue));
      await declareQueue(connection);
    });

    it('stops deliveries on cancel and still takes acks', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      await publisher.publish('', queue, Buffer.from('held'));
      const { consumer, deliveries } = await consume(connection, queue);
      await arrived(deliveries, 1);
      await consumer.cancel();
      await consumer.cancel();
      await publisher.publish('', queue, Buffer.from('later'));
      assert.equal(consumer.ack(deliveries[0]?.deliveryTag ?? 0), true);
      await consumer.close();
      assert.equal(deliveries.length, 1);
      assert.equal(await depth(connection, queue), 1);
    });

    it('sends acks that were given just before the connection is closed', async () => {
      const connection = await dial();
      const other = await dial();
      const queue = await declareQueue(connection);
      const publisher = await other.openPublisher();
      await Promise.all(
        Array.from({ length: 50 }, async () => {
          await publisher.publish('', queue, Buffer.from('x'));
        }),
      );
      const { consumer, deliveries } = await consume(connection, queue, { prefetch: 50 });
      await arrived(deliveries, 50);
      for (const { deliveryTag } of deliveries) {
        consumer.ack(deliveryTag);
      }
      await connection.close();
      assert.equal(await depth(other, queue), 0);
    });

    it('says why the broker refuses it', async () => {
      const connection = await dial();
      await assert.rejects(
        consume(connection, 'no-such-queue'),
        hasCode('CHANNEL_CLOSED', { replyCode: 404, queue: 'no-such-queue' }),
      );
      const queue = await declareQueue(connection);
      await consume(connection, queue, { exclusive: true });
      await assert.rejects(
        consume(connection, queue, { exclusive: true }),
        hasCode('CHANNEL_CLOSED', { replyCode: 403 }),
      );
    });

    it('ends with the reason when its receiver throws, and the message is requeued', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      await publisher.publish('', queue, Buffer.from('x'));
      const { consumer } = await consume(connection, queue, {
        onDelivery: () => {
          throw new TypeError('a bug');
        },
      });
      const ended = await consumer.ended;
      assert.equal(ended.kind, 'channel-closed');
      assert.match(ended.reason, /a bug/);
      await eventually(async () => {
        assert.equal(await depth(connection, queue), 1);
      });
    });

    it('ends with the code when the broker closes the channel', async () => {
      const connection = await dial();
      const queue = await declareQueue(connection);
      const { consumer } = await consume(connection, queue);
      consumer.requeue(4711);
      const ended = await consumer.ended;
      assert.equal(ended.kind, 'channel-closed');
      assert.equal(ended.code, 406);
      assert.equal(consumer.ack(4712), false);
    });
  });

  describe('connection', () => {
    it('tells a wrong password from an unknown virtual host and from an outage', async () => {
      const url = new URL(vhost.amqpUrl);
      url.password = 'wrong';
      await assert.rejects(dial({ url: url.href }), (error) => {
        assert.ok(error instanceof AuthError);
        assert.match(error.message, /refused the credentials/);
        return hasCode('TOKEN_REJECTED', { replyCode: 403 })(error);
      });
      url.password = new URL(vhost.amqpUrl).password;
      url.pathname = '/no-such-vhost';
      await assert.rejects(dial({ url: url.href }), hasCode('TOKEN_REJECTED'));
    });

    it('maps failures of declarations by their code', async () => {
      const connection = await dial();
      await assert.rejects(
        connection.withChannel(async (channel) => await channel.checkQueue('no-such-queue')),
        hasCode('CHANNEL_CLOSED', { replyCode: 404 }),
      );
      const queue = await declareQueue(connection);
      await assert.rejects(
        connection.withChannel(
          async (channel) => await channel.assertQueue(queue, { durable: false }),
        ),
        hasCode('PRECONDITION_FAILED', { replyCode: 406 }),
      );
      await assert.rejects(
        connection.withChannel(async () => await Promise.reject(new TypeError('mine'))),
        TypeError,
      );
      assert.equal(
        await connection.withChannel(async () => await Promise.resolve('value')),
        'value',
      );
    });

    it('leaves no unhandled rejection when it goes down under pending requests', async () => {
      const unhandled: unknown[] = [];
      const onUnhandled = (error: unknown): void => {
        unhandled.push(error);
      };
      process.on('unhandledRejection', onUnhandled);
      const connection = await dial();
      const queue = await declareQueue(connection);
      const publisher = await connection.openPublisher();
      const { consumer } = await consume(connection, queue);
      const pending = Promise.allSettled([
        connection.withChannel(async (channel) => {
          // Nobody waits for this one.
          channel.checkQueue(queue).catch(() => undefined);
          return await channel.checkQueue(queue);
        }),
        connection.openPublisher(),
        consume(connection, queue),
        publisher.publish('', queue, Buffer.from('x')),
        consumer.cancel(),
      ]);
      connection.destroy();
      const outcomes = await pending;
      assert.deepEqual(
        outcomes.map((outcome) => outcome.status),
        ['rejected', 'rejected', 'rejected', 'rejected', 'fulfilled'],
      );
      assert.equal((await consumer.ended).kind, 'local');
      await connection.close();
      await nextTurn();
      process.off('unhandledRejection', onUnhandled);
      assert.deepEqual(unhandled, []);
    });

    it('notices a peer that has gone silent by its heartbeats', async () => {
      const { proxy, url } = await proxyToBroker();
      const connection = await dial({ url, heartbeatS: 1 });
      const queue = await declareQueue(connection);
      const { consumer } = await consume(connection, queue);
      proxy.stall(true);
      assert.equal((await connection.closed).kind, 'lost');
      assert.equal((await consumer.ended).kind, 'connection-closed');
      assert.equal(consumer.ack(1), false);
    });

    it('leaves no socket and no timer after close', async () => {
      await nextTurn(); // mocha arms the timer of the test after it has called it.
      const before = liveCount();
      const connection = await dial();
      const queue = await declareQueue(connection);
      await connection.openPublisher();
      await consume(connection, queue);
      await connection.close();
      await eventually(() => {
        assert.equal(liveCount(), before);
      }, SETTLED_MS);
    });
  });

  describe('session', () => {
    const sessions: AmqpSession[] = [];

    afterEach(async () => {
      await Promise.all(
        sessions.splice(0).map(async (session) => {
          await session.stop();
        }),
      );
    });

    interface Running {
      readonly session: AmqpSession;
      readonly states: SessionState[];
      readonly bodies: string[];
      readonly dials: boolean[];
      /** Makes the present session one that held long enough to count. */
      readonly age: () => void;
    }

    function startSession(url: (refused: boolean) => string, queue: string): Running {
      const states: SessionState[] = [];
      const bodies: string[] = [];
      const dials: boolean[] = [];
      let offsetMs = 0;
      const session = new AmqpSession({
        clock: { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + offsetMs },
        logger: silentLogger,
        name: 'test',
        dial: async ({ refused, signal }) => {
          dials.push(refused);
          return await dialAmqp({
            url: url(refused),
            connectionName: 'session.test',
            // Seldom enough for a busy machine to keep them up.
            heartbeatS: 4,
            signal,
          });
        },
        setUp: async (connection) => {
          const consumer = await connection.openConsumer({
            queue,
            prefetch: 10,
            onDelivery: (delivery) => {
              bodies.push(delivery.body.toString());
              consumer.ack(delivery.deliveryTag);
            },
          });
          return { broken: consumer.ended };
        },
        onState: (state) => states.push(state),
      });
      sessions.push(session);
      session.start();
      return {
        session,
        states,
        bodies,
        dials,
        age: () => {
          offsetMs += 6_000;
        },
      };
    }

    function count(running: Running, phase: SessionState['phase']): number {
      return running.states.filter((state) => state.phase === phase).length;
    }

    async function online(running: Running): Promise<void> {
      await eventually(() => {
        assert.equal(running.session.state.phase, 'online');
      });
    }

    it('consumes again within a second after the broker closed its connection', async () => {
      const admin = await dial();
      const queue = await declareQueue(admin);
      const publisher = await admin.openPublisher();
      const user = await createUser();
      const running = startSession(() => user.url, queue);
      await online(running);
      await publisher.publish('', queue, Buffer.from('one'));
      await eventually(() => {
        assert.deepEqual(running.bodies, ['one']);
      });
      running.age();
      await managementRequest(
        services.managementUrl,
        'DELETE',
        `/connections/username/${user.name}`,
      );
      await publisher.publish('', queue, Buffer.from('two'));
      await eventually(() => {
        assert.equal(count(running, 'online'), 2);
        // The ack of the first may have been lost with the connection: then it comes again.
        assert.ok(running.bodies.includes('two'));
      });
      const offline = running.states.find((state) => state.phase === 'offline');
      assert.ok(offline?.phase === 'offline');
      assert.match(offline.reason, /320|CONNECTION.FORCED/);
      await running.session.stop();
      await deleteUser(user.name);
    });

    it('asks for other credentials once its user is deleted', async () => {
      const admin = await dial();
      const queue = await declareQueue(admin);
      const first = await createUser();
      const second = await createUser();
      const running = startSession((refused) => (refused ? second.url : first.url), queue);
      await online(running);
      running.age();
      await deleteUser(first.name);
      await eventually(() => {
        assert.deepEqual(running.dials, [false, false, true]);
        assert.equal(running.session.state.phase, 'online');
      });
      await running.session.stop();
      await deleteUser(second.name);
    });

    it('sets up again after its queue was deleted and declared anew', async () => {
      const admin = await dial();
      const queue = await declareQueue(admin);
      const running = startSession(() => vhost.amqpUrl, queue);
      await online(running);
      await admin.withChannel(async (channel) => await channel.deleteQueue(queue));
      await eventually(() => {
        assert.ok(
          running.states.some((state) => state.phase === 'offline' && state.reason.includes('404')),
        );
      });
      await admin.withChannel(async (channel) => await channel.assertQueue(queue));
      await online(running);
      const publisher = await admin.openPublisher();
      await publisher.publish('', queue, Buffer.from('again'));
      await eventually(() => {
        assert.deepEqual(running.bodies, ['again']);
      });
    });

    it('comes back from resets, half closes and silence', async () => {
      const admin = await dial();
      const queue = await declareQueue(admin);
      const publisher = await admin.openPublisher();
      const { proxy, url } = await proxyToBroker();
      const running = startSession(() => url, queue);
      await online(running);
      for (const breakIt of [
        () => {
          proxy.cut();
        },
        () => {
          proxy.halfClose();
        },
        () => {
          proxy.stall(true);
        },
      ]) {
        const onlineCount = count(running, 'online');
        const connectingCount = count(running, 'connecting');
        running.age();
        breakIt();
        await eventually(() => {
          assert.ok(count(running, 'connecting') > connectingCount);
        });
        proxy.stall(false);
        await eventually(() => {
          assert.equal(count(running, 'online'), onlineCount + 1);
        });
        const body = `after ${onlineCount}`;
        await publisher.publish('', queue, Buffer.from(body));
        await eventually(() => {
          assert.equal(running.bodies.at(-1), body);
        });
      }
      await running.session.stop();
    });

    it('leaves no socket and no timer after stop', async () => {
      const admin = await dial();
      const queue = await declareQueue(admin);
      const before = liveCount();
      const running = startSession(() => vhost.amqpUrl, queue);
      await online(running);
      await running.session.stop();
      await eventually(() => {
        assert.equal(liveCount(), before);
      }, SETTLED_MS);
    });
  });
});

/** How many deliveries an agent's intake takes from a real broker before it acks one. */
import assert from 'node:assert/strict';

import { Intake } from '../../src/agent/intake.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { AmqpConnection } from '../../src/transport/amqp/connection.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { AmqpConsumer, Delivery } from '../../src/transport/amqp/consumer.ts';
import type { ConfirmPublisher } from '../../src/transport/amqp/publisher.ts';
import { eventually } from '../support/eventually.ts';
import type { TestVhost } from '../support/services.ts';
import { createVhost, testServices, uniqueName } from '../support/services.ts';

const PREFETCH = 300;
const OF_ANY_SIZE = 64;
/** After so many in a row, small ones count as usual. */
const SMALL_IN_A_ROW = 256;
const SMALL = Buffer.from('x');
const LARGE = Buffer.alloc(65 * 1024);

describe('the prefetch of an agent', () => {
  let vhost: TestVhost;
  let connection: AmqpConnection;
  let publisher: ConfirmPublisher;
  let queue: string;
  let intake: Intake;
  let unacked: Delivery[];
  let consumer: AmqpConsumer | undefined;

  before(async () => {
    vhost = await createVhost(testServices().managementUrl);
  });

  after(async () => {
    await vhost.delete();
  });

  beforeEach(async () => {
    connection = await dialAmqp({ url: vhost.amqpUrl, connectionName: 'intake-prefetch.test' });
    queue = uniqueName('tasks');
    await connection.withChannel(async (channel) => await channel.assertQueue(queue));
    publisher = await connection.openPublisher();
    unacked = [];
    intake = new Intake({
      prefetch: PREFETCH,
      logger: silentLogger,
      onDelivery: (delivery, from) => {
        unacked.push(delivery);
        consumer = from;
      },
      onForget: () => undefined,
    });
    await intake.begin(connection, queue);
  });

  afterEach(async () => {
    intake.end();
    await connection.close();
  });

  async function publish(count: number, body: Buffer): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, async () => {
        await publisher.publish('', queue, body);
      }),
    );
  }

  async function takesAll(count: number): Promise<void> {
    let takenCount = 0;
    await eventually(() => {
      for (const { deliveryTag } of unacked.splice(0)) {
        takenCount += 1;
        assert.equal(consumer?.ack(deliveryTag), true);
      }
      assert.equal(takenCount, count);
    });
  }

  async function holds(count: number, leftCount: number): Promise<void> {
    await eventually(async () => {
      assert.equal(unacked.length, count);
      const { messageCount } = await connection.withChannel(
        async (channel) => await channel.checkQueue(queue),
      );
      assert.equal(messageCount, leftCount);
    });
  }

  it('is low until many tasks in a row were small, and again after one that was not', async () => {
    await publish(OF_ANY_SIZE + 1, SMALL);
    await holds(OF_ANY_SIZE, 1);
    await takesAll(OF_ANY_SIZE + 1);
    await publish(SMALL_IN_A_ROW, SMALL);
    await takesAll(SMALL_IN_A_ROW);
    await intake.idle();
    await publish(PREFETCH + 1, SMALL);
    await holds(PREFETCH, 1);
    await takesAll(PREFETCH + 1);
    await publish(1, LARGE);
    await takesAll(1);
    await intake.idle();
    await publish(OF_ANY_SIZE + 1, LARGE);
    await holds(OF_ANY_SIZE, 1);
    assert.equal(intake.consuming, true);
  });

  it('changes nothing while consuming is paused, and holds when it goes on', async () => {
    await publish(SMALL_IN_A_ROW - 1, SMALL);
    await takesAll(SMALL_IN_A_ROW - 1);
    intake.pause('test');
    await intake.idle();
    intake.resume('test');
    await intake.idle();
    await publish(PREFETCH + 2, SMALL);
    await eventually(() => {
      assert.ok(unacked.length >= PREFETCH);
    });
    await takesAll(PREFETCH + 2);
    assert.equal(intake.consuming, true);
  });
});

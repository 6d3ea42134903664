/** Results on their way to a broker that refuses them in every way there is. */
import assert from 'node:assert/strict';

import type { Journal } from '../../src/agent/journal/journal.ts';
import { ResultOutbox } from '../../src/agent/result-outbox.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import { AmqpSession } from '../../src/transport/amqp/session.ts';
import type { AmqpPeer, PublishedToPeer } from '../support/amqp-peer.ts';
import { brokerScript, startAmqpPeer } from '../support/amqp-peer.ts';
import { eventually } from '../support/eventually.ts';
import { JournalFixture, makeTask } from '../support/journal-fixture.ts';

const INFO = {
  connection_url: '',
  exchange: 'results',
  queue: '',
  queue_publish_kwargs: {
    exchange: 'results',
    routing_key: 'me.results',
    mandatory: true,
    properties: { delivery_mode: 2 },
  },
} as const;
const FAILURE = Buffer.from('a failure');

describe('result outbox', () => {
  const fixture = new JournalFixture();
  let journal: Journal;
  let peer: AmqpPeer | undefined;
  let session: AmqpSession | undefined;
  let outbox: ResultOutbox;
  let confirmed: string[];
  let failures: { taskId: string; code: string }[];

  beforeEach(async () => {
    ({ journal } = await fixture.open(await fixture.directory()));
    confirmed = [];
    failures = [];
    outbox = new ResultOutbox(
      journal,
      systemClock,
      silentLogger,
      (taskId) => confirmed.push(taskId),
      (taskId, { code }) => {
        failures.push({ taskId, code });
        return { body: FAILURE, headers: {} };
      },
    );
  });

  afterEach(async () => {
    outbox.stop();
    await session?.stop();
    await peer?.close();
    await fixture.release();
  });

  async function connect(onPublish: (message: PublishedToPeer) => void): Promise<void> {
    peer = await startAmqpPeer(brokerScript({ onPublish }));
    const { port } = peer;
    session = new AmqpSession({
      name: 'results',
      clock: systemClock,
      logger: silentLogger,
      dial: async ({ signal }) =>
        await dialAmqp({
          url: `amqp://guest:guest@127.0.0.1:${port}`,
          connectionName: 't',
          signal,
        }),
      setUp: async (connection) => {
        const publisher = await connection.openPublisher();
        outbox.setRoute({ publisher, info: INFO });
        return { broken: publisher.closed };
      },
      onState: ({ phase }) => {
        if (phase !== 'online') {
          outbox.setRoute(undefined);
        }
      },
      backoff: { baseMs: 10, maxMs: 20 },
    });
    session.start();
  }

  async function finish(bytes: number, headers: Record<string, unknown> = {}): Promise<string> {
    const task = makeTask();
    await journal.received(task, true);
    const result = { body: Buffer.alloc(bytes), headers };
    outbox.publish(task.taskId, result, journal.done(task.taskId, result));
    return task.taskId;
  }

  it('does not hammer a broker that refuses every message, and delivers when it takes them', async () => {
    let isRefusing = true;
    let publishedCount = 0;
    await connect((message) => {
      publishedCount += 1;
      if (isRefusing) {
        message.nack();
      } else {
        message.ack();
      }
    });
    const taskId = await finish(10);
    await eventually(() => {
      assert.equal(publishedCount, 1);
    });
    await new Promise<void>((resolve) => {
      setTimeout(resolve, 200);
    });
    assert.ok(publishedCount < 10, `a refused result was published ${publishedCount} times`);
    isRefusing = false;
    await eventually(() => {
      assert.deepEqual(confirmed, [taskId]);
    });
  });

  it('finds the one result that the broker closes the channel over, and delivers its failure and the others', async () => {
    const sizes: number[] = [];
    await connect((message) => {
      sizes.push(message.bytes);
      if (message.bytes > 4_000) {
        message.closeChannel(406, 'PRECONDITION_FAILED - message size 5000 is larger than 4000');
      } else {
        setImmediate(message.ack);
      }
    });
    const small = [await finish(10), await finish(11)];
    const large = await finish(5_000);
    small.push(await finish(12));
    await eventually(() => {
      assert.deepEqual([...confirmed].sort(), [...small, large].sort());
    });
    assert.deepEqual(failures, [{ taskId: large, code: 'RESULT_UNDELIVERABLE' }]);
    assert.equal(sizes.filter((bytes) => bytes > 4_000).length, 2, 'once with others, once alone');
    assert.equal(sizes.filter((bytes) => bytes === FAILURE.length).length, 1);
    await outbox.settled();
  });

  it('delivers a failure in the place of a result that no message can carry', async () => {
    await connect((message) => {
      message.ack();
    });
    const taskId = await finish(10, { outpost_output: 'x'.repeat(100_000) });
    await eventually(() => {
      assert.deepEqual(confirmed, [taskId]);
    });
    assert.deepEqual(failures, [{ taskId, code: 'RESULT_UNDELIVERABLE' }]);
  });

  it('publishes again on the next channel what the last one did not confirm, each until its own confirm', async () => {
    let connectionCount = 0;
    const seen: string[] = [];
    await connect((message) => {
      if (message.deliveryTag === 1) {
        connectionCount += 1;
      }
      seen.push(`${connectionCount}:${message.bytes}`);
      if (connectionCount === 1 && message.bytes === 2) {
        message.ack();
      }
      if (connectionCount === 1 && message.bytes === 3) {
        message.closeChannel(504, 'CHANNEL_ERROR');
      }
      if (connectionCount === 2) {
        message.ack();
      }
    });
    await eventually(() => {
      assert.equal(session?.state.phase, 'online');
    });
    const ids = [await finish(1), await finish(2), await finish(3)];
    await eventually(() => {
      assert.deepEqual([...confirmed].sort(), [...ids].sort());
    });
    assert.equal(confirmed[0], ids[1]);
    assert.deepEqual(seen.slice(0, 3), ['1:1', '1:2', '1:3']);
    assert.deepEqual(seen.slice(3).sort(), ['2:1', '2:3']);
    assert.equal(journal.stats.liveCount, 0);
  });
});

/** Results that are too large for a message, on their way to a hub that is away, refuses them, or takes them twice. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { Journal } from '../../src/agent/journal/journal.ts';
import { ResultOutbox } from '../../src/agent/result-outbox.ts';
import { ResultUploads } from '../../src/agent/result-uploads.ts';
import { packFailure } from '../../src/agent/task-failure.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { HubClient } from '../../src/client/hub-client.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { AmqpConnection } from '../../src/transport/amqp/connection.ts';
import { brokerScript, startAmqpPeer } from '../support/amqp-peer.ts';
import type { AmqpPeer, PublishedToPeer } from '../support/amqp-peer.ts';
import { eventually } from '../support/eventually.ts';
import { JournalFixture, makeTask } from '../support/journal-fixture.ts';

const INLINE_BYTES_MAX = 4_000;
const BLOB = { sha256: 'ab'.repeat(32), bytes: 9_999 };
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

describe('large results of an agent', () => {
  const fixture = new JournalFixture();
  let server: Server;
  let hub: HubClient;
  let uploads: { path: string; bytes: number }[];
  let answer: (response: ServerResponse) => void;
  let peer: AmqpPeer | undefined;
  const outboxes: ResultOutbox[] = [];
  const connections: AmqpConnection[] = [];

  beforeEach(async () => {
    uploads = [];
    answer = (response) => response.end(JSON.stringify(BLOB));
    const take = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      let bytes = 0;
      for await (const chunk of request) {
        bytes += (chunk as Buffer).length;
      }
      uploads.push({ path: request.url ?? '', bytes });
      response.setHeader('content-type', 'application/json');
      answer(response);
    };
    server = createServer((request, response) => {
      take(request, response).catch(() => response.destroy());
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    hub = new HubClient({
      hubUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      tokens: { accessToken: async () => await Promise.resolve('a token') },
      retries: 0,
    });
  });

  afterEach(async () => {
    for (const outbox of outboxes.splice(0)) {
      outbox.stop();
    }
    for (const connection of connections.splice(0)) {
      await connection.close();
    }
    await peer?.close();
    await fixture.release();
    server.closeAllConnections();
    server.close();
  });

  /** An agent's outbox on a journal, connected to the peer. */
  async function start(journal: Journal, confirmed: string[]): Promise<ResultOutbox> {
    const outbox = new ResultOutbox(
      journal,
      systemClock,
      silentLogger,
      (taskId) => confirmed.push(taskId),
      (taskId, failure) => ({ body: packFailure(taskId, failure, 0), headers: {} }),
      new ResultUploads(hub, systemClock, silentLogger),
    );
    outboxes.push(outbox);
    const connection = await dialAmqp({
      url: `amqp://guest:guest@127.0.0.1:${peer?.port ?? 0}`,
      connectionName: 't',
    });
    connections.push(connection);
    const publisher = await connection.openPublisher();
    outbox.setRoute({ publisher, info: INFO, inlineBytesMax: INLINE_BYTES_MAX });
    return outbox;
  }

  async function listen(onPublish: (message: PublishedToPeer) => void): Promise<void> {
    peer = await startAmqpPeer(brokerScript({ onPublish }));
  }

  async function finish(journal: Journal, outbox: ResultOutbox, bytes: number): Promise<string> {
    const task = makeTask();
    await journal.received(task, true);
    const result = { body: Buffer.alloc(bytes, 1), headers: {} };
    outbox.publish(task.taskId, result, journal.done(task.taskId, result));
    return task.taskId;
  }

  it('stay in the journal of an agent that ends between upload and publish, and are brought again', async () => {
    const sizes: number[] = [];
    let isAnswering = false;
    await listen((message) => {
      sizes.push(message.bytes);
      if (isAnswering) {
        message.ack();
      }
    });
    const directory = await fixture.directory();
    const before = await fixture.open(directory);
    const first = await start(before.journal, []);
    const taskId = await finish(before.journal, first, 5_000);
    await eventually(() => {
      assert.equal(sizes.length, 1, 'the reference was not published');
    });
    assert.equal(before.journal.stats.liveCount, 1, 'it left the journal without a confirm');
    first.stop();
    await before.journal.close();

    isAnswering = true;
    const after = await fixture.open(directory);
    assert.deepEqual(
      after.recovered.map((task) => task.taskId),
      [taskId],
    );
    const confirmed: string[] = [];
    const second = await start(after.journal, confirmed);
    second.republish(taskId);
    await eventually(() => {
      assert.deepEqual(confirmed, [taskId]);
    });
    const path = `/v1/tasks/${taskId}/result-blob`;
    assert.deepEqual(uploads, [
      { path, bytes: 4_999 },
      { path, bytes: 4_999 },
    ]);
    assert.ok(sizes.every((bytes) => bytes < 1_000));
    assert.equal(after.journal.stats.liveCount, 0);
  });

  it('do not hold up the others while the hub is away, and go when it is back', async () => {
    let isAway = true;
    answer = (response) => {
      response.statusCode = isAway ? 503 : 200;
      response.end(JSON.stringify(isAway ? {} : BLOB));
    };
    await listen((message) => {
      message.ack();
    });
    const { journal } = await fixture.open(await fixture.directory());
    const confirmed: string[] = [];
    const outbox = await start(journal, confirmed);
    const large = await finish(journal, outbox, 5_000);
    const small = [await finish(journal, outbox, 10), await finish(journal, outbox, 10)];
    await eventually(() => {
      assert.deepEqual(confirmed, small);
    });
    assert.equal(outbox.backlogCount, 1);
    isAway = false;
    await outbox.settled();
    assert.deepEqual(confirmed, [...small, large]);
  });

  it('become a failure that says why, when the hub does not keep them', async () => {
    answer = (response) => {
      response.statusCode = 507;
      response.end(JSON.stringify({ code: 'RESULT_STORE_FULL', detail: 'there is no room' }));
    };
    const sizes: number[] = [];
    await listen((message) => {
      sizes.push(message.bytes);
      message.ack();
    });
    const { journal } = await fixture.open(await fixture.directory());
    const confirmed: string[] = [];
    const outbox = await start(journal, confirmed);
    const taskId = await finish(journal, outbox, 5_000);
    await outbox.settled();
    assert.deepEqual(confirmed, [taskId]);
    assert.equal(uploads.length, 1);
    assert.ok(sizes.length === 1 && Number(sizes[0]) < 1_000);
  });
});

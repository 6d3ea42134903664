/** The two connections of an agent against a scripted broker, for what a real one cannot be made to do quickly. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import type { Clock } from '../../src/base/clock.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { AmqpPeer, PeerSocket, PublishedToPeer } from '../support/amqp-peer.ts';
import { brokerScript, startAmqpPeer } from '../support/amqp-peer.ts';
import { eventually } from '../support/eventually.ts';
import { FakeHub } from '../support/fake-hub.ts';
import { JournalFixture } from '../support/journal-fixture.ts';
import { LinkedAgent } from '../support/linked-agent.ts';

/** Probes of the consumer, which are half a minute apart, come after 20 ms. */
const QUICK_PROBES: Clock = {
  ...systemClock,
  after: (delayMs, callback, options) =>
    delayMs === 30_000
      ? systemClock.after(20, callback)
      : systemClock.after(delayMs, callback, options),
};

describe('connections of an agent', () => {
  const journals = new JournalFixture();
  let hub: FakeHub;
  let peer: AmqpPeer;
  let agent: LinkedAgent;
  let registrationCount: number;
  let consumeCount: number;
  let queue: { messages: number; consumers: number };
  let onPublish: (message: PublishedToPeer, peer: PeerSocket) => void;

  beforeEach(async () => {
    registrationCount = 0;
    consumeCount = 0;
    queue = { messages: 0, consumers: 1 };
    onPublish = (message) => {
      message.ack();
    };
    peer = await startAmqpPeer(
      brokerScript({
        onPublish: (message, socket) => {
          onPublish(message, socket);
        },
        queue: () => queue,
        onConsume: () => {
          consumeCount += 1;
        },
      }),
    );
    hub = await FakeHub.start();
    const endpointId = randomUUID();
    hub.onRegister = () => {
      registrationCount += 1;
      const url = `amqp://me:secret@127.0.0.1:${peer.port}`;
      const consume = { connection_url: url, exchange: 'tasks', queue: 'my.tasks' };
      const publish = (name: string): Record<string, unknown> => ({
        ...consume,
        queue_publish_kwargs: { exchange: name, routing_key: `me.${name}` },
      });
      return {
        endpoint_id: endpointId,
        command_queue_info: consume,
        task_queue_info: consume,
        result_queue_info: publish('results'),
        heartbeat_queue_info: publish('heartbeats'),
        warnings: [],
        lease: { epoch: registrationCount, ttl_ms: 90_000 },
      };
    };
  });

  afterEach(async () => {
    await agent.stop();
    await peer.close();
    await hub.stop();
    await journals.release();
  });

  async function start(): Promise<void> {
    const { journal } = await journals.open(await journals.directory());
    const form = new URLSearchParams({ grant_type: 'client_credentials' });
    const credentials = `${hub.clientId}:${encodeURIComponent(hub.clientSecret)}`;
    const response = await fetch(hub.tokenEndpoint, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` },
      body: form,
    });
    const { access_token: token } = (await response.json()) as { access_token: string };
    agent = new LinkedAgent({ hubUrl: hub.url, token, journal, clock: QUICK_PROBES });
  }

  async function online(): Promise<void> {
    await eventually(() => {
      assert.equal(agent.link.health().isOnline, true, agent.link.health().offline?.reason);
    });
  }

  it('waits, consuming nothing, while the broker is blocked, also when it was so from the first message on', async () => {
    let isBlocked = true;
    const unsettled: PublishedToPeer[] = [];
    let blockedSocket: PeerSocket | undefined;
    onPublish = (message, socket) => {
      if (isBlocked) {
        unsettled.push(message);
        blockedSocket = socket;
        socket.blocked('low on memory');
      } else {
        message.ack();
      }
    };
    await start();
    await eventually(() => {
      assert.match(
        agent.link.health().offline?.reason ?? '',
        /takes no messages \(low on memory\)/,
      );
      assert.equal(agent.link.sessions.results.phase, 'online');
    });
    assert.equal(agent.intake.consuming, false);
    // The connection is lost and comes back to a broker that is as it was.
    const before = consumeCount;
    blockedSocket?.socket.resetAndDestroy();
    const first = unsettled.length;
    await eventually(() => {
      assert.ok(unsettled.length > first);
      assert.equal(agent.link.sessions.results.phase, 'online');
    });
    assert.ok(agent.intake.pauses.includes('broker-blocked'));
    assert.equal(consumeCount, before, 'tasks are taken that could not be answered');
    isBlocked = false;
    blockedSocket?.unblocked();
    unsettled.at(-1)?.ack();
    await online();
    await eventually(() => {
      assert.equal(agent.intake.consuming, true);
    });
  });

  it('reconnects when the broker does not know its consumer any more', async () => {
    await start();
    await online();
    const before = consumeCount;
    queue = { messages: 0, consumers: 0 };
    await eventually(() => {
      assert.ok(consumeCount > before);
      queue = { messages: 0, consumers: 1 };
    });
    assert.equal(registrationCount, 1, 'held credentials are good');
  });

  it('reconnects when tasks wait and none is delivered, but not when it is only busy', async () => {
    await start();
    await online();
    const before = consumeCount;
    queue = { messages: 5, consumers: 1 };
    await eventually(() => {
      assert.ok(consumeCount > before);
      queue = { messages: 0, consumers: 1 };
    });
  });

  it('sends the task statuses of a report that was not confirmed with the next one', async () => {
    await start();
    await online();
    const taskId = randomUUID();
    let isLosing = true;
    let lostCount = 0;
    let reportBytes = 0;
    onPublish = (message) => {
      if (isLosing) {
        // A heartbeat without statuses is shorter.
        lostCount += message.bytes > 250 ? 1 : 0;
        message.nack();
      } else {
        reportBytes = message.bytes;
        message.ack();
      }
    };
    agent.statuses.record(taskId, 'received');
    await eventually(() => {
      assert.ok(lostCount > 0, 'no report with the status was sent');
      assert.equal(agent.statuses.size, 1, 'the status of a lost report is gone');
    });
    isLosing = false;
    await eventually(() => {
      assert.equal(agent.statuses.size, 0);
      assert.ok(reportBytes > 250, String(reportBytes));
    });
  });

  it('changes its consumer for one reason at a time', async () => {
    await start();
    await online();
    for (let round = 0; round < 20; round += 1) {
      agent.intake.pause('a');
      agent.intake.resume('a');
      agent.intake.pause('b');
      if (round % 5 === 0) {
        for (const socket of peer.sockets) {
          socket.resetAndDestroy();
        }
      }
      agent.intake.resume('b');
    }
    await online();
    await eventually(async () => {
      await agent.intake.idle();
      assert.equal(agent.intake.consuming, true);
      assert.deepEqual(agent.intake.pauses, []);
    });
    agent.intake.pause('c');
    await agent.intake.idle();
    assert.equal(agent.intake.consuming, false);
  });
});

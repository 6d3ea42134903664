/** The first steps of an agent's end, with a journal on disk and a consumer that only takes notes. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { AgentShutdown } from '../../src/agent/agent-shutdown.ts';
import { Intake } from '../../src/agent/intake.ts';
import { Registrar } from '../../src/agent/registration.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { HubClient } from '../../src/client/hub-client.ts';
import { packTask } from '../../src/protocol/messages.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import type { AmqpConsumer } from '../../src/transport/amqp/consumer.ts';
import { makeDispatcher } from '../support/dispatcher-fixture.ts';
import { JournalFixture } from '../support/journal-fixture.ts';

describe('the end of an agent', () => {
  const fixture = new JournalFixture();

  afterEach(async () => {
    await fixture.release();
  });

  it('waits for what is on its way into the journal, so that it is handed back with the rest', async () => {
    const { journal } = await fixture.open(await fixture.directory());
    const clock = systemClock;
    const logger = silentLogger;
    const dispatcher = makeDispatcher(journal);
    dispatcher.onHostReady({ type: 'ready', javascript: 1, python: 1 });
    const intake = new Intake({
      prefetch: 1,
      logger,
      onDelivery: () => undefined,
      onForget: () => undefined,
    });
    const tokens = { accessToken: async () => await Promise.resolve('t') };
    const hub = new HubClient({ hubUrl: 'http://127.0.0.1:1', tokens, clock });
    const saveRegistration = async (): Promise<void> => {
      await Promise.resolve();
    };
    const registration = { name: 'main', metadata: {}, takeover: false, saveRegistration };
    const registrar = new Registrar(registration, hub, clock, logger);
    const shutdown = new AgentShutdown({ hub, registrar, killGraceMs: 0, clock, logger });

    const acked: number[] = [];
    const consumer = {
      ack: (tag: number) => acked.push(tag) > 0,
      requeue: () => true,
    } as unknown as AmqpConsumer;
    const taskIds = [randomUUID(), randomUUID()];
    taskIds.forEach((taskId, tag) => {
      const body = packTask({
        task_id: taskId,
        task_buffer: packBuffers(['js\nf:() => 1', '11\n[]', '11\n{}']),
      });
      const headers = { task_uuid: taskId, function_uuid: randomUUID() };
      const delivery = { deliveryTag: tag, redelivered: false, routingKey: 'q', body, headers };
      dispatcher.offer(delivery, consumer);
    });
    const nothing = { stop: (): undefined => undefined };
    const jobs = { stop: async (): Promise<void> => { await Promise.resolve(); } }; // prettier-ignore
    const parts = { intake, dispatcher, modes: nothing, jobs };
    await shutdown.quiesceAndDrain(parts, 1_000, new AbortController().signal);
    assert.deepEqual(acked, [0, 1]);
    assert.deepEqual([...dispatcher.unstarted].sort(), [...taskIds].sort());
  });
});

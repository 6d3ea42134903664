/** The watchdog over a real broker behind a proxy that lets connections fall silent. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { Watchdog } from '../../src/agent/watchdog.ts';
import { brokerLoops } from '../../src/agent/watched-loops.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { eventually } from '../support/eventually.ts';
import { JournalFixture } from '../support/journal-fixture.ts';
import { LinkedAgent } from '../support/linked-agent.ts';
import { testServices } from '../support/services.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { TestHub } from './hub-api-support.ts';

describe('the watchdog of an agent whose connections fall silent', () => {
  it('reconnects a session whose results are not confirmed, names the loop, and nothing is lost', async () => {
    const journals = new JournalFixture();
    const proxy = await startTcpProxy({ targetPort: Number(new URL(testServices().amqpUrl).port) });
    const hub = await TestHub.start({ amqpPublicUrl: `amqp://127.0.0.1:${proxy.port}` });
    const { access_token: token } = await hub.token(await hub.createClient());
    const { journal } = await journals.open(await journals.directory());
    const agent = new LinkedAgent({ hubUrl: hub.url, token, journal });
    const { link, registrar, outbox, heartbeat } = agent;
    const watchdog = new Watchdog({
      loops: brokerLoops(
        { link, registrar, outbox, heartbeat, clock: systemClock },
        { attemptMs: 30_000, confirmMs: 6_000, heartbeatMs: 30_000 },
      ),
      clock: systemClock,
      logger: silentLogger,
      periodMs: 300,
    });
    try {
      await eventually(() => {
        assert.equal(link.health().isOnline, true);
      });
      watchdog.start();
      const before = randomUUID();
      await agent.finish(before);
      await eventually(() => {
        assert.deepEqual(agent.confirmed, [before]);
      });
      assert.deepEqual(watchdog.stalls, []);
      proxy.freeze();
      const silent = randomUUID();
      await agent.finish(silent);
      await eventually(() => {
        assert.deepEqual(agent.confirmed, [before, silent]);
      });
      // AMQP heartbeats would have found it much later, and nobody would have been named.
      assert.deepEqual(
        watchdog.stalls.map(({ loop }) => loop),
        ['result publisher'],
      );
    } finally {
      watchdog.stop();
      await agent.stop();
      await journals.release();
      await hub.stop();
      await proxy.close();
    }
  });
});

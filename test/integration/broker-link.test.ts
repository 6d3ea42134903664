/** What an agent does about every way in which a real broker or the hub cuts it off: rows of the outcome table. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { endpointUser } from '../../src/hub/broker/topology-table.ts';
import { eventually } from '../support/eventually.ts';
import { JournalFixture } from '../support/journal-fixture.ts';
import { LinkedAgent } from '../support/linked-agent.ts';
import { managementRequest, testServices } from '../support/services.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';
import { TestHub, registerFunction } from './hub-api-support.ts';
import type { Person } from './hub-api-support.ts';

const PAYLOAD = '11\n[]';

describe('an agent that is cut off', () => {
  const journals = new JournalFixture();
  let proxy: TcpProxy;
  let hub: TestHub;
  let person: Person;
  let token: string;
  let functionId: string;
  let agent: LinkedAgent;

  before(async () => {
    proxy = await startTcpProxy({ targetPort: Number(new URL(testServices().amqpUrl).port) });
    hub = await TestHub.start({ amqpPublicUrl: `amqp://127.0.0.1:${proxy.port}` });
    const client = await hub.createClient();
    token = (await hub.token(client)).access_token;
    person = hub.personWith(client.id, token);
    functionId = await registerFunction(person);
  });

  after(async () => {
    await hub.stop();
    await proxy.close();
  });

  beforeEach(async () => {
    const { journal } = await journals.open(await journals.directory());
    agent = new LinkedAgent({ hubUrl: hub.url, token, journal });
    await online();
  });

  afterEach(async () => {
    proxy.refuse(false);
    await agent.stop();
    await journals.release();
  });

  async function online(): Promise<void> {
    await eventually(() => {
      assert.equal(agent.link.health().isOnline, true, agent.link.health().offline?.reason);
    });
  }

  function endpointId(): string {
    return agent.registrar.current?.endpointId ?? '';
  }

  function epoch(): number {
    return agent.registrar.current?.epoch ?? 0;
  }

  function queue(): string {
    return agent.registrar.current?.response.task_queue_info.queue ?? '';
  }

  async function management(method: string, path: string): Promise<unknown> {
    return await managementRequest(hub.settings.managementUrl, method, path);
  }

  function vhost(): string {
    return new URL(hub.settings.amqpUrl).pathname.slice(1);
  }

  function user(): string {
    return endpointUser({ id: endpointId(), queueSuffix: '' }, epoch()).name;
  }

  async function submit(): Promise<string> {
    const answer = await person.call('POST', `/v3/endpoints/${endpointId()}/submit`, {
      tasks: { [functionId]: [PAYLOAD] },
    });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    const [taskId] = (answer.body['tasks'] as Record<string, string[]>)[functionId] ?? [];
    return taskId ?? '';
  }

  async function receives(taskId: string): Promise<void> {
    await eventually(() => {
      assert.ok(agent.received.includes(taskId));
    });
  }

  it('registers again at once when its queue was deleted, and gets what is submitted next', async () => {
    const before = epoch();
    await management('DELETE', `/queues/${vhost()}/${encodeURIComponent(queue())}`);
    await eventually(() => {
      assert.ok(epoch() > before);
      assert.ok(agent.intake.consuming);
    });
    await receives(await submit());
  });

  for (const [what, path] of [
    ['permissions are', (): string => `/permissions/${vhost()}/${user()}`],
    ['user is', (): string => `/users/${user()}`],
  ] as const) {
    it(`registers again for new credentials when its ${what} gone`, async () => {
      const before = epoch();
      await management('DELETE', path());
      proxy.cut();
      await eventually(() => {
        assert.ok(epoch() > before);
      });
      await online();
      await receives(await submit());
    });
  }

  it('dials again with the credentials it holds when the connection was reset or closed by the operator', async () => {
    const before = epoch();
    proxy.cut();
    await receives(await submit());
    await management('DELETE', `/connections/username/${user()}`).catch(() => undefined);
    await receives(await submit());
    await online();
    assert.equal(epoch(), before);
  });

  it('says since when it is offline and why, goes on trying, and publishes what ended meanwhile', async () => {
    proxy.refuse(true);
    proxy.cut();
    await eventually(() => {
      const { offline } = agent.link.health();
      assert.match(offline?.reason ?? '', /ECONNRESET|ended|closed.*; dialling again/);
      assert.ok(Math.abs((offline?.sinceMs ?? 0) - Date.now()) < 20_000);
    });
    const since = agent.link.health().offline?.sinceMs;
    await agent.finish();
    await agent.finish();
    assert.equal(agent.outbox.backlogCount, 2);
    await eventually(() => {
      const { results } = agent.link.sessions;
      assert.ok(results.phase === 'offline' && results.attempt >= 3);
    });
    assert.equal(agent.link.health().offline?.sinceMs, since);
    proxy.refuse(false);
    await eventually(() => {
      assert.equal(agent.confirmed.length, 2);
    });
  });

  it('sits out a hub that does not know it for the moment, and says so', async () => {
    await hub.db
      .updateTable('endpoints')
      .set({ owner_id: randomUUID() })
      .where('id', '=', endpointId())
      .execute();
    await management('DELETE', `/users/${user()}`);
    proxy.cut();
    await eventually(() => {
      assert.match(agent.link.health().offline?.reason ?? '', /asking the hub again/);
    });
    assert.deepEqual(agent.fatal, []);
    await hub.db
      .updateTable('endpoints')
      .set({ owner_id: person.id })
      .where('id', '=', endpointId())
      .execute();
    await online();
  });

  it('stops when its endpoint was deleted', async () => {
    const answer = await person.call('DELETE', `/v2/endpoints/${endpointId()}`);
    assert.equal(answer.status, 200);
    await eventually(() => {
      assert.equal(agent.fatal[0]?.code, 'ENDPOINT_NOT_FOUND');
    });
  });

  it('is fenced by a takeover: takes nothing more, still delivers results, and says who has it', async () => {
    const first = await submit();
    await receives(first);
    const before = epoch();
    const taken = await person.call('PUT', `/v3/endpoints/${endpointId()}`, {
      endpoint_name: 'default',
      lease: {
        holder: { host: 'login02', boot_id: 'other', pid: 4711, start_ticks: 1 },
        takeover: true,
      },
    });
    assert.equal(taken.status, 200, JSON.stringify(taken.body));
    await eventually(() => {
      assert.match(agent.link.fenced?.message ?? '', /held by login02 \(pid 4711\) since 20/);
    });
    assert.ok(agent.intake.pauses.includes('fenced'));
    assert.deepEqual(agent.fatal, [], 'a fenced agent ends when its tasks have');
    await agent.finish(first);
    await eventually(() => {
      assert.deepEqual(agent.confirmed, [first]);
    });
    await eventually(async () => {
      const { body } = await person.call('GET', `/v2/tasks/${first}`);
      assert.equal(body['status'], 'success');
    });
    const second = await submit();
    await agent.hub.releaseLease(endpointId(), before);
    assert.deepEqual(agent.received, [first], `${second} went to a fenced agent`);
    const users = (await management('GET', '/users?columns=name')) as { name: string }[];
    const own = users.filter(({ name }) => name.startsWith(`ep.${endpointId()}.`));
    assert.deepEqual(
      own.map(({ name }) => name),
      [`ep.${endpointId()}.${before + 1}`],
      'the credentials of a fenced agent that has ended are gone',
    );
  });

  it('hands back what it acked and did not start, once for each lease', async () => {
    const taskId = await submit();
    await receives(taskId);
    agent.received.length = 0;
    assert.equal(await agent.hub.handBackTasks(endpointId(), epoch(), [taskId]), 1);
    await receives(taskId);
    assert.equal(await agent.hub.handBackTasks(endpointId(), epoch(), [taskId]), 0);
    await agent.finish(taskId);
    await eventually(async () => {
      const { body } = await person.call('GET', `/v2/tasks/${taskId}`);
      assert.equal(body['status'], 'success');
    });
    assert.equal(await agent.hub.handBackTasks(endpointId(), epoch() + 1, [taskId]), 0);
  });
});

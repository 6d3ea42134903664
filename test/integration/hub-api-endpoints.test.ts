import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { LeaseKeeper } from '../../src/hub/catalogue/lease-keeper.ts';
import { packEpStatusReport } from '../../src/protocol/messages.ts';
import type { EndpointRegistered } from '../../src/protocol/rest.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import { eventually } from '../support/eventually.ts';
import { assertRefused, registerEndpoint, registerFunction, TestHub } from './hub-api-support.ts';
import type { Json, Person } from './hub-api-support.ts';

const HOLDER = { host: 'login1', boot_id: 'b1', pid: 10, start_ticks: 100 };
const ELSEWHERE = { host: 'login2', boot_id: 'b2', pid: 20, start_ticks: 200 };

describe('endpoints at the hub', () => {
  let hub: TestHub;
  let owner: Person;
  let stranger: Person;
  before(async () => {
    hub = await TestHub.start();
    owner = await hub.person();
    stranger = await hub.person();
  });
  after(async () => {
    await hub.stop();
  });

  async function expireLease(id: string): Promise<void> {
    await hub.db
      .updateTable('endpoints')
      .set({ lease_expires_at: new Date(Date.now() - 1000) })
      .where('id', '=', id)
      .execute();
  }

  async function put(id: string, body: Json, person = owner) {
    return await person.call('PUT', `/v3/endpoints/${id}`, { endpoint_name: 'default', ...body });
  }

  /** Sends a heartbeat the way an endpoint does. */
  async function heartbeat(endpoint: EndpointRegistered, state: Json): Promise<void> {
    const info = endpoint.heartbeat_queue_info;
    const connection = await dialAmqp({ url: info.connection_url, connectionName: 'test' });
    try {
      const publisher = await connection.openPublisher();
      const { exchange, routing_key: key } = info.queue_publish_kwargs;
      const report = {
        endpoint_id: endpoint.endpoint_id,
        global_state: state,
        task_statuses: {},
      };
      await publisher.publish(exchange, key, packEpStatusReport(report), { mandatory: true });
    } finally {
      await connection.close();
    }
  }

  describe('registration', () => {
    it('answers with all four queue infos', async () => {
      const endpoint = await registerEndpoint(owner, { metadata: { hostname: 'h' } });
      const id = endpoint.endpoint_id;
      assert.match(endpoint.task_queue_info.queue, new RegExp(`^${id}\\.[0-9a-f]{24}\\.tasks$`));
      assert.equal(endpoint.task_queue_info.exchange, 'tasks');
      assert.match(endpoint.command_queue_info.queue, new RegExp(`^${id}\\..*\\.commands$`));
      for (const exchange of ['results', 'heartbeats'] as const) {
        const info =
          exchange === 'results' ? endpoint.result_queue_info : endpoint.heartbeat_queue_info;
        assert.equal(info.queue, exchange);
        assert.deepEqual(info.queue_publish_kwargs, {
          exchange,
          routing_key: `${id}.${exchange}`,
          mandatory: true,
          properties: { delivery_mode: 2 },
        });
      }
      assert.match(endpoint.task_queue_info.connection_url, /^amqp:\/\/[^:]+:[^@]+@[^/]+:\d+\//);
      assert.deepEqual(endpoint.warnings, []);
    });

    it('keeps the id and the queues of an endpoint that registers again', async () => {
      const first = await registerEndpoint(owner);
      const { status, body } = await put(first.endpoint_id, {});
      assert.equal(status, 200);
      const again = body as unknown as EndpointRegistered;
      assert.equal(again.endpoint_id, first.endpoint_id);
      assert.equal(again.task_queue_info.queue, first.task_queue_info.queue);
      assert.notEqual(again.task_queue_info.connection_url, first.task_queue_info.connection_url);
    });

    it('gives credentials that work, and takes the older ones away', async () => {
      const first = await registerEndpoint(owner);
      const dial = async (endpoint: EndpointRegistered) =>
        await dialAmqp({
          url: endpoint.task_queue_info.connection_url,
          connectionName: 'test',
        });
      const connection = await dial(first);
      const { body } = await put(first.endpoint_id, {});
      assert.equal((await connection.closed).kind !== 'local', true);
      await assert.rejects(dial(first));
      await (await dial(body as unknown as EndpointRegistered)).close();
    });

    it('refuses ids that nobody has and that somebody else has', async () => {
      const { endpoint_id: id } = await registerEndpoint(owner);
      assertRefused(await put(crypto.randomUUID(), {}), 404, 'ENDPOINT_NOT_FOUND');
      assertRefused(await put(id, {}, stranger), 403, 'ENDPOINT_ALREADY_REGISTERED');
      assertRefused(await put('nonsense', {}), 400, 'INVALID_UUID');
    });

    it('takes an id of the endpoint’s choosing on v2', async () => {
      const id = crypto.randomUUID();
      const body = { endpoint_name: 'old', endpoint_uuid: id };
      const first = await owner.call('POST', '/v2/endpoints', body);
      assert.equal(first.body['endpoint_id'], id);
      assert.equal((await owner.call('POST', '/v2/endpoints', body)).status, 200);
      assertRefused(
        await stranger.call('POST', '/v2/endpoints', body),
        403,
        'ENDPOINT_ALREADY_REGISTERED',
      );
    });

    it('changes single fields without a name, and touches no lease', async () => {
      const { endpoint_id: id } = await registerEndpoint(owner, { lease: { holder: HOLDER } });
      const changed = await owner.call('PUT', `/v3/endpoints/${id}`, { display_name: 'Nice' });
      assert.equal(changed.status, 200);
      const { body } = await owner.call('GET', `/v2/endpoints/${id}`);
      assert.equal(body['display_name'], 'Nice');
      assert.equal(body['name'], 'default');
      const again = await put(id, { lease: { holder: HOLDER, previous_epoch: 1 } });
      assert.deepEqual(again.body['lease'], { epoch: 2, ttl_ms: 90_000 });
    });
  });

  describe('lease', () => {
    it('is granted to one at a time', async () => {
      const endpoint = await registerEndpoint(owner, { lease: { holder: HOLDER } });
      assert.deepEqual(endpoint.lease, { epoch: 1, ttl_ms: 90_000 });
      assertRefused(
        await put(endpoint.endpoint_id, { lease: { holder: ELSEWHERE, previous_epoch: 1 } }),
        409,
        'RESOURCE_CONFLICT',
        /^endpoint default is held by login1 \(pid 10\) since \d{4}-.*; stop it there, or start with --takeover$/,
      );
    });

    it('goes to exactly one of many that ask at the same time', async () => {
      const { endpoint_id: id } = await registerEndpoint(owner, { lease: { holder: HOLDER } });
      await expireLease(id);
      const answers = await Promise.all(
        [1, 2, 3, 4, 5].map(
          async (pid) => await put(id, { lease: { holder: { ...ELSEWHERE, pid } } }),
        ),
      );
      assert.deepEqual(answers.map((answer) => answer.status).sort(), [200, 409, 409, 409, 409]);
    });

    it('follows at once on the same host, and after it has expired anywhere', async () => {
      const { endpoint_id: id } = await registerEndpoint(owner, { lease: { holder: HOLDER } });
      const successor = { ...HOLDER, pid: 11, start_ticks: 300 };
      const followed = await put(id, { lease: { holder: successor, previous_epoch: 1 } });
      assert.deepEqual(followed.body['lease'], { epoch: 2, ttl_ms: 90_000 });
      await expireLease(id);
      const moved = await put(id, { lease: { holder: ELSEWHERE } });
      assert.deepEqual(moved.body['lease'], { epoch: 3, ttl_ms: 90_000 });
    });

    it('is taken over with the connections of the old holder closed', async () => {
      const first = await registerEndpoint(owner, { lease: { holder: HOLDER } });
      const old = await dialAmqp({
        url: first.task_queue_info.connection_url,
        connectionName: 'test',
      });
      const taken = await put(first.endpoint_id, { lease: { holder: ELSEWHERE, takeover: true } });
      assert.equal(taken.status, 200);
      assert.notEqual((await old.closed).kind, 'local');
    });

    it('is taken over again and again without cutting off those who still owe results, of whom some are kept', async () => {
      const first = await registerEndpoint(owner, { lease: { holder: HOLDER } });
      const id = first.endpoint_id;
      const takeOver = async (pid: number): Promise<void> => {
        const taken = await put(id, { lease: { holder: { ...ELSEWHERE, pid }, takeover: true } });
        assert.equal(taken.status, 200, JSON.stringify(taken.body));
      };
      await takeOver(1);
      const owing = await dialAmqp({
        url: first.result_queue_info.connection_url,
        connectionName: 'test',
      });
      let isClosed = false;
      owing.closed.then(
        () => {
          isClosed = true;
        },
        () => undefined,
      );
      await takeOver(2);
      const publisher = await owing.openPublisher();
      assert.equal(isClosed, false);
      for (let pid = 3; pid <= 18; pid += 1) {
        await takeOver(pid);
      }
      await assert.rejects(
        publisher.publish('results', `${id}.results`, Buffer.from('{}'), { mandatory: true }),
      );
      const { numberOfRows } = await hub.db
        .selectFrom('fenced_leases')
        .select((eb) => eb.fn.countAll<string>().as('numberOfRows'))
        .where('endpoint_id', '=', id)
        .executeTakeFirstOrThrow();
      assert.equal(Number(numberOfRows), 16);
      await owing.close();
    });

    it('is not taken from a known holder by an endpoint that knows no leases', async () => {
      const { endpoint_id: id } = await registerEndpoint(owner, { lease: { holder: HOLDER } });
      assertRefused(await put(id, {}), 409, 'RESOURCE_CONFLICT');
    });

    it('is free again once released, by its own epoch only', async () => {
      const { endpoint_id: id } = await registerEndpoint(owner, { lease: { holder: HOLDER } });
      const release = async (epoch: number) =>
        (await owner.call('POST', `/v1/endpoints/${id}/lease/release`, { epoch })).body;
      assert.deepEqual(await release(7), { endpoint_id: id, released: false });
      assert.equal((await put(id, { lease: { holder: ELSEWHERE } })).status, 409);
      assert.deepEqual(await release(1), { endpoint_id: id, released: true });
      const row = await hub.db
        .selectFrom('endpoints')
        .select(['lease_holder', 'lease_expires_at'])
        .where('id', '=', id)
        .executeTakeFirstOrThrow();
      assert.equal(row.lease_expires_at, null);
      assert.notEqual(row.lease_holder, null);
      assert.equal((await put(id, { lease: { holder: ELSEWHERE } })).status, 200);
    });

    it('is not lost by a time in which no hub was there', async () => {
      const endpoint = await registerEndpoint(owner, { lease: { holder: HOLDER } });
      const id = endpoint.endpoint_id;
      await heartbeat(endpoint, { heartbeat_period: 30, active: true });
      await eventually(async () => {
        const { body } = await owner.call('GET', `/v2/endpoints/${id}/status`);
        assert.equal(body['status'], 'online');
      });
      await hub.db
        .updateTable('hub_liveness')
        .set({ alive_at: new Date(Date.now() - 600_000) })
        .execute();
      await expireLease(id);
      const keeper = new LeaseKeeper(hub.db, systemClock, silentLogger);
      await keeper.start();
      keeper.stop();
      assert.equal((await put(id, { lease: { holder: ELSEWHERE } })).status, 409);
    });
  });

  describe('status', () => {
    it('is online from the first heartbeat to the one that says that it stops', async () => {
      const endpoint = await registerEndpoint(owner);
      const status = async () =>
        (await owner.call('GET', `/v2/endpoints/${endpoint.endpoint_id}/status`)).body;
      assert.deepEqual(await status(), { status: 'offline' });
      await heartbeat(endpoint, {
        heartbeat_period: 1,
        active: true,
        total_workers: 4,
        idle_workers: 3,
        pending_tasks: 2,
        outstanding_tasks: 1,
        engine_type: 'x',
      });
      await eventually(async () => {
        assert.deepEqual(await status(), {
          status: 'online',
          details: { total_workers: 4, idle_workers: 3, pending_tasks: 2, outstanding_tasks: 1 },
        });
      });
      await heartbeat(endpoint, { heartbeat_period: 1, active: false });
      await eventually(async () => {
        assert.equal((await status())['status'], 'offline');
      });
    });

    it('is offline when heartbeats have stopped coming', async () => {
      const endpoint = await registerEndpoint(owner);
      const id = endpoint.endpoint_id;
      await heartbeat(endpoint, { heartbeat_period: 1, active: true });
      const status = async () =>
        (await owner.call('GET', `/v2/endpoints/${id}/status`)).body['status'];
      await eventually(async () => {
        assert.equal(await status(), 'online');
      });
      await hub.db
        .updateTable('endpoints')
        .set({ last_heartbeat_at: new Date(Date.now() - 6000) })
        .where('id', '=', id)
        .execute();
      assert.equal(await status(), 'offline');
    });
  });

  it('are listed for their owner, and with role any also the public ones', async () => {
    const lister = await hub.person();
    const own = await registerEndpoint(lister, { endpoint_name: 'own', display_name: 'My own' });
    const open = await registerEndpoint(owner, { endpoint_name: 'open', public: true });
    const ids = async (query: string) => {
      const { body } = await lister.call('GET', `/v2/endpoints${query}`);
      return (body as unknown as Json[]).map((endpoint) => endpoint['uuid']);
    };
    assert.deepEqual(await ids(''), [own.endpoint_id]);
    assert.deepEqual(await ids('?role=owner'), [own.endpoint_id]);
    assert.ok((await ids('?role=any')).includes(open.endpoint_id));
    assertRefused(await lister.call('GET', '/v2/endpoints?role=king'), 422, 'SEMANTICALLY_INVALID');
  });

  it('show their configuration to their owner only', async () => {
    const { endpoint_id: id } = await registerEndpoint(owner, {
      public: true,
      metadata: { hostname: 'login1', endpoint_config: 'secret: 1', local_user: 'ada' },
    });
    const mine = (await owner.call('GET', `/v2/endpoints/${id}`)).body;
    assert.equal(mine['endpoint_config'], 'secret: 1');
    const theirs = (await stranger.call('GET', `/v2/endpoints/${id}`)).body;
    assert.equal(theirs['hostname'], 'login1');
    assert.ok(!('endpoint_config' in theirs) && !('local_user' in theirs));
  });

  it('tell which functions they allow', async () => {
    const allowed = await registerFunction(owner);
    const { endpoint_id: closed } = await registerEndpoint(owner, { allowed_functions: [allowed] });
    const { endpoint_id: open } = await registerEndpoint(owner);
    const read = async (id: string) =>
      (await owner.call('GET', `/v3/endpoints/${id}/allowed_functions`)).body;
    assert.deepEqual(await read(closed), {
      endpoint_id: closed,
      restricted: true,
      functions: [allowed],
    });
    assert.deepEqual(await read(open), { endpoint_id: open, restricted: false });
  });

  it('allow as many functions as a submission can be checked against, however they are added', async () => {
    const { endpoint_id: id } = await registerEndpoint(owner);
    const add = async (count: number) => {
      const func = Array.from({ length: count }, () => randomUUID());
      return await owner.call('POST', `/v2/endpoints/${id}/whitelist`, { func });
    };
    assert.equal((await add(9_999)).status, 200);
    assertRefused(await add(2), 422, 'SEMANTICALLY_INVALID', /10001 functions, and 10000/);
    assert.equal((await add(1)).status, 200);
  });

  it('are nobody else’s business', async () => {
    const { endpoint_id: id } = await registerEndpoint(owner);
    for (const [method, path] of [
      ['GET', `/v2/endpoints/${id}`],
      ['GET', `/v2/endpoints/${id}/status`],
      ['GET', `/v3/endpoints/${id}/allowed_functions`],
      ['POST', `/v3/endpoints/${id}/lock`],
      ['DELETE', `/v2/endpoints/${id}`],
    ] as const) {
      assertRefused(await stranger.call(method, path), 403, 'ENDPOINT_ACCESS_FORBIDDEN');
    }
    assertRefused(
      await stranger.call('POST', `/v1/endpoints/${id}/lease/release`, { epoch: 1 }),
      403,
      'ENDPOINT_ACCESS_FORBIDDEN',
    );
  });

  it('lose their credentials when locked, and register again after the lock', async () => {
    const endpoint = await registerEndpoint(owner, { lease: { holder: HOLDER } });
    const id = endpoint.endpoint_id;
    const connection = await dialAmqp({
      url: endpoint.task_queue_info.connection_url,
      connectionName: 'test',
    });
    const locked = await owner.call('POST', `/v3/endpoints/${id}/lock`);
    const until = locked.body['lock_expiration_timestamp'] as number;
    assert.ok(until > Date.now() / 1000 && until < Date.now() / 1000 + 120);
    assert.notEqual((await connection.closed).kind, 'local');
    const registration = { lease: { holder: HOLDER, previous_epoch: 1 } };
    assertRefused(await put(id, registration), 423, 'RESOURCE_LOCKED');
    await hub.db
      .updateTable('endpoints')
      .set({ locked_until: new Date(Date.now() - 1) })
      .where('id', '=', id)
      .execute();
    assert.equal((await put(id, registration)).status, 200);
    const { body } = await owner.call('POST', `/v2/endpoints/${id}/lock`);
    assert.ok(!Number.isNaN(Date.parse(String(body['lock_expiration_timestamp']))));
  });

  it('are gone once deleted, with their credentials', async () => {
    const endpoint = await registerEndpoint(owner);
    const id = endpoint.endpoint_id;
    assert.deepEqual((await owner.call('DELETE', `/v2/endpoints/${id}`)).body, { result: 302 });
    for (const [method, path] of [
      ['GET', `/v2/endpoints/${id}`],
      ['GET', `/v2/endpoints/${id}/status`],
    ] as const) {
      assertRefused(await owner.call(method, path), 404, 'ENDPOINT_NOT_FOUND');
    }
    // Again by its owner only, since the first one may have broken off half-way.
    const again = `/v3/endpoints/${id}`;
    assert.deepEqual((await owner.call('DELETE', again)).body, { result: 302 });
    assertRefused(await stranger.call('DELETE', again), 404, 'ENDPOINT_NOT_FOUND');
    assertRefused(await put(id, {}), 404, 'ENDPOINT_NOT_FOUND');
    await assert.rejects(
      dialAmqp({ url: endpoint.task_queue_info.connection_url, connectionName: 'test' }),
    );
  });
});

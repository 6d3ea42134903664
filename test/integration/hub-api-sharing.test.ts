/** Who may use whose functions and endpoints: by group, by everybody, no longer; and what is written down about it. */
import assert from 'node:assert/strict';

import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { Logger } from '../../src/base/logger.ts';
import type { Caller } from '../../src/hub/auth/caller.ts';
import { EndpointCatalogue } from '../../src/hub/catalogue/endpoint-catalogue.ts';
import { FunctionCatalogue } from '../../src/hub/catalogue/function-catalogue.ts';
import { MEMBERSHIP_TTL_MS, Memberships } from '../../src/hub/groups/memberships.ts';
import { createAccessControl } from '../../src/hub/groups/sharing-services.ts';
import { assertRefused, registerEndpoint, registerFunction, TestHub } from './hub-api-support.ts';
import type { Answer, Json, Person } from './hub-api-support.ts';

const PAYLOAD = '11\n[]';
const HOLDER = { host: 'login1', boot_id: 'b', pid: 7, start_ticks: 1 };

/** Time for what only asks for it. */
function turnedClock(): Clock & { advance: (ms: number) => void } {
  let nowMs = 0;
  return {
    ...systemClock,
    monotonicMs: () => nowMs,
    advance: (ms) => {
      nowMs += ms;
    },
  };
}

describe('sharing at the hub', () => {
  let hub: TestHub;
  let owner: Person;
  let member: Person;
  let stranger: Person;
  let group: string;
  const audited: Json[] = [];

  before(async () => {
    const note = (fields: object, message: string): void => {
      if ('audit' in fields) {
        audited.push({ ...fields, message });
      }
    };
    const logger: Logger = { ...silentLogger, info: note, warn: note, child: () => logger };
    hub = await TestHub.start({}, logger);
    [owner, member, stranger] = [await hub.person(), await hub.person(), await hub.person()];
    const made = await owner.call('POST', '/v2/groups', { name: 'lab' });
    group = String(made.body['id']);
    await act({ add: [{ identity_id: member.id }] });
  });
  after(async () => {
    await hub.stop();
  });

  async function act(actions: Json): Promise<void> {
    const { status, body } = await owner.call('POST', `/v2/groups/${group}`, actions);
    assert.ok(status === 200 && !('errors' in body), JSON.stringify(body));
  }

  async function submit(person: Person, endpoint: string, fn: string): Promise<Answer> {
    return await person.call('POST', `/v3/endpoints/${endpoint}/submit`, {
      tasks: { [fn]: [PAYLOAD] },
    });
  }

  async function share(kind: string, id: string, body: Json, action = 'share'): Promise<Answer> {
    return await owner.call('POST', `/v1/${kind}/${id}/${action}`, body);
  }

  it('lets the members of its group run a function, and nobody else', async () => {
    const fn = await registerFunction(owner, { group });
    const own = (await registerEndpoint(member)).endpoint_id;
    assert.equal((await submit(member, own, fn)).status, 200);
    assert.equal((await member.call('GET', `/v2/functions/${fn}`)).status, 200);
    const theirs = (await registerEndpoint(stranger)).endpoint_id;
    assertRefused(await submit(stranger, theirs, fn), 403, 'FUNCTION_ACCESS_FORBIDDEN', /"lab"/);
    assertRefused(
      await stranger.call('GET', `/v2/functions/${fn}`),
      403,
      'FUNCTION_ACCESS_FORBIDDEN',
    );
    assertRefused(
      await member.call('DELETE', `/v2/functions/${fn}`),
      403,
      'FUNCTION_ACCESS_FORBIDDEN',
      /only its owner/,
    );
  });

  it('ends for who leaves the group, and begins at once for who joins it', async () => {
    const fn = await registerFunction(owner, { group });
    const newcomer = await hub.person();
    const endpoint = (await registerEndpoint(newcomer)).endpoint_id;
    assertRefused(await submit(newcomer, endpoint, fn), 403, 'FUNCTION_ACCESS_FORBIDDEN');
    // Not through the hub: another hub process, or the command line.
    await hub.db
      .insertInto('group_members')
      .values({ group_id: group, identity_id: newcomer.id, role: 'member' })
      .execute();
    assert.equal((await submit(newcomer, endpoint, fn)).status, 200);
    await act({ remove: [{ identity_id: newcomer.id }] });
    assertRefused(await submit(newcomer, endpoint, fn), 403, 'FUNCTION_ACCESS_FORBIDDEN');
  });

  it('costs a submission one look at the groups, however many functions are shared', async () => {
    const ids = await Promise.all(
      Array.from({ length: 10 }, async () => await registerFunction(owner, { group })),
    );
    const { db, queries } = countedDatabase();
    const access = createAccessControl(db, systemClock);
    const functions = new FunctionCatalogue(db, systemClock, 64 * 1024, access);
    assert.equal((await functions.callable(asMember(), ids)).size, ids.length);
    assert.equal(queries(), 2);
  });

  it('looks functions, endpoints and groups up once for a while', async () => {
    const fn = await registerFunction(owner, { group });
    const metadata = { isolation: 'unit' };
    const registered = await registerEndpoint(owner, { metadata, lease: { holder: HOLDER } });
    const endpoint = registered.endpoint_id;
    assert.equal((await share('endpoints', endpoint, { group })).status, 200);
    const { db, queries } = countedDatabase();
    const clock = turnedClock();
    const access = createAccessControl(db, clock);
    const functions = new FunctionCatalogue(db, clock, 64 * 1024, access);
    const endpoints = new EndpointCatalogue(db, clock, access);
    const look = async (): Promise<number> => {
      const before = queries();
      assert.equal((await endpoints.usable(asMember(), endpoint)).id, endpoint);
      assert.ok((await functions.callable(asMember(), [fn])).has(fn));
      return queries() - before;
    };
    assert.equal(await look(), 3, 'the endpoint, the groups, the function');
    assert.equal(await look(), 0);
    clock.advance(MEMBERSHIP_TTL_MS);
    assert.equal(await look(), 3);
  });

  function asMember(): Caller {
    const caller: unknown = { id: member.id, tokenKey: 'x', issuer: null, groupsFromClaim: [] };
    return caller as Caller;
  }

  /** The database, and how often it was asked through this. */
  function countedDatabase(): { db: TestHub['db']; queries: () => number } {
    let count = 0;
    const db = hub.db.withPlugin({
      transformQuery: ({ node }) => {
        count += 1;
        return node;
      },
      transformResult: async ({ result }) => await Promise.resolve(result),
    });
    return { db, queries: () => count };
  }

  it('remembers a membership for half a minute, and for one token', async () => {
    const clock = turnedClock();
    const memberships = new Memberships(hub.db, clock);
    const person = await hub.person();
    const caller: Pick<Caller, 'id' | 'tokenKey' | 'issuer' | 'groupsFromClaim'> = {
      id: person.id,
      tokenKey: 'first login',
      issuer: null,
      groupsFromClaim: [],
    };
    const isMember = async (who = caller) => (await memberships.of(who)).has(group);
    await act({ add: [{ identity_id: person.id }] });
    assert.ok(await isMember());
    await act({ remove: [{ identity_id: person.id }] });
    clock.advance(MEMBERSHIP_TTL_MS - 1);
    assert.ok(await isMember(), 'remembered');
    assert.ok(!(await isMember({ ...caller, tokenKey: 'second login' })), 'a new login asks anew');
    clock.advance(1);
    assert.ok(!(await isMember()), 'no longer');
  });

  it('takes groups from the tokens of an issuer whose group a group stands for', async () => {
    const memberships = new Memberships(hub.db, turnedClock());
    const foreign = await hub.db
      .insertInto('groups')
      .values({
        id: crypto.randomUUID(),
        name: 'physics',
        description: null,
        created_by: null,
        claim_issuer: 'https://uni.example',
        claim_name: '/physics',
      })
      .returning('id')
      .executeTakeFirstOrThrow();
    const of = async (issuer: string | null, ...groupsFromClaim: string[]) => [
      ...(await memberships.of({
        id: stranger.id,
        tokenKey: crypto.randomUUID(),
        issuer,
        groupsFromClaim,
      })),
    ];
    assert.deepEqual(await of('https://uni.example', '/physics', '/chess'), [foreign.id]);
    assert.deepEqual(await of('https://uni.example', '/chess'), []);
    assert.deepEqual(await of('https://other.example', '/physics'), []);
    assert.deepEqual(await of(null, '/physics'), []);
  });

  it('is done only with groups that the owner is in', async () => {
    const foreign = String((await stranger.call('POST', '/v2/groups', { name: 'x' })).body['id']);
    const fn = await registerFunction(owner);
    for (const id of [foreign, crypto.randomUUID()]) {
      assertRefused(
        await owner.call('POST', '/v3/functions', {
          function_name: 'f',
          function_code: '5\nst\nf:',
          group: id,
        }),
        404,
        'AUTH_GROUP_NOT_FOUND',
      );
      assertRefused(await share('functions', fn, { group: id }), 404, 'AUTH_GROUP_NOT_FOUND');
    }
    assertRefused(
      await member.call('POST', `/v1/functions/${fn}/share`, { group }),
      403,
      'FUNCTION_ACCESS_FORBIDDEN',
    );
    assertRefused(await share('functions', fn, {}), 422, 'SEMANTICALLY_INVALID');
  });

  it('can be begun and ended after the registration, and is shown to the owner only', async () => {
    const fn = await registerFunction(owner);
    const endpoint = (await registerEndpoint(member)).endpoint_id;
    assertRefused(await submit(member, endpoint, fn), 403, 'FUNCTION_ACCESS_FORBIDDEN', /nobody/);
    const shared = await share('functions', fn, { groups: [group], public: true });
    assert.deepEqual(shared.body, {
      id: fn,
      owner: owner.id,
      public: true,
      groups: [{ id: group, name: 'lab' }],
    });
    assert.deepEqual((await owner.call('GET', `/v1/functions/${fn}/sharing`)).body, shared.body);
    assert.equal((await submit(member, endpoint, fn)).status, 200);
    assertRefused(
      await member.call('GET', `/v1/functions/${fn}/sharing`),
      403,
      'FUNCTION_ACCESS_FORBIDDEN',
    );
    const seen = (await member.call('GET', `/v2/functions/${fn}`)).body;
    assert.ok(!('groups' in seen) && seen['public'] === true);
    await share('functions', fn, { public: true }, 'unshare');
    assert.equal((await submit(member, endpoint, fn)).status, 200, 'still shared with the group');
    await share('functions', fn, { group }, 'unshare');
    assertRefused(await submit(member, endpoint, fn), 403, 'FUNCTION_ACCESS_FORBIDDEN');
  });

  it('ends with the group', async () => {
    const second = String((await owner.call('POST', '/v2/groups', { name: 'short' })).body['id']);
    await owner.call('POST', `/v2/groups/${second}`, { add: [{ identity_id: member.id }] });
    const fn = await registerFunction(owner, { group: second });
    const endpoint = (await registerEndpoint(member)).endpoint_id;
    assert.equal((await submit(member, endpoint, fn)).status, 200);
    assert.equal((await owner.call('DELETE', `/v2/groups/${second}`)).status, 200);
    assertRefused(await submit(member, endpoint, fn), 403, 'FUNCTION_ACCESS_FORBIDDEN');
    assert.deepEqual((await owner.call('GET', `/v1/functions/${fn}/sharing`)).body['groups'], []);
  });

  it('lets the members of its group use an endpoint, listed with role any', async () => {
    const metadata = { isolation: 'unit' };
    const registered = await registerEndpoint(owner, { metadata, lease: { holder: HOLDER } });
    const id = registered.endpoint_id;
    const fn = await registerFunction(member);
    const refused = await submit(member, id, fn);
    assertRefused(refused, 403, 'ENDPOINT_ACCESS_FORBIDDEN');
    // Who asks, whose it is, and whom to ask.
    const detail = String(refused.body['detail']);
    for (const part of [member.id, owner.id, 'ask', id]) {
      assert.ok(detail.includes(part), detail);
    }
    assert.equal((await share('endpoints', id, { group })).status, 200);
    assert.equal((await submit(member, id, fn)).status, 200);
    assert.equal((await member.call('GET', `/v2/endpoints/${id}/status`)).status, 200);
    const listed = async (person: Person, role: string) => {
      const { body } = await person.call('GET', `/v2/endpoints?role=${role}`);
      return (body as unknown as Json[]).some((endpoint) => endpoint['uuid'] === id);
    };
    assert.ok(await listed(member, 'any'));
    assert.ok(!(await listed(member, 'owner')) && !(await listed(stranger, 'any')));
    // Who registers again says nothing about sharing, and does not end it.
    const again = await owner.call('PUT', `/v3/endpoints/${id}`, {
      endpoint_name: 'default',
      metadata,
      lease: { holder: HOLDER, previous_epoch: 1 },
    });
    assert.equal(again.status, 200);
    assert.equal((await submit(member, id, fn)).status, 200);
    assertRefused(
      await member.call('POST', `/v3/endpoints/${id}/lock`),
      403,
      'ENDPOINT_ACCESS_FORBIDDEN',
      /only its owner/,
    );
  });

  it('shows the owner of an endpoint whose tasks are on it, and not what is in them', async () => {
    const { endpoint_id: id } = await registerEndpoint(owner, { public: true });
    const fn = await registerFunction(stranger);
    const submitted = await submit(stranger, id, fn);
    const [taskId] = (submitted.body['tasks'] as Record<string, string[]>)[fn] ?? [];
    const { body } = await owner.call('GET', `/v1/endpoints/${id}/tasks?limit=5`);
    const [task = {}] = body['tasks'] as Json[];
    assert.equal(task['task_id'], taskId);
    assert.equal(task['owner'], stranger.id);
    assert.equal(task['function_uuid'], fn);
    assert.deepEqual(Object.keys(task).sort(), [
      'created_at',
      'function_uuid',
      'owner',
      'received_at',
      'started_at',
      'status',
      'task_id',
    ]);
    assertRefused(await owner.call('GET', `/v2/tasks/${String(taskId)}`), 404, 'TASK_NOT_FOUND');
    assertRefused(
      await stranger.call('GET', `/v1/endpoints/${id}/tasks`),
      403,
      'ENDPOINT_ACCESS_FORBIDDEN',
    );
  });

  describe('of an endpoint whose agent runs functions as its own user', () => {
    async function register(metadata: Json, more: Json = {}, id?: string): Promise<Answer> {
      const body = { endpoint_name: 'default', metadata, lease: { holder: HOLDER }, ...more };
      return id === undefined
        ? await owner.call('POST', '/v3/endpoints', body)
        : await owner.call('PUT', `/v3/endpoints/${id}`, {
            ...body,
            lease: { holder: HOLDER, takeover: true },
          });
    }

    it('is refused, whether the agent says so or says nothing', async () => {
      for (const metadata of [{ isolation: 'user' }, {}]) {
        const id = String((await register(metadata)).body['endpoint_id']);
        for (const body of [{ group }, { public: true }]) {
          assertRefused(
            await share('endpoints', id, body),
            409,
            'ENDPOINT_NOT_ISOLATED',
            /share_without_isolation: true/,
          );
        }
        assertRefused(
          await owner.call('PUT', `/v3/endpoints/${id}`, { public: true }),
          409,
          'ENDPOINT_NOT_ISOLATED',
        );
        assertRefused(await register(metadata, { public: true }, id), 409, 'ENDPOINT_NOT_ISOLATED');
        const { body: seen } = await owner.call('GET', `/v2/endpoints/${id}`);
        assert.ok(seen['public'] === false && seen['may_be_shared'] === false);
      }
    });

    it('is allowed once its operator says so', async () => {
      const metadata = { isolation: 'user', share_without_isolation: true };
      const id = String((await register(metadata)).body['endpoint_id']);
      assert.equal((await share('endpoints', id, { group })).status, 200);
      // Somebody who changes the description does not take the operator's word back.
      await owner.call('PUT', `/v3/endpoints/${id}`, { metadata: { description: 'x' } });
      assert.equal((await submit(member, id, await registerFunction(member))).status, 200);
    });

    it('is suspended when an agent that kept it apart no longer does', async () => {
      const id = String((await register({ isolation: 'sandbox' })).body['endpoint_id']);
      await share('endpoints', id, { group, public: true });
      const fn = await registerFunction(member);
      assert.equal((await submit(member, id, fn)).status, 200);
      const again = await register({ isolation: 'user' }, {}, id);
      assert.match(String(again.body['warnings']), /suspended/);
      assertRefused(
        await submit(member, id, fn),
        403,
        'ENDPOINT_ACCESS_FORBIDDEN',
        /suspended.*share_without_isolation/,
      );
      assert.equal((await submit(owner, id, await registerFunction(owner))).status, 200);
      await register({ isolation: 'sandbox' }, {}, id);
      assert.equal((await submit(member, id, fn)).status, 200);
    });
  });

  it('leaves a line for every change and every submission that was refused', async () => {
    audited.length = 0;
    const fn = await registerFunction(owner, { group });
    await share('functions', fn, { public: true });
    await share('functions', fn, { public: true, group }, 'unshare');
    const endpoint = (await registerEndpoint(stranger)).endpoint_id;
    await submit(stranger, endpoint, fn);
    assert.deepEqual(
      audited.map((line) => [line['message'], line['callerId'], line['isPublic'] ?? line['code']]),
      [
        ['sharing changed', owner.id, false],
        ['sharing changed', owner.id, true],
        ['sharing changed', owner.id, false],
        ['submission refused', stranger.id, 'FUNCTION_ACCESS_FORBIDDEN'],
      ],
    );
  });
});

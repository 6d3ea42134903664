/** `hub group` as an operator runs it, on the database of a hub that runs. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';

import { runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';
import { registerEndpoint, registerFunction, TestHub } from './hub-api-support.ts';
import type { Json, Person } from './hub-api-support.ts';

const HUB = fileURLToPath(new URL('../../src/cli/hub.js', import.meta.url));

describe('the hub group command', function () {
  this.timeout(240_000);
  let hub: TestHub;
  let owner: Person;
  let member: Person;
  before(async () => {
    hub = await TestHub.start();
    [owner, member] = [await hub.person(), await hub.person()];
  });
  after(async () => {
    await hub.stop();
  });

  async function run(...args: string[]): Promise<CommandOutcome> {
    return await runProgram(process.execPath, [HUB, 'group', ...args], {
      env: {
        PATH: process.env['PATH'] ?? '',
        OUTPOST_DATABASE_URL: hub.settings.databaseUrl,
      },
    });
  }

  async function json(...args: string[]): Promise<Json> {
    const outcome = await run(...args, '--json');
    assert.equal(outcome.code, 0, outcome.stderr);
    return JSON.parse(outcome.stdout) as Json;
  }

  it('makes a group with an admin, who then shares with it', async () => {
    const created = await json('create', 'lab', '--admin', owner.id, '--description', 'beamline 7');
    const id = String(created['group_id']);
    await json('add', 'lab', member.id);
    const fn = await registerFunction(owner, { group: id });
    const { endpoint_id: endpoint } = await registerEndpoint(member);
    const submitted = await member.call('POST', `/v3/endpoints/${endpoint}/submit`, {
      tasks: { [fn]: ['11\n[]'] },
    });
    assert.equal(submitted.status, 200);
    const shown = await json('show', 'lab');
    assert.deepEqual(
      (shown['members'] as Json[]).map((each) => [each['identity_id'], each['role']]),
      [
        [owner.id, 'admin'],
        [member.id, 'member'],
      ],
    );
    assert.equal(shown['description'], 'beamline 7');
    assert.match((await run('show', id)).stdout, /client 1\s+admin/);
  });

  it('changes roles, takes names of clients, and removes whoever there is', async () => {
    const gone = await hub.createClient();
    const { group_id: id } = await json('create', 'crew');
    await json('add', 'crew', `client 1, client 2,${gone.id}`);
    const { role } = await json('add', 'crew', 'client 2', '--role', 'manager');
    assert.equal(role, 'manager');
    await hub.clients.delete(gone.id);
    const memberIds = async (): Promise<unknown[]> =>
      ((await json('show', 'crew'))['members'] as Json[]).map((each) => each['identity_id']);
    assert.ok(!(await memberIds()).includes(gone.id));
    // As an earlier version left them.
    await hub.db
      .insertInto('group_members')
      .values({ group_id: String(id), identity_id: gone.id, role: 'admin' })
      .execute();
    assert.ok((await memberIds()).includes(gone.id));
    await json('remove', 'crew', `${gone.id},client 1`);
    const { members } = await json('show', 'crew');
    assert.deepEqual(
      (members as Json[]).map((each) => [each['name'], each['role']]),
      [['client 2', 'manager']],
    );
    const refused = await run('remove', 'crew', 'client 1');
    assert.equal(refused.code, 69);
    assert.match(refused.stderr, /client 1: .*not a member/);
  });

  it('says what is wrong', async () => {
    for (const description of ['one', 'two']) {
      await hub.db
        .insertInto('groups')
        .values({ id: crypto.randomUUID(), name: 'twin', description, created_by: null })
        .execute();
    }
    const outcomes = [
      [['show', 'twin'], 69, /2 groups are called twin/],
      [['show', 'nothing'], 69, /hub group list/],
      [['add', 'lab', 'nobody'], 69, /nobody here is called nobody/],
      [['add', 'lab', crypto.randomUUID()], 69, /nobody at this hub/],
      [['create', 'x', '--claim', '/x'], 64, /--issuer/],
    ] as const;
    for (const [args, code, text] of outcomes) {
      const outcome = await run(...args);
      assert.equal(outcome.code, code, `${args.join(' ')}: ${outcome.stderr}`);
      assert.match(outcome.stderr, text);
    }
  });

  it('lets a group stand for one of an issuer, once', async () => {
    const claim = ['--issuer', 'https://idp.example', '--claim', '/physics'];
    const { claim: shown } = await json('create', 'physics', ...claim);
    assert.deepEqual(shown, { issuer: 'https://idp.example', name: '/physics' });
    const again = await run('create', 'other', ...claim);
    assert.equal(again.code, 69);
    assert.match(again.stderr, /stands for \/physics/);
    const { groups } = await json('list');
    assert.deepEqual(
      (groups as Json[]).find((each) => each['name'] === 'physics')?.['claim'],
      shown,
    );
    const { deleted } = await json('delete', 'physics');
    assert.equal(deleted, true);
  });
});

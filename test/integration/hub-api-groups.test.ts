/** Groups over HTTP: who sees them, who may change what, and that the original client of Globus Groups understands us. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { systemClock } from '../../src/base/clock.ts';
import type { Caller } from '../../src/hub/auth/caller.ts';
import { GroupRegistry } from '../../src/hub/groups/group-registry.ts';
import { createAccessControl } from '../../src/hub/groups/sharing-services.ts';
import { GROUPS_SCOPE, VIEW_GROUPS_SCOPE } from '../../src/protocol/oauth.ts';
import { runProgram } from '../support/stack.ts';
import { assertRefused, TestHub } from './hub-api-support.ts';
import type { Answer, Json, Person } from './hub-api-support.ts';

const GROUPS_CLIENT = `
import json, os, sys
import globus_sdk
from globus_sdk import BatchMembershipActions, GroupsClient

me, friend, token, url = sys.argv[1:]
os.environ["GLOBUS_SDK_SERVICE_URL_GROUPS"] = url
groups = GroupsClient(authorizer=globus_sdk.AccessTokenAuthorizer(token))
made = groups.create_group({"name": "lab", "description": "people of the lab"})
group_id = made["id"]
actions = BatchMembershipActions().add_members([friend], role="manager").invite_members([me])
changed = groups.batch_membership_action(group_id, actions)
assert [m["role"] for m in changed["add"]] == ["manager"], changed.data
assert changed["errors"]["invite"][0]["identity_id"] == me, changed.data
assert [(g["id"], g["my_memberships"][0]["role"]) for g in groups.get_my_groups()] == [(group_id, "admin")]
assert list(groups.get_my_groups(statuses="invited")) == []
full = groups.get_group(group_id, include=["memberships", "allowed_actions", "policies"])
assert {m["identity_id"]: m["role"] for m in full["memberships"]} == {me: "admin", friend: "manager"}, full.data
assert groups.update_group(group_id, {"name": "laboratory"})["name"] == "laboratory"
assert groups.get_group_policies(group_id)["join_requests"] is False
groups.batch_membership_action(group_id, BatchMembershipActions().change_roles("admin", [friend]))
groups.batch_membership_action(group_id, BatchMembershipActions().leave([me]))
try:
    groups.get_group(group_id)
    raise SystemExit("still there")
except globus_sdk.GroupsAPIError as error:
    print(json.dumps([error.http_status, error.code]))
`;

describe('groups at the hub', function () {
  let hub: TestHub;
  let ada: Person;
  let grace: Person;
  let linus: Person;
  before(async () => {
    hub = await TestHub.start();
    [ada, grace, linus] = [await hub.person(), await hub.person(), await hub.person()];
  });
  after(async () => {
    await hub.stop();
  });

  async function makeGroup(person: Person, more: Json = {}): Promise<string> {
    const { status, body } = await person.call('POST', '/v2/groups', { name: 'lab', ...more });
    assert.equal(status, 200, JSON.stringify(body));
    return String(body['id']);
  }

  async function act(person: Person, group: string, actions: Json): Promise<Answer> {
    return await person.call('POST', `/v2/groups/${group}`, actions);
  }

  function refusalsOf({ body }: Answer): Record<string, { code: string }[]> {
    return (body['errors'] ?? {}) as Record<string, { code: string }[]>;
  }

  async function rolesIn(group: string): Promise<Record<string, string>> {
    const rows = await hub.db
      .selectFrom('group_members')
      .selectAll()
      .where('group_id', '=', group)
      .execute();
    return Object.fromEntries(rows.map((row) => [row.identity_id, row.role]));
  }

  it('are seen by their members only, and nobody else learns that they exist', async () => {
    const group = await makeGroup(ada, { description: 'first' });
    const { body } = await ada.call('GET', `/v2/groups/${group}?include=memberships`);
    assert.equal(body['description'], 'first');
    assert.deepEqual(
      (body['memberships'] as Json[]).map((member) => [member['identity_id'], member['role']]),
      [[ada.id, 'admin']],
    );
    for (const id of [group, crypto.randomUUID()]) {
      assertRefused(await grace.call('GET', `/v2/groups/${id}`), 404, 'AUTH_GROUP_NOT_FOUND');
      assertRefused(await act(grace, id, { add: [] }), 404, 'AUTH_GROUP_NOT_FOUND');
      assertRefused(await grace.call('DELETE', `/v2/groups/${id}`), 404, 'AUTH_GROUP_NOT_FOUND');
    }
    assert.deepEqual((await grace.call('GET', '/v2/groups/my_groups')).body, []);
  });

  it('let managers add and remove members, and only admins do more', async () => {
    const group = await makeGroup(ada);
    await act(ada, group, { add: [{ identity_id: grace.id, role: 'manager' }] });
    const added = await act(grace, group, { add: [{ identity_id: linus.id }] });
    assert.deepEqual(added.body, {
      add: [
        {
          group_id: group,
          identity_id: linus.id,
          username: `${linus.id}@clients.outpost`,
          role: 'member',
          status: 'active',
        },
      ],
    });
    const refused = await act(grace, group, {
      remove: [{ identity_id: ada.id }],
      change_role: [{ identity_id: grace.id, role: 'admin' }],
    });
    assert.equal(refusalsOf(refused)['remove']?.[0]?.code, 'GROUP_ACCESS_FORBIDDEN');
    assert.equal(refusalsOf(refused)['change_role']?.[0]?.code, 'GROUP_ACCESS_FORBIDDEN');
    for (const person of [grace, linus]) {
      assertRefused(
        await person.call('PUT', `/v2/groups/${group}`, { name: 'mine' }),
        403,
        'GROUP_ACCESS_FORBIDDEN',
        /only its admins/,
      );
      assertRefused(
        await person.call('DELETE', `/v2/groups/${group}`),
        403,
        'GROUP_ACCESS_FORBIDDEN',
      );
    }
    assert.equal(
      refusalsOf(await act(linus, group, { add: [{ identity_id: linus.id }] }))['add']?.[0]?.code,
      'GROUP_ACCESS_FORBIDDEN',
    );
    await act(grace, group, { remove: [{ identity_id: linus.id }] });
    assert.deepEqual(await rolesIn(group), { [ada.id]: 'admin', [grace.id]: 'manager' });
  });

  it('keep an admin', async () => {
    const group = await makeGroup(ada);
    for (const actions of [
      { leave: [{ identity_id: ada.id }] },
      { remove: [{ identity_id: ada.id }] },
      { change_role: [{ identity_id: ada.id, role: 'member' }] },
    ]) {
      const [[refusal] = []] = Object.values(refusalsOf(await act(ada, group, actions)));
      assert.equal(refusal?.code, 'RESOURCE_CONFLICT');
    }
    await act(ada, group, { add: [{ identity_id: grace.id, role: 'admin' }] });
    // At the same time: one of them comes first, and the other one stays.
    await Promise.all([
      act(ada, group, { leave: [{ identity_id: ada.id }] }),
      act(grace, group, { leave: [{ identity_id: grace.id }] }),
    ]);
    assert.deepEqual(Object.values(await rolesIn(group)), ['admin']);
  });

  it('lose a client with its deletion, so that the last admin is somebody who exists', async () => {
    const gone = await hub.createClient();
    const group = await makeGroup(ada);
    await act(ada, group, { add: [{ identity_id: gone.id, role: 'admin' }] });
    await hub.clients.delete(gone.id);
    assert.deepEqual(await rolesIn(group), { [ada.id]: 'admin' });
    const left = await act(ada, group, { leave: [{ identity_id: ada.id }] });
    assert.equal(refusalsOf(left)['leave']?.[0]?.code, 'RESOURCE_CONFLICT');
  });

  it('change a role only to one that was named', async () => {
    const group = await makeGroup(ada);
    await act(ada, group, { add: [{ identity_id: grace.id, role: 'manager' }] });
    const changed = await act(ada, group, { change_role: [{ identity_id: grace.id }] });
    assert.equal(refusalsOf(changed)['change_role']?.[0]?.code, 'SEMANTICALLY_INVALID');
    assert.equal((await rolesIn(group))[grace.id], 'manager');
  });

  it('are not found when they were deleted while somebody changed them', async () => {
    const { memberships } = createAccessControl(hub.db, systemClock);
    const registry = new GroupRegistry(hub.db, memberships);
    const caller = { id: ada.id, kind: 'client', name: 'ada' } as Caller;
    await assert.rejects(registry.update(caller, randomUUID(), { name: 'x' }), {
      code: 'AUTH_GROUP_NOT_FOUND',
    });
  });

  it('do what can be done of a batch and say why not of the rest', async () => {
    const group = await makeGroup(ada);
    const stranger = crypto.randomUUID();
    const answer = await act(ada, group, {
      add: [{ identity_id: grace.id }, { identity_id: stranger }, { identity_id: 'nobody' }],
      leave: [{ identity_id: grace.id }],
      join: [{ identity_id: ada.id }],
    });
    assert.equal(answer.status, 200);
    assert.equal((answer.body['add'] as Json[]).length, 1);
    assert.deepEqual(
      refusalsOf(answer)['add']?.map(({ code }) => code),
      ['USER_NOT_FOUND', 'USER_NOT_FOUND'],
    );
    assert.equal(refusalsOf(answer)['leave']?.[0]?.code, 'GROUP_ACCESS_FORBIDDEN');
    assert.equal(refusalsOf(answer)['join']?.length, 1);
    const again = await act(ada, group, { add: [{ identity_id: grace.id }] });
    assert.equal((again.body['add'] as Json[]).length, 1, 'adding twice changes nothing');
  });

  it('need a token for Groups or for Compute, and a client that may do more than run endpoints', async () => {
    const client = await hub.createClient();
    const person = async (scope: string) =>
      hub.personWith(client.id, (await hub.token(client, scope)).access_token);
    const viewer = await person(VIEW_GROUPS_SCOPE);
    assert.equal((await viewer.call('GET', '/v2/groups/my_groups')).status, 200);
    assertRefused(
      await viewer.call('POST', '/v2/groups', { name: 'x' }),
      403,
      'INSUFFICIENT_AUTH_SCOPE',
    );
    const changer = await person(GROUPS_SCOPE);
    assert.equal((await changer.call('POST', '/v2/groups', { name: 'x' })).status, 200);
    const runner = await hub.person({ endpointOnly: true });
    assertRefused(await runner.call('GET', '/v2/groups/my_groups'), 403, 'INSUFFICIENT_AUTH_SCOPE');
  });

  it('are understood by the client of globus_sdk', async () => {
    const python = process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '';
    assert.notEqual(python, '', 'OUTPOST_TEST_SDK_PYTHON is not set: run this with `npm test`');
    const client = await hub.createClient();
    const { access_token: token } = await hub.token(client, GROUPS_SCOPE);
    const outcome = await runProgram(
      python,
      ['-c', GROUPS_CLIENT, client.id, grace.id, token, `${hub.url}/`],
      { env: { PATH: process.env['PATH'] ?? '' } },
    );
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.deepEqual(JSON.parse(outcome.stdout), [404, 'AUTH_GROUP_NOT_FOUND']);
  });
});

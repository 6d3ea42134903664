/**
 * Two changes of one thing at a time. The test holds the row that both need, looks until the hub waits for it, makes its own change and
 * lets go: what the hub then does with what it read before shows.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { sql } from 'kysely';
import type { Transaction } from 'kysely';

import { systemClock } from '../../src/base/clock.ts';
import { AccessTokens } from '../../src/hub/auth/access-tokens.ts';
import { AuthorizationCodes } from '../../src/hub/auth/authorization-codes.ts';
import { PeopleRegistry } from '../../src/hub/auth/people.ts';
import type { Person } from '../../src/hub/auth/people.ts';
import { PersonLogins, grantedScopes } from '../../src/hub/auth/person-logins.ts';
import type { HubDatabase } from '../../src/hub/db/schema.ts';
import { OUTPOST_APP_ID } from '../../src/protocol/oauth.ts';
import { COMPUTE_SCOPE } from '../../src/protocol/rest.ts';
import { eventually } from '../support/eventually.ts';
import { TestHub, assertRefused, registerEndpoint, registerFunction } from './hub-api-support.ts';
import type { Person as Caller } from './hub-api-support.ts';

const PASSWORD = 'correct horse battery';

describe('changes of one thing at the same time', () => {
  let hub: TestHub;
  let owner: Caller;
  let people: PeopleRegistry;
  let logins: PersonLogins;
  before(async () => {
    hub = await TestHub.start();
    owner = await hub.person();
    people = new PeopleRegistry(hub.db);
    logins = new PersonLogins(hub.db, new AccessTokens(hub.db, systemClock));
  });
  after(async () => {
    await hub.stop();
  });

  async function newPerson(): Promise<Person> {
    return await people.create({ username: `p-${randomUUID()}`, password: PASSWORD });
  }

  /** Changes something in a transaction that ends only when `other`, begun meanwhile, waits for it. */
  async function during<T>(
    change: (transaction: Transaction<HubDatabase>) => Promise<unknown>,
    other: () => Promise<T>,
  ): Promise<T> {
    let outcome: Promise<PromiseSettledResult<T>[]> | undefined;
    await hub.db.transaction().execute(async (transaction) => {
      await change(transaction);
      outcome = Promise.allSettled([other()]);
      await eventually(async () => {
        const { rows } = await sql<{ waiting: number }>`
          select count(*)::int as waiting from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock'`.execute(hub.db);
        assert.ok((rows[0]?.waiting ?? 0) > 0, 'nobody waits');
      });
    });
    const [settled] = (await outcome) ?? [];
    assert.ok(settled !== undefined);
    if (settled.status === 'rejected') {
      throw settled.reason;
    }
    return settled.value;
  }

  it('keeps every function that is added to those that an endpoint allows', async () => {
    const { endpoint_id: id } = await registerEndpoint(owner);
    const [mine, theirs] = [randomUUID(), randomUUID()];
    const allowTheirs = async (transaction: Transaction<HubDatabase>): Promise<unknown> =>
      await transaction
        .updateTable('endpoints')
        .set({ allowed_functions: [theirs] })
        .where('id', '=', id)
        .execute();
    const answer = await during(
      allowTheirs,
      async () => await owner.call('POST', `/v2/endpoints/${id}/whitelist`, { func: [mine] }),
    );
    assert.deepEqual(answer.body['result'], [theirs, mine]);
    const gone = await during(
      allowTheirs,
      async () => await owner.call('DELETE', `/v2/endpoints/${id}/whitelist/${mine}`),
    );
    assertRefused(gone, 404, 'FUNCTION_NOT_FOUND', /is not among those/);
  });

  // Otherwise a change of the description could open an endpoint that its agent has just closed.
  it('keeps what an agent says of its isolation while its owner changes the rest', async () => {
    const { endpoint_id: id } = await registerEndpoint(owner, {
      metadata: { isolation: 'unit', place: 'old' },
    });
    await during(
      async (transaction) =>
        await transaction
          .updateTable('endpoints')
          .set({ metadata: JSON.stringify({ isolation: 'user', place: 'old' }) })
          .where('id', '=', id)
          .execute(),
      async () => await owner.call('PUT', `/v3/endpoints/${id}`, { metadata: { place: 'new' } }),
    );
    const { metadata } = await hub.db
      .selectFrom('endpoints')
      .select('metadata')
      .where('id', '=', id)
      .executeTakeFirstOrThrow();
    assert.equal(metadata['isolation'], 'user');
  });

  it('shares nothing with a group that is being deleted', async () => {
    const group = await newGroup();
    const fn = await registerFunction(owner);
    const answer = await during(
      async (transaction) =>
        await transaction.deleteFrom('groups').where('id', '=', group).execute(),
      async () => await owner.call('POST', `/v1/functions/${fn}/share`, { groups: [group] }),
    );
    assertRefused(answer, 404, 'AUTH_GROUP_NOT_FOUND', /could not be found/);
  });

  it('adds no client to a group that is being deleted itself', async () => {
    const group = await newGroup();
    const client = await hub.createClient();
    const answer = await during(
      async (transaction) =>
        await transaction.deleteFrom('clients').where('id', '=', client.id).execute(),
      async () =>
        await owner.call('POST', `/v2/groups/${group}`, {
          add: [{ identity_id: client.id, role: 'admin' }],
        }),
    );
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    const members = hub.db.selectFrom('group_members').select('identity_id');
    assert.deepEqual(await members.where('group_id', '=', group).execute(), [
      { identity_id: owner.id },
    ]);
  });

  it('ends a login that is being fetched while the password changes', async () => {
    const person = await newPerson();
    const codes = new AuthorizationCodes(hub.db, logins);
    await codes.issue(
      {
        appId: OUTPOST_APP_ID,
        redirectUri: 'http://127.0.0.1/',
        codeChallenge: 'x',
        scope: COMPUTE_SCOPE,
        nonce: null,
      },
      person.id,
    );
    // As the exchange of the code does it.
    await during(
      async (transaction) => {
        const ofPerson = transaction.selectFrom('authorization_codes').selectAll();
        await ofPerson.where('person_id', '=', person.id).forUpdate().executeTakeFirstOrThrow();
        await logins.begin(transaction, person.id, OUTPOST_APP_ID);
      },
      async () => {
        await people.setPassword(person, 'another password');
      },
    );
    const left = hub.db.selectFrom('logins').select('id').where('person_id', '=', person.id);
    assert.deepEqual(await left.execute(), []);
  });

  it('lets nobody in with a password that was changed after it was checked', async () => {
    const person = await newPerson();
    const authenticated = await people.authenticate(person.username, PASSWORD);
    assert.ok(authenticated !== undefined);
    await people.setPassword(person, 'another password');
    const begun = await people.whileWelcome(
      authenticated,
      async (transaction) => await logins.begin(transaction, person.id, OUTPOST_APP_ID),
    );
    assert.equal(begun, undefined);
  });

  // Each of the two would wait for a row of the other, and the database would break one of them off.
  it('says that a login has ended to whoever renews it meanwhile', async () => {
    const person = await newPerson();
    const { loginId, refreshToken } = await hub.db.transaction().execute(async (transaction) => {
      const begun = await logins.begin(transaction, person.id, OUTPOST_APP_ID);
      const tokens = await logins.issue(transaction, begun, grantedScopes(COMPUTE_SCOPE));
      return { loginId: begun, refreshToken: tokens.refresh_token };
    });
    let end: Promise<unknown> | undefined;
    const renewal = hub.db.transaction().execute(async (transaction) => {
      await transaction.selectFrom('logins').selectAll().where('id', '=', loginId).forUpdate().execute(); // prettier-ignore
      end = logins.refresh(refreshToken, OUTPOST_APP_ID).then(
        () => assert.fail('renewed'),
        (error: unknown) => error,
      );
      await eventually(async () => {
        const { rows } = await sql`select 1 from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock'`.execute(hub.db);
        assert.equal(rows.length, 1);
      });
      await transaction.deleteFrom('logins').where('id', '=', loginId).execute();
    });
    await renewal;
    assert.match(String(await end), /unknown, expired or revoked/);
  });

  it('finds what a deleted group was shared with by an index', async () => {
    const group = await newGroup();
    await hub.db.transaction().execute(async (transaction) => {
      // For a table that is all but empty the planner would read the whole of it.
      await sql`set local enable_seqscan = off`.execute(transaction);
      for (const table of ['functions', 'endpoints', 'environments']) {
        const { rows } = await sql<{ 'QUERY PLAN': string }>`explain
          update ${sql.table(table)} set shared_with = array_remove(shared_with, ${sql.lit(group)}::uuid)
          where shared_with <> '{}' and shared_with @> array[${sql.lit(group)}::uuid]`.execute(
          transaction,
        );
        const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
        assert.match(plan, new RegExp(`Index Scan on ${table}_shared_with`));
      }
    });
  });

  async function newGroup(): Promise<string> {
    const answer = await owner.call('POST', '/v2/groups', { name: 'Lab' });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return String(answer.body['id']);
  }
});

/** A database of an older hub, with what people have in it, comes up to date. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { Migrator, sql } from 'kysely';

import { silentLogger } from '../../src/base/logger.ts';
import { migrateDatabase, openDatabase } from '../../src/hub/db/database.ts';
import { MIGRATIONS } from '../../src/hub/db/migrations/index.ts';
import { createDatabase, testServices } from '../support/services.ts';
import type { TestDatabase } from '../support/services.ts';

describe('a database of the hub before people and groups', () => {
  let database: TestDatabase;
  let db: ReturnType<typeof openDatabase>;
  beforeEach(async () => {
    database = await createDatabase(testServices().databaseUrl);
    db = openDatabase({ url: database.databaseUrl, logger: silentLogger });
    const migrator = new Migrator({
      db,
      provider: { getMigrations: async () => await Promise.resolve({ ...MIGRATIONS }) },
    });
    const { error } = await migrator.migrateTo('0003-task-fate');
    assert.equal(error, undefined);
  });
  afterEach(async () => {
    await db.destroy();
    await database.drop();
  });

  it('keeps its clients, tokens, functions and endpoints, and its functions can be found', async () => {
    const [client, fn, long, deleted] = Array.from({ length: 4 }, () => randomUUID());
    const [idle, ours] = [randomUUID(), randomUUID()];
    await sql`insert into clients (id, name, secret_hash) values (${client}, 'old', 'x')`.execute(
      db,
    );
    await sql`insert into access_tokens (token_hash, client_id, scope, resource_server, expires_at)
      values ('\\x01', ${client}, 's', 'r', now() + interval '1 hour')`.execute(db);
    const widest = '\u{1F600}'.repeat(128);
    const text = 'x'.repeat(5000) + ' word'.repeat(400_000);
    await sql`insert into functions (id, owner_id, name, code, description, public, deleted_at) values
      (${fn}, ${client}, 'simulateWave', 'c', 'Height of waves', true, null),
      (${long}, ${client}, ${widest}, 'c', ${text}, false, null),
      (${deleted}, ${client}, 'gone', 'c', null, false, now())`.execute(db);
    await sql`insert into endpoints (id, owner_id, name, queue_suffix, public, lease_holder) values
      (${idle}, ${client}, 'idle', 'a', true, null),
      (${ours}, ${client}, 'ours', 'b', true, '{"host": "h"}')`.execute(db);

    const applied = await migrateDatabase(db);
    assert.deepEqual(applied.slice(0, 2), ['0004-people', '0005-groups-and-sharing']);
    assert.deepEqual(await migrateDatabase(db), []);

    const { rows: found } = await sql<{ id: string; readers: string[] }>`
      select id, readers from functions where search @@ to_tsquery('english', 'wave') and searchable`.execute(
      db,
    );
    assert.deepEqual(found, [
      { id: fn, readers: [client, '00000000-0000-0000-0000-000000000000'] },
    ]);
    const { rows: shared } = await sql<{ id: string; may_be_shared: boolean }>`
      select id, may_be_shared from endpoints`.execute(db);
    assert.deepEqual(
      new Map(shared.map((row) => [row.id, row.may_be_shared])),
      new Map([
        [idle, true],
        [ours, false],
      ]),
    );
    const { rows: tokens } = await sql<{ client_id: string; login_id: null }>`
      select client_id, login_id from access_tokens`.execute(db);
    assert.deepEqual(tokens, [{ client_id: client, login_id: null }]);
  });

  // The table of functions is written anew, with its words: tens of seconds for tens of thousands.
  it('takes longer than any other statement may', async () => {
    await sql`insert into functions (id, owner_id, name, code, description)
      select gen_random_uuid(), gen_random_uuid(), 'f' || i, 'c', repeat('Height of waves. ', 50)
      from generate_series(1, 1000) as i`.execute(db);
    const lines: string[] = [];
    const logger = { ...silentLogger, info: (_: object, line: string) => lines.push(line) };
    const bounded = openDatabase({ url: database.databaseUrl, logger, answerMs: 100 });
    try {
      assert.equal((await migrateDatabase(bounded))[0], '0004-people');
      assert.match(lines.join(), /bringing the database up to date/);
    } finally {
      await bounded.destroy();
    }
  });
});

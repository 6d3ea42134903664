/** Keys that all hub processes share: made once by whoever comes first, read by the others. */
import { randomBytes } from 'node:crypto';

import type { Kysely } from 'kysely';

import { invariant } from '../../base/errors.ts';
import type { HubDatabase } from '../db/schema.ts';

const KEY_BYTES = 32;

/** The key of that name. Concurrent first calls, in whatever process, agree on one. */
export async function hubSecret(db: Kysely<HubDatabase>, name: string): Promise<Buffer> {
  await db
    .insertInto('hub_secrets')
    .values({ name, value: randomBytes(KEY_BYTES) })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .execute();
  const row = await db
    .selectFrom('hub_secrets')
    .select('value')
    .where('name', '=', name)
    .executeTakeFirst();
  invariant(row !== undefined, 'a hub secret that was just stored is not there');
  return row.value;
}

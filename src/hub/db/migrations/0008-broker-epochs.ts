/**
 * Broker credentials that can be ended, and groups that are quick to delete.
 *
 *   broker_epochs              how often the credentials of an identity at the broker were ended, and whether it may have others
 *   revoked_clients.sessions   whether its endpoints are cut off, too
 *   …_shared_with              what a group is shared with, for its deletion and for lists
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

/** Applies the migration. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create table broker_epochs (
    identity_id uuid primary key,
    epoch integer not null,
    closed boolean not null
  )`.execute(db);
  await sql`alter table revoked_clients add column sessions boolean not null default true`.execute(
    db,
  );
  for (const table of ['functions', 'endpoints', 'environments']) {
    // Most things are shared with nobody and need no entry.
    await sql`create index ${sql.ref(`${table}_shared_with`)} on ${sql.table(table)}
      using gin (shared_with) where shared_with <> '{}'`.execute(db);
  }
}

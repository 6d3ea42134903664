/**
 * When a hub process was alive last, in database time: what passed while no hub was there to take heartbeats
 * must not count against the leases.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

/** Applies the migration. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create table hub_liveness (
    only_row boolean primary key default true check (only_row),
    alive_at timestamptz not null default now()
  )`.execute(db);
}

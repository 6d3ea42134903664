/**
 * Results that are too large for a message: whose they are, how large, and under which key the blob store has them.
 *
 * A row is made before its blob, so that the bound of the store holds while blobs come in; `stored_at` is set once the blob is there.
 * No foreign key: the row must outlive its task until the blob is deleted.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

/** Applies the migration. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table result_blobs (
      task_id uuid primary key,
      key text,
      sha256 text,
      bytes bigint not null,
      created_at timestamptz not null default now(),
      stored_at timestamptz
    )`.execute(db);
}

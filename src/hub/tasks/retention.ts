/**
 * Deletes what is older than the retention: finished tasks by their end, others by the last that is known of
 * them, which is long after they were given up (lost-tasks.ts): no task goes in silence. Groups without tasks, answers to submissions, expired tokens. In batches, so that no statement holds locks for long.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { HubDatabase } from '../db/schema.ts';

const BATCH_ROWS = 5_000;
/** Bounds one run; the next one goes on. */
const BATCHES_MAX = 200;

/** What was deleted. */
export interface DeletedCounts {
  readonly tasks: number;
  readonly groups: number;
  readonly submissions: number;
  readonly tokens: number;
}

/** Deletes what has expired at `now` (milliseconds since the epoch). */
export async function deleteExpired(
  db: Kysely<HubDatabase>,
  now: number,
  retentionMs: number,
  taskTtlMs: number,
): Promise<DeletedCounts> {
  const before = new Date(now - retentionMs);
  const openBefore = new Date(now - retentionMs - taskTtlMs);
  return {
    tasks: await inBatches(async () => await deleteTasks(db, before, openBefore)),
    groups: await inBatches(async () => await deleteGroups(db, before)),
    submissions: await inBatches(async () => await deleteSubmissions(db, before)),
    tokens: await inBatches(async () => await deleteTokens(db, new Date(now))),
  };
}

async function inBatches(deleteBatch: () => Promise<number>): Promise<number> {
  let total = 0;
  for (let batch = 0; batch < BATCHES_MAX; batch += 1) {
    const count = await deleteBatch();
    total += count;
    if (count < BATCH_ROWS) {
      break;
    }
  }
  return total;
}

async function deleteTasks(
  db: Kysely<HubDatabase>,
  before: Date,
  openBefore: Date,
): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from tasks where id in (
      select id from tasks where completed_at < ${before}
        or (completed_at is null and coalesce(started_at, received_at, created_at) < ${openBefore})
      limit ${BATCH_ROWS} for update skip locked
    )`.execute(db);
  return Number(numAffectedRows ?? 0);
}

async function deleteGroups(db: Kysely<HubDatabase>, before: Date): Promise<number> {
  return await db.transaction().execute(async (transaction) => {
    const { rows } = await sql<{ id: string }>`
      select g.id from task_groups g
      where g.created_at < ${before} and not exists (select from tasks t where t.group_id = g.id)
      limit ${BATCH_ROWS} for update of g skip locked`.execute(transaction);
    // Looked at again under the lock: a submission may have put tasks into the group in between.
    await sql`
      delete from task_groups g where g.id = any(${rows.map(({ id }) => id)}::uuid[])
        and not exists (select from tasks t where t.group_id = g.id)`.execute(transaction);
    return rows.length;
  });
}

async function deleteSubmissions(db: Kysely<HubDatabase>, before: Date): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from submissions where (owner_id, idempotency_key) in (
      select owner_id, idempotency_key from submissions where created_at < ${before}
      limit ${BATCH_ROWS} for update skip locked
    )`.execute(db);
  return Number(numAffectedRows ?? 0);
}

async function deleteTokens(db: Kysely<HubDatabase>, now: Date): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from access_tokens where token_hash in (
      select token_hash from access_tokens where expires_at < ${now}
      limit ${BATCH_ROWS} for update skip locked
    )`.execute(db);
  return Number(numAffectedRows ?? 0);
}

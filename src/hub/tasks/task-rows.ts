/**
 * Statements on many tasks at once.
 *
 * Everybody who updates many tasks locks them in the order of their ids first: a result arrives while its task is still
 * being marked as published, and two statements that lock in different orders would wait for each other until
 * PostgreSQL ends one of them a second later.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { HubDatabase } from '../db/schema.ts';

type Database = Kysely<HubDatabase>;

/** Epochs count from 0. */
const NEVER_HANDED_BACK = -1;

/** A task as it was handed to the broker. */
export interface PublishedTask {
  readonly id: string;
  /** Under which lease epoch it had been given back by then, if ever. */
  readonly handedBackEpoch?: number;
}

/**
 * Notes that the broker confirmed these tasks. One that an agent has received and given back meanwhile waits for being published again:
 * what was confirmed is no longer on any queue.
 */
export async function markPublished(db: Database, tasks: readonly PublishedTask[]): Promise<void> {
  const idsByEpoch = new Map<number, string[]>();
  for (const { id, handedBackEpoch = NEVER_HANDED_BACK } of tasks) {
    const ids = idsByEpoch.get(handedBackEpoch) ?? [];
    idsByEpoch.set(handedBackEpoch, ids);
    ids.push(id);
  }
  for (const [epoch, ids] of idsByEpoch) {
    await sql`
      with held as (
        select id from tasks where id = any(${ids}::uuid[]) and published_at is null
          and coalesce(handed_back_epoch, ${NEVER_HANDED_BACK}) = ${epoch}
        order by id for update
      )
      update tasks set published_at = now() from held where tasks.id = held.id`.execute(db);
  }
}

/** Notes that the results of these tasks are on their groups' queues. */
export async function markStreamed(db: Database, ids: readonly string[]): Promise<void> {
  await sql`
    with held as (
      select id from tasks where id = any(${ids}::uuid[]) and streamed_at is null order by id for update
    )
    update tasks set streamed_at = now() from held where tasks.id = held.id`.execute(db);
}

/**
 * Hands out again what an endpoint's lost queue had held: published, never received, not finished. Returns how many.
 *
 * Only for endpoints that hold a lease: ours report what they received and never start a task twice; the original
 * endpoint does neither.
 */
export async function republishUnreceived(db: Database, endpointId: string): Promise<number> {
  return await db.transaction().execute(async (transaction) => {
    // Waits for a registration that is going on, since it is what tells whether the endpoint has a lease.
    const endpoint = await transaction
      .selectFrom('endpoints')
      .select('lease_holder')
      .where('id', '=', endpointId)
      .where('deleted_at', 'is', null)
      .forShare()
      .executeTakeFirst();
    if ((endpoint?.lease_holder ?? null) === null) {
      return 0;
    }
    const { numAffectedRows } = await sql`
      with held as (
        select id from tasks
        where endpoint_id = ${endpointId}::uuid and completed_at is null and received_at is null
          and published_at is not null
        order by id for update
      )
      update tasks set published_at = null from held where tasks.id = held.id`.execute(transaction);
    return Number(numAffectedRows ?? 0);
  });
}

/** Where the relay goes on reading. */
export interface RelayCursor {
  /** As PostgreSQL writes it, since a Date loses the microseconds. */
  readonly createdAt: string;
  readonly id: string;
}

/** A task that waits for being published. */
export interface UnpublishedRow {
  readonly id: string;
  readonly endpoint_id: string;
  readonly queue_suffix: string;
  readonly function_id: string;
  readonly payload: string;
  readonly options: Record<string, unknown> | null;
  readonly handed_back_epoch: number | null;
  readonly created_at: Date;
  readonly created_at_text: string;
}

/** What {@link unpublishedTasks} reads at most. */
export interface UnpublishedPage {
  readonly after: RelayCursor;
  /** Tasks younger than this belong to the process that took them, unless they are from `since` on. */
  readonly minAgeMs: number;
  readonly since: Date | undefined;
  readonly count: number;
  /** Sum of the payloads, exceeded only by a single task. */
  readonly bytes: number;
}

/** Before every task. */
export const RELAY_START: RelayCursor = {
  createdAt: '-infinity',
  id: '00000000-0000-0000-0000-000000000000',
};

/** Oldest tasks that the broker has not confirmed yet. */
export async function unpublishedTasks(
  db: Database,
  page: UnpublishedPage,
): Promise<UnpublishedRow[]> {
  const { rows } = await sql<UnpublishedRow>`
    with page as (
      select id, created_at, octet_length(payload) as bytes from tasks
      where published_at is null and completed_at is null
        and (created_at, id) > (${page.after.createdAt}::timestamptz, ${page.after.id}::uuid)
        and (created_at < now() - ${page.minAgeMs} * interval '1 millisecond'
          or created_at >= ${page.since ?? 'infinity'}::timestamptz)
      order by created_at, id limit ${page.count}
    ), sized as (
      select id, sum(bytes) over (order by created_at, id) - bytes as bytes_before from page
    )
    select t.id, t.endpoint_id, e.queue_suffix, t.function_id, t.payload, t.options, t.handed_back_epoch, t.created_at,
      t.created_at::text as created_at_text
    from sized s join tasks t on t.id = s.id join endpoints e on e.id = t.endpoint_id
    where s.bytes_before < ${page.bytes}
    order by t.created_at, t.id`.execute(db);
  return rows;
}

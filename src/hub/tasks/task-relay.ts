/**
 * Reads tasks that nobody published from the database, oldest first, page by page.
 *
 * One hub process at a time, by an advisory lock that goes with its transaction (and its connection, if the process dies);
 * no row is locked while the broker is waited for. Tasks that are younger than FOREIGN_AGE_MS are left to the process that
 * took them, unless this process knows that they are its own.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { EnvironmentType } from '../../protocol/sharing.ts';
import { taskQueueName } from '../broker/topology-table.ts';
import type { HubDatabase } from '../db/schema.ts';
import type { PublishableTask } from './task-message.ts';
import { RELAY_START, unpublishedTasks } from './task-rows.ts';
import type { RelayCursor, UnpublishedRow } from './task-rows.ts';

const PAGE_TASKS = 1_000;
const PAGE_BYTES = 8 * 1024 * 1024;
const FOREIGN_AGE_MS = 5_000;
/** Any number, the same in every hub process. */
const RELAY_LOCK = 7_074_391_041;

/** Relays once. `busy`: another process does. */
export async function relayUnpublished(
  db: Kysely<HubDatabase>,
  since: Date | undefined,
  publishPage: (tasks: readonly PublishableTask[]) => Promise<'continue' | 'stop'>,
): Promise<'done' | 'busy'> {
  // Looked at first without the lock, because almost always there is nothing to do.
  const first = await readPage(db, RELAY_START, since, 1);
  if (first.length === 0) {
    return 'done';
  }
  return await db.transaction().execute(async (transaction) => {
    const { rows } = await sql<{ is_locked: boolean }>`
      select pg_try_advisory_xact_lock(${RELAY_LOCK}::bigint) as is_locked`.execute(transaction);
    if (rows[0]?.is_locked !== true) {
      return 'busy';
    }
    let cursor = RELAY_START;
    for (;;) {
      const page = await readPage(db, cursor, since);
      const last = page.at(-1);
      if (last === undefined) {
        return 'done';
      }
      cursor = { createdAt: last.created_at_text, id: last.id };
      if ((await publishPage(await withCode(db, page))) === 'stop') {
        return 'done';
      }
    }
  });
}

async function readPage(
  db: Kysely<HubDatabase>,
  after: RelayCursor,
  since: Date | undefined,
  count = PAGE_TASKS,
): Promise<UnpublishedRow[]> {
  return await unpublishedTasks(db, {
    after,
    since,
    minAgeMs: FOREIGN_AGE_MS,
    count,
    bytes: PAGE_BYTES,
  });
}

async function withCode(
  db: Kysely<HubDatabase>,
  page: readonly UnpublishedRow[],
): Promise<PublishableTask[]> {
  const functions = await db
    .selectFrom('functions as f')
    // One that was deleted since was promised to these tasks.
    .leftJoin('environments as e', 'e.id', 'f.environment_id')
    .select(['f.id', 'f.code', 'e.id as environment_id', 'e.type', 'e.location'])
    .where('f.id', 'in', [...new Set(page.map((row) => row.function_id))])
    .execute();
  const found = new Map(functions.map((row) => [row.id, row]));
  return page.flatMap((row) => {
    const called = found.get(row.function_id);
    // Functions are marked as deleted, never removed, while tasks refer to them.
    return called === undefined
      ? []
      : [
          {
            id: row.id,
            endpointId: row.endpoint_id,
            queue: taskQueueName({ id: row.endpoint_id, queueSuffix: row.queue_suffix }),
            functionId: row.function_id,
            functionCode: called.code,
            ...environmentOf(called),
            payload: row.payload,
            options: row.options,
            createdAt: row.created_at,
            ...(row.handed_back_epoch !== null && { handedBackEpoch: row.handed_back_epoch }),
          },
        ];
  });
}

function environmentOf(row: {
  readonly environment_id: string | null;
  readonly type: EnvironmentType | null;
  readonly location: string | null;
}): Pick<PublishableTask, 'environment'> {
  const { environment_id: id, type, location } = row;
  return id === null || type === null || location === null
    ? {}
    : { environment: { id, type, location } };
}

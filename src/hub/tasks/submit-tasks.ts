/**
 * Puts a submission into the database: one transaction for the group, the tasks and the answer under its idempotency key.
 * Either all of it is there or nothing.
 *
 * A connection that is lost during the COMMIT leaves open which of the two it is. The answer to the submission must not be a guess:
 * a caller who is told of a failure submits again. So it is looked up, behind a lock that the transaction holds to its very end.
 */
import { sql } from 'kysely';
import type { Kysely, Transaction } from 'kysely';

import { backoffDelayMs } from '../../base/backoff.ts';
import { sleep } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import type { SubmissionAccepted } from '../../protocol/rest.ts';
import { isConnectionFailure, isLockTimeout } from '../db/postgres-errors.ts';
import type { HubDatabase } from '../db/schema.ts';
import { HubError } from '../hub-error.ts';
import { jsonbText } from './jsonb.ts';
import type { TaskOptions } from './task-message.ts';

/** A task to insert. */
export interface NewTask {
  readonly id: string;
  readonly functionId: string;
  readonly payload: string;
}

/** A submission, taken apart. */
export interface NewSubmission {
  readonly ownerId: string;
  readonly endpointId: string;
  readonly groupId: string;
  readonly hasQueue: boolean;
  readonly options: TaskOptions | null;
  readonly tasks: readonly NewTask[];
  readonly accepted: SubmissionAccepted;
  readonly idempotency: { readonly key: string; readonly requestHash: Buffer } | undefined;
}

/** What became of it; `replayed` is the answer to the same submission, which was there before. */
export type SubmitOutcome =
  | { readonly kind: 'inserted'; readonly queueSuffix: string; readonly createdAt: Date }
  | { readonly kind: 'replayed'; readonly accepted: SubmissionAccepted };

/** Bounds of one INSERT. */
const INSERT_TASKS_MAX = 2_000;
const INSERT_CHARS_MAX = 4 * 1024 * 1024;

/** How long the fate of a lost COMMIT is looked up; callers wait a minute at most. */
const LOOK_UP_MS_MAX = 25_000;
const LOOK_UP_RETRY = { baseMs: 50, maxMs: 1_000 };
/** How long a server process that nobody talks to may take to end its transaction before it is ended. */
const LOCK_WAIT_MS = 1_000;

/** A transaction whose end may have to be looked up. */
interface Attempt {
  /** Server process and advisory lock; undefined until the transaction held it. */
  held?: { readonly pid: number; readonly lock: bigint };
  inserted?: SubmitOutcome;
}

/** Inserts a submission. @throws HubError 403, 404 or 422; what the database says when nothing was stored. */
export async function insertSubmission(
  db: Kysely<HubDatabase>,
  submission: NewSubmission,
  clock: Clock,
): Promise<SubmitOutcome> {
  const attempt: Attempt = {};
  try {
    return await insertOnce(db, submission, attempt);
  } catch (error) {
    const { held, inserted } = attempt;
    if (held === undefined || inserted === undefined || !isConnectionFailure(error)) {
      throw error; // It failed before the COMMIT.
    }
    if (await wasCommitted(db, submission, held, clock)) {
      return inserted;
    }
    throw error;
  }
}

/** @throws what the database says when it cannot be asked within LOOK_UP_MS_MAX. */
async function wasCommitted(
  db: Kysely<HubDatabase>,
  { tasks }: NewSubmission,
  held: { readonly pid: number; readonly lock: bigint },
  clock: Clock,
): Promise<boolean> {
  const [first] = tasks;
  const untilMs = clock.monotonicMs() + LOOK_UP_MS_MAX;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await db.transaction().execute(async (transaction) => {
        await sql`select set_config('lock_timeout', ${`${LOCK_WAIT_MS}ms`}, true)`.execute(
          transaction,
        );
        await sql`select pg_advisory_xact_lock(${held.lock}::bigint)`.execute(transaction);
        const row = await transaction
          .selectFrom('tasks')
          .select('id')
          .where('id', '=', first?.id ?? '')
          .executeTakeFirst();
        return row !== undefined;
      });
    } catch (error) {
      if (clock.monotonicMs() >= untilMs || !(isLockTimeout(error) || isConnectionFailure(error))) {
        throw error;
      }
      if (isLockTimeout(error)) {
        await endIdle(db, held);
      }
      await sleep(clock, backoffDelayMs(attempt, LOOK_UP_RETRY));
    }
  }
}

/** Idle, it waits for a COMMIT that will never reach it. Only the process that holds our very lock is ended. */
async function endIdle(
  db: Kysely<HubDatabase>,
  held: { readonly pid: number; readonly lock: bigint },
): Promise<void> {
  try {
    await sql`select pg_terminate_backend(l.pid) from pg_locks l join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and l.granted and l.pid = ${held.pid} and a.state like 'idle in transaction%'
        and (l.classid::bigint << 32 | l.objid::bigint) = ${held.lock}::bigint`.execute(db);
  } catch (error) {
    if (!isConnectionFailure(error)) {
      throw error;
    }
    // Every connection of the pool may have broken with the first one; the look-up goes on.
  }
}

function noteInserted(attempt: Attempt, inserted: SubmitOutcome): SubmitOutcome {
  attempt.inserted = inserted;
  return inserted;
}

async function insertOnce(
  db: Kysely<HubDatabase>,
  submission: NewSubmission,
  attempt: Attempt,
): Promise<SubmitOutcome> {
  return await db.transaction().execute(async (transaction) => {
    const replayed = await claimKey(transaction, submission);
    if (replayed !== undefined) {
      return { kind: 'replayed', accepted: replayed };
    }
    const queueSuffix = await queueSuffixOf(transaction, submission, attempt);
    await joinGroup(transaction, submission);
    let createdAt = new Date(0);
    for (const [start, end] of chunks(submission.tasks)) {
      createdAt = await insertTasks(transaction, submission, start, end);
    }
    return noteInserted(attempt, { kind: 'inserted', queueSuffix, createdAt });
  });
}

/** The earlier answer under the same key, if any. A concurrent submission under that key is waited for. */
export async function earlierAnswer(
  db: Kysely<HubDatabase>,
  ownerId: string,
  { key, requestHash }: { readonly key: string; readonly requestHash: Buffer },
): Promise<SubmissionAccepted | undefined> {
  const row = await db
    .selectFrom('submissions')
    .select(['request_hash', 'response'])
    .where('owner_id', '=', ownerId)
    .where('idempotency_key', '=', key)
    .executeTakeFirst();
  if (row === undefined) {
    return undefined;
  }
  if (!row.request_hash.equals(requestHash)) {
    throw new HubError(
      422,
      'SEMANTICALLY_INVALID',
      'This Idempotency-Key was used for another submission; use a new key for every new submission',
    );
  }
  return row.response as unknown as SubmissionAccepted;
}

async function claimKey(
  transaction: Transaction<HubDatabase>,
  { ownerId, idempotency, accepted }: NewSubmission,
): Promise<SubmissionAccepted | undefined> {
  if (idempotency === undefined) {
    return undefined;
  }
  const { numInsertedOrUpdatedRows } = await transaction
    .insertInto('submissions')
    .values({
      owner_id: ownerId,
      idempotency_key: idempotency.key,
      request_hash: idempotency.requestHash,
      response: JSON.stringify(accepted),
    })
    .onConflict((conflict) => conflict.columns(['owner_id', 'idempotency_key']).doNothing())
    .executeTakeFirst();
  return (numInsertedOrUpdatedRows ?? 0n) > 0n
    ? undefined
    : await earlierAnswer(transaction, ownerId, idempotency);
}

/** The lock that tells when the transaction has ended: any number that no other submission has, never negative. */
function lockOf({ tasks }: NewSubmission): bigint {
  const digits = (tasks[0]?.id ?? '0').replaceAll('-', '').slice(0, 15);
  return BigInt(`0x${digits}`);
}

/** Also takes the lock, in the same round trip. */
async function queueSuffixOf(
  transaction: Transaction<HubDatabase>,
  submission: NewSubmission,
  attempt: Attempt,
): Promise<string> {
  const { endpointId } = submission;
  const lock = lockOf(submission);
  const endpoint = await transaction
    .selectFrom('endpoints')
    .select([
      'queue_suffix',
      sql<number>`pg_backend_pid()`.as('pid'),
      sql`pg_advisory_xact_lock(${lock}::bigint)`.as('lock'),
    ])
    .where('id', '=', endpointId)
    .where('deleted_at', 'is', null)
    .executeTakeFirst();
  if (endpoint === undefined) {
    throw new HubError(404, 'ENDPOINT_NOT_FOUND', `Endpoint ${endpointId} could not be found`);
  }
  attempt.held = { pid: endpoint.pid, lock };
  return endpoint.queue_suffix;
}

/** Makes the group, or joins the one there is; it cannot be deleted until we have committed. */
async function joinGroup(
  transaction: Transaction<HubDatabase>,
  submission: NewSubmission,
): Promise<void> {
  const { ownerId, groupId, hasQueue } = submission;
  const inserted = await transaction
    .insertInto('task_groups')
    .values({ id: groupId, owner_id: ownerId, has_queue: hasQueue })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .executeTakeFirst();
  if ((inserted.numInsertedOrUpdatedRows ?? 0n) > 0n) {
    return;
  }
  const group = await transaction
    .selectFrom('task_groups')
    .select(['owner_id', 'has_queue'])
    .where('id', '=', groupId)
    .forKeyShare()
    .executeTakeFirst();
  if (group === undefined) {
    // Deleted between the two statements, at the end of its retention.
    await joinGroup(transaction, submission);
    return;
  }
  if (group.owner_id !== ownerId) {
    throw new HubError(
      403,
      'TASK_GROUP_ACCESS_FORBIDDEN',
      `Task group ${groupId} belongs to somebody else; leave task_group_id out to get a new group`,
    );
  }
  if (hasQueue && !group.has_queue) {
    await transaction
      .updateTable('task_groups')
      .set({ has_queue: true })
      .where('id', '=', groupId)
      .execute();
  }
}

function* chunks(tasks: readonly NewTask[]): Generator<readonly [start: number, end: number]> {
  let start = 0;
  let chars = 0;
  for (const [index, { payload }] of tasks.entries()) {
    if (index > start && (index - start >= INSERT_TASKS_MAX || chars >= INSERT_CHARS_MAX)) {
      yield [start, index];
      start = index;
      chars = 0;
    }
    chars += payload.length;
  }
  if (start < tasks.length) {
    yield [start, tasks.length];
  }
}

/** Creation times differ by a microsecond, so that the order of a submission outlives this process. */
async function insertTasks(
  transaction: Transaction<HubDatabase>,
  { ownerId, endpointId, groupId, options, tasks }: NewSubmission,
  start: number,
  end: number,
): Promise<Date> {
  const chunk = tasks.slice(start, end);
  const optionsText = options === null ? null : jsonbText(options);
  await sql`
    insert into tasks (id, group_id, owner_id, endpoint_id, function_id, payload, options, created_at)
    select i.id, ${groupId}::uuid, ${ownerId}::uuid, ${endpointId}::uuid, i.function_id, i.payload,
      ${optionsText}::jsonb, now() + (${start} + i.position) * interval '1 microsecond'
    from unnest(
      ${chunk.map(({ id }) => id)}::uuid[],
      ${chunk.map(({ functionId }) => functionId)}::uuid[],
      ${chunk.map(({ payload }) => payload)}::text[]
    ) with ordinality as i(id, function_id, payload, position)`.execute(transaction);
  const { rows } = await sql<{ now: Date }>`select now() as now`.execute(transaction);
  return rows[0]?.now ?? new Date(0);
}

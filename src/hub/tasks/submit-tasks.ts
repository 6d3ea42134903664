/**
 * Puts a submission into the database: one transaction for the group, the tasks and the answer under its idempotency key.
 * Either all of it is there or nothing.
 */
import { sql } from 'kysely';
import type { Kysely, Transaction } from 'kysely';

import type { SubmissionAccepted } from '../../protocol/rest.ts';
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

/** Inserts a submission. @throws HubError 403, 404 or 422. */
export async function insertSubmission(
  db: Kysely<HubDatabase>,
  submission: NewSubmission,
): Promise<SubmitOutcome> {
  return await db.transaction().execute(async (transaction) => {
    const replayed = await claimKey(transaction, submission);
    if (replayed !== undefined) {
      return { kind: 'replayed', accepted: replayed };
    }
    const queueSuffix = await queueSuffixOf(transaction, submission.endpointId);
    await joinGroup(transaction, submission);
    let createdAt = new Date(0);
    for (const [start, end] of chunks(submission.tasks)) {
      createdAt = await insertTasks(transaction, submission, start, end);
    }
    return { kind: 'inserted', queueSuffix, createdAt };
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

async function queueSuffixOf(
  transaction: Transaction<HubDatabase>,
  endpointId: string,
): Promise<string> {
  const endpoint = await transaction
    .selectFrom('endpoints')
    .select('queue_suffix')
    .where('id', '=', endpointId)
    .where('deleted_at', 'is', null)
    .executeTakeFirst();
  if (endpoint === undefined) {
    throw new HubError(404, 'ENDPOINT_NOT_FOUND', `Endpoint ${endpointId} could not be found`);
  }
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

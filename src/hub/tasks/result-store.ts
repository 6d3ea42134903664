/**
 * Stores results: the first terminal one wins, and only the endpoint that the task was sent to may give it. A failure that the hub
 * stored provisionally (LOST) gives way to one real result.
 *
 * One statement takes a batch. Bodies travel as one binary parameter and are cut apart by the database: as an array they
 * would travel as hexadecimal text, twice the size.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import { packResult } from '../../protocol/messages.ts';
import type { HubDatabase } from '../db/schema.ts';

/** A terminal result as it came. */
export interface IncomingResult {
  readonly taskId: string;
  /** Whom the broker lets use the routing key that the result came with. */
  readonly endpointId: string;
  readonly isError: boolean;
  readonly body: Buffer;
  /** JSON text for `tasks.output`. */
  readonly output: string | null;
  /** The hub's own guess: it gives way to a real result, and never takes the place of another one. */
  readonly isProvisional?: boolean;
  /** Only for a task that no agent has received; one that was received meanwhile goes on. */
  readonly isOfUnreceived?: boolean;
}

/** A result that belongs on its group's queue. */
export interface StreamableResult {
  readonly taskId: string;
  readonly ownerId: string;
  readonly groupId: string;
  readonly body: Buffer;
  /** JSON text of the captured output. */
  readonly output: string | null;
  readonly completedAt: Date;
}

/** What became of a result. `contended`: another process has the task in hand, ask again. */
export type StoreOutcome =
  | { readonly kind: 'stream'; readonly result: StreamableResult; readonly isDuplicate: boolean }
  | { readonly kind: 'settled'; readonly isDuplicate: boolean }
  | { readonly kind: 'unknown-task' }
  | { readonly kind: 'wrong-endpoint' }
  | { readonly kind: 'contended' };

interface StoredRow {
  readonly id: string;
  readonly owner_id: string;
  readonly group_id: string;
  readonly is_sender: boolean;
  readonly is_stored: boolean;
  readonly has_queue: boolean;
  readonly was_completed: boolean;
  readonly was_streamed: boolean;
  readonly completed_at: Date;
  readonly stored_result: Buffer | null;
  readonly stored_output: string | null;
}

/** Stores a batch; no task may stand in it twice. One outcome for each, in order. */
export async function storeResults(
  db: Kysely<HubDatabase>,
  batch: readonly IncomingResult[],
): Promise<StoreOutcome[]> {
  const { rows } = await storeStatement(batch).execute(db);
  const byId = new Map(rows.map((row) => [row.id, row]));
  return batch.map((incoming) => outcomeOf(incoming, byId.get(incoming.taskId)));
}

function storeStatement(batch: readonly IncomingResult[]): ReturnType<typeof sql<StoredRow>> {
  const starts: number[] = [];
  let end = 0;
  for (const { body } of batch) {
    starts.push(end);
    end += body.length;
  }
  const bodies = batch.length === 1 ? batch[0]?.body : Buffer.concat(batch.map(({ body }) => body));
  return sql<StoredRow>`
    with incoming as (
      select * from unnest(
        ${batch.map(({ taskId }) => taskId)}::uuid[],
        ${batch.map(({ endpointId }) => endpointId)}::uuid[],
        ${batch.map(({ isError }) => (isError ? 'failed' : 'success'))}::text[],
        ${starts}::int[],
        ${batch.map(({ body }) => body.length)}::int[],
        ${batch.map(({ output }) => output)}::text[],
        ${batch.map(({ isProvisional }) => isProvisional === true)}::boolean[],
        ${batch.map(({ isOfUnreceived }) => isOfUnreceived === true)}::boolean[]
      ) as i(id, endpoint_id, state, start, length, output, provisional, unreceived)
    ), held as (
      select t.id from tasks t join incoming i on i.id = t.id and i.endpoint_id = t.endpoint_id
      -- Not "is null": on a table that just grew the planner would read the whole index of open tasks.
      where (coalesce(t.completed_at, 'infinity') = 'infinity' or (t.provisional and not i.provisional))
        and (t.received_at is null or not i.unreceived)
      order by t.id for update of t
    ), stored as (
      update tasks t set
        state = i.state,
        result = substring(${bodies}::bytea from i.start + 1 for i.length),
        output = i.output::jsonb,
        completed_at = now(),
        provisional = i.provisional,
        published_at = coalesce(t.published_at, now()),
        streamed_at = case when g.has_queue then null else now() end
      from held h join incoming i on i.id = h.id, task_groups g
      where t.id = h.id and g.id = t.group_id
      returning t.id
    )
    select i.id, t.owner_id, t.group_id, g.has_queue,
      t.endpoint_id = i.endpoint_id as is_sender,
      s.id is not null as is_stored,
      t.completed_at is not null as was_completed,
      t.streamed_at is not null as was_streamed,
      coalesce(t.completed_at, now()) as completed_at,
      case when t.streamed_at is null and t.endpoint_id = i.endpoint_id then t.result end as stored_result,
      case when t.streamed_at is null and t.endpoint_id = i.endpoint_id then t.output::text end as stored_output
    from incoming i
      join tasks t on t.id = i.id
      join task_groups g on g.id = t.group_id
      left join stored s on s.id = i.id`;
}

function outcomeOf(incoming: IncomingResult, row: StoredRow | undefined): StoreOutcome {
  if (row === undefined) {
    return { kind: 'unknown-task' };
  }
  if (!row.is_sender) {
    return { kind: 'wrong-endpoint' };
  }
  // The rows show the tasks as they were before the statement.
  if (!row.is_stored && !row.was_completed) {
    return { kind: 'contended' };
  }
  const isDuplicate = !row.is_stored;
  const body = row.is_stored ? incoming.body : row.stored_result;
  const output = row.is_stored ? incoming.output : row.stored_output;
  if ((isDuplicate && row.was_streamed) || !row.has_queue || body === null) {
    return { kind: 'settled', isDuplicate };
  }
  const { owner_id: ownerId, group_id: groupId, completed_at: completedAt } = row;
  return {
    kind: 'stream',
    result: { taskId: row.id, ownerId, groupId, body, output, completedAt },
    isDuplicate,
  };
}

interface UnstreamedRow {
  readonly id: string;
  readonly owner_id: string;
  readonly group_id: string;
  readonly result: Buffer;
  readonly output: string | null;
  readonly completed_at: Date;
}

/** Results that have waited for their group's queue for `minAgeMs`; whoever was to bring them there is gone. */
export async function unstreamedResults(
  db: Kysely<HubDatabase>,
  options: { readonly minAgeMs: number; readonly count: number; readonly bytes: number },
): Promise<StreamableResult[]> {
  const { rows } = await sql<UnstreamedRow>`
    with page as (
      select id, completed_at, octet_length(result) as bytes from tasks
      where completed_at is not null and streamed_at is null and result is not null
        and completed_at < now() - ${options.minAgeMs} * interval '1 millisecond'
      order by completed_at, id limit ${options.count}
    ), sized as (
      select id, sum(bytes) over (order by completed_at, id) - bytes as bytes_before from page
    )
    select t.id, t.owner_id, t.group_id, t.result, t.output::text as output, t.completed_at
    from sized s join tasks t on t.id = s.id where s.bytes_before < ${options.bytes}
    order by t.completed_at, t.id`.execute(db);
  return rows.map((row) => ({
    taskId: row.id,
    ownerId: row.owner_id,
    groupId: row.group_id,
    body: row.result,
    output: row.output,
    completedAt: row.completed_at,
  }));
}

/** Fails up to `count` open tasks of an endpoint in the hub's own name. Returns their outcomes; none when all are done. */
export async function failOpenTasks(
  db: Kysely<HubDatabase>,
  endpointId: string,
  failure: { readonly code: string; readonly message: string; readonly count: number },
): Promise<StoreOutcome[]> {
  const open = await db
    .selectFrom('tasks')
    .select('id')
    .where('endpoint_id', '=', endpointId)
    .where('completed_at', 'is', null)
    .limit(failure.count)
    .execute();
  if (open.length === 0) {
    return [];
  }
  return await storeResults(
    db,
    open.map(({ id }) => hubFailure(id, endpointId, failure)),
  );
}

/** A failed result in the hub's own name. */
export function hubFailure(
  taskId: string,
  endpointId: string,
  { code, message }: { readonly code: string; readonly message: string },
): IncomingResult {
  return {
    taskId,
    endpointId,
    isError: true,
    body: packResult({
      task_id: taskId,
      data: message,
      details: null,
      error_details: { code, user_message: message },
      task_statuses: null,
    }),
    output: null,
  };
}

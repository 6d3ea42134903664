/** Stores what heartbeats say. All times are the database's, so that clocks of endpoints do not matter. */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { TaskState } from '../../protocol/task-state.ts';
import type { HubDatabase } from '../db/schema.ts';

/** Last report of an endpoint. */
export interface EndpointReport {
  readonly endpointId: string;
  /** JSON text of `global_state`, as jsonb takes it. */
  readonly stateText: string;
  /** undefined: as before. */
  readonly periodS: number | undefined;
  /** False once the endpoint says that it stops. */
  readonly isActive: boolean;
}

/** How far an endpoint says that a task is. */
export interface TaskProgress {
  readonly taskId: string;
  readonly endpointId: string;
  readonly state: TaskState;
}

/** A lease lives for so many heartbeats that do not come, and never less than so many seconds. */
const LEASE_PERIODS = 3;
const LEASE_S_MIN = 5;

/** In the order in which a task goes through them; a task never goes back. */
const PROGRESS_STATES = [
  'waiting-for-ep',
  'received',
  'waiting-for-nodes',
  'waiting-for-launch',
  'running',
] as const satisfies readonly TaskState[];

/** Statements that take more than this are cut. */
const TASKS_MAX = 5_000;

/** Notes that endpoints are there; no endpoint may stand in it twice. */
export async function storeEndpointReports(
  db: Kysely<HubDatabase>,
  reports: readonly EndpointReport[],
): Promise<void> {
  if (reports.length === 0) {
    return;
  }
  await sql`
    with incoming as (
      select * from unnest(
        ${reports.map(({ endpointId }) => endpointId)}::uuid[],
        ${reports.map(({ stateText }) => stateText)}::text[],
        ${reports.map(({ periodS }) => periodS ?? null)}::float8[],
        ${reports.map(({ isActive }) => isActive)}::boolean[]
      ) as i(id, report, period_s, is_active)
    ), held as (
      -- A registration holds its row for as long as the broker takes: the others must not wait for it.
      select e.id, coalesce(i.period_s, e.heartbeat_period_s) as period_s, i.is_active, i.report
      from endpoints e join incoming i on i.id = e.id
      where e.deleted_at is null and (e.locked_until is null or e.locked_until <= now())
      order by e.id for update of e skip locked
    )
    update endpoints e set
      last_heartbeat_at = now(),
      status_report = h.report::jsonb,
      heartbeat_period_s = h.period_s,
      active = h.is_active,
      lease_expires_at = case when h.is_active and e.lease_expires_at is not null
        then now() + greatest(${LEASE_PERIODS} * h.period_s, ${LEASE_S_MIN}) * interval '1 second'
        else e.lease_expires_at end
    from held h where e.id = h.id`.execute(db);
}

/** Notes how far tasks are. */
export async function storeTaskProgress(
  db: Kysely<HubDatabase>,
  progress: readonly TaskProgress[],
): Promise<void> {
  const furthest = new Map<string, { taskId: string; endpointId: string; rank: number }>();
  for (const { taskId, endpointId, state } of progress) {
    const known: readonly TaskState[] = PROGRESS_STATES;
    const rank = known.indexOf(state === 'execution-start' ? 'running' : state);
    const key = `${endpointId} ${taskId}`;
    if (rank > (furthest.get(key)?.rank ?? 0)) {
      furthest.set(key, { taskId, endpointId, rank });
    }
  }
  const steps = [...furthest.values()];
  for (let start = 0; start < steps.length; start += TASKS_MAX) {
    await storeSteps(db, steps.slice(start, start + TASKS_MAX));
  }
}

async function storeSteps(
  db: Kysely<HubDatabase>,
  steps: readonly { taskId: string; endpointId: string; rank: number }[],
): Promise<void> {
  // Ranks are those of PROGRESS_STATES, which PostgreSQL counts from one.
  await sql`
    with incoming as (
      select * from unnest(
        ${steps.map(({ taskId }) => taskId)}::uuid[],
        ${steps.map(({ endpointId }) => endpointId)}::uuid[],
        ${steps.map(({ rank }) => rank + 1)}::int[]
      ) as i(id, endpoint_id, rank)
    ), held as (
      select t.id, i.rank from tasks t
      join incoming i on i.id = t.id and i.endpoint_id = t.endpoint_id
      -- Not "is null": on a table that just grew the planner would read the whole index of open tasks.
      where coalesce(t.completed_at, 'infinity') = 'infinity'
        and coalesce(array_position(${[...PROGRESS_STATES]}::text[], t.state), 1) < i.rank
        -- One that was given back and waits for being published again: what is said of it is from before.
        and (t.published_at is not null or t.handed_back_epoch is null)
      order by t.id for update of t
    )
    update tasks t set
      state = (${[...PROGRESS_STATES]}::text[])[h.rank],
      published_at = coalesce(t.published_at, now()),
      received_at = coalesce(t.received_at, now()),
      started_at = case when h.rank = ${PROGRESS_STATES.length} then coalesce(t.started_at, now()) else t.started_at end
    from held h where t.id = h.id`.execute(db);
}

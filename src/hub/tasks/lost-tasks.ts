/**
 * Tasks that the hub gives up.
 *
 *   LOST          received by an endpoint that has been gone for too long. Provisional: the endpoint may come back with what it
 *                 holds, and then exactly one real result replaces this one.
 *   TASK_EXPIRED  nobody received it within the time that a task may wait. Final.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { HubDatabase } from '../db/schema.ts';
import { hubFailure } from './result-store.ts';
import type { IncomingResult } from './result-store.ts';

interface GivenUpRow {
  readonly id: string;
  readonly endpoint_id: string;
  readonly name: string;
  readonly gone_since: Date;
}

/** Failures of up to `count` tasks whose endpoint has not been heard of for `lostAfterMs`. */
export async function lostTasks(
  db: Kysely<HubDatabase>,
  { lostAfterMs, count }: { readonly lostAfterMs: number; readonly count: number },
): Promise<IncomingResult[]> {
  const { rows } = await sql<GivenUpRow>`
    with gone as (
      select id, name, greatest(lease_expires_at, last_heartbeat_at, created_at) as gone_since from endpoints
      where deleted_at is null
        and greatest(lease_expires_at, last_heartbeat_at, created_at) < now() - ${lostAfterMs} * interval '1 millisecond'
    )
    select t.id, t.endpoint_id, gone.name, gone.gone_since from gone join tasks t on t.endpoint_id = gone.id
    where t.completed_at is null and t.received_at < now() - ${lostAfterMs} * interval '1 millisecond'
    limit ${count}`.execute(db);
  return rows.map(({ id, endpoint_id: endpointId, name, gone_since: since }) => ({
    ...hubFailure(id, endpointId, {
      code: 'LOST',
      message:
        `Endpoint ${name} (${endpointId}) received this task and has not been heard of since ${since.toISOString()}. ` +
        'Should it come back with a result, that one takes the place of this failure; ask its operator, or submit the task elsewhere',
    }),
    isProvisional: true,
  }));
}

/** Failures of up to `count` tasks that nobody received within `ttlMs`. */
export async function expiredTasks(
  db: Kysely<HubDatabase>,
  { ttlMs, count }: { readonly ttlMs: number; readonly count: number },
): Promise<IncomingResult[]> {
  const { rows } = await sql<{ id: string; endpoint_id: string; created_at: Date }>`
    select id, endpoint_id, created_at from tasks
    where completed_at is null and received_at is null
      and created_at < now() - ${ttlMs} * interval '1 millisecond'
    limit ${count}`.execute(db);
  return rows.map(({ id, endpoint_id: endpointId, created_at: createdAt }) => ({
    ...hubFailure(id, endpointId, {
      code: 'TASK_EXPIRED',
      message:
        `No agent of endpoint ${endpointId} has taken this task since ${createdAt.toISOString()}, which is longer than a task may ` +
        'wait. Start the agent, or choose another endpoint, and submit it again',
    }),
    isOfUnreceived: true,
  }));
}

/**
 * Tasks that an agent gives back: it had acked them and has not started them, and now it stops or was fenced.
 *
 * They wait for the endpoint again, as if nobody had received them, and are published again. A request may be repeated: under one
 * lease epoch a task is given back once, so that a late repetition does not take it from whoever holds the endpoint by then.
 *
 * News from before may come after it: that the first publish was confirmed (task-rows.ts), that the task was received
 * (heartbeat-store.ts). Neither may make it look as if it were on its way.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { HubDatabase } from '../db/schema.ts';

/** What an agent gives back. */
export interface HandBack {
  readonly endpointId: string;
  /** Lease epoch under which the agent acked the tasks. */
  readonly epoch: number;
  readonly taskIds: readonly string[];
}

/** Notes that the tasks wait again; returns how many of them do. Finished tasks and those of other endpoints are left alone. */
export async function storeHandBack(
  db: Kysely<HubDatabase>,
  { endpointId, epoch, taskIds }: HandBack,
): Promise<number> {
  const { numAffectedRows } = await sql`
    with held as (
      select id from tasks
      where id = any(${taskIds}::uuid[]) and endpoint_id = ${endpointId}::uuid and completed_at is null
        and coalesce(handed_back_epoch, -1) < ${epoch}
      order by id for update
    )
    update tasks set state = 'waiting-for-ep', published_at = null, received_at = null, started_at = null,
      handed_back_epoch = ${epoch}
    from held where tasks.id = held.id`.execute(db);
  return Number(numAffectedRows ?? 0);
}

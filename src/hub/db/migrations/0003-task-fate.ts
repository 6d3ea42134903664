/**
 * What the hub needs to know to give tasks back, to give them up, and to let a fenced agent finish.
 *
 *   tasks.provisional         the hub gave the task up; one real result may still replace that
 *   tasks.handed_back_epoch   lease epoch under which an agent last gave the task back unstarted
 *   revoked_clients           clients that were deleted and whose broker users are still to go
 *   fenced_leases             former holders that may still publish results, and nothing else
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

/** Applies the migration. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table tasks
    add column provisional boolean not null default false,
    add column handed_back_epoch integer`.execute(db);
  await sql`create table fenced_leases (
    endpoint_id uuid not null references endpoints (id) on delete cascade,
    epoch integer not null,
    fenced_at timestamptz not null default now(),
    primary key (endpoint_id, epoch)
  )`.execute(db);
  await sql`create table revoked_clients (
    id uuid primary key,
    revoked_at timestamptz not null default now()
  )`.execute(db);
}

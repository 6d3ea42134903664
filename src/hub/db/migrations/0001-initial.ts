/** First schema. Forward only: a later change is a new file, never an edit of this one. */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

/** Applies the migration. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) {
    await sql.raw(statement).execute(db);
  }
}

const STATEMENTS = [
  `create table clients (
    id uuid primary key,
    name text not null unique,
    secret_hash text not null,
    endpoint_only boolean not null default false,
    created_at timestamptz not null default now()
  )`,
  `create table access_tokens (
    token_hash bytea primary key,
    client_id uuid not null references clients (id) on delete cascade,
    scope text not null,
    resource_server text not null,
    expires_at timestamptz not null
  )`,
  `create index access_tokens_expiry on access_tokens (expires_at)`,
  `create table functions (
    id uuid primary key,
    owner_id uuid not null,
    name text not null,
    code text not null,
    description text,
    public boolean not null default false,
    meta jsonb not null default '{}',
    created_at timestamptz not null default now(),
    deleted_at timestamptz
  )`,
  `create table endpoints (
    id uuid primary key,
    owner_id uuid not null,
    name text not null,
    display_name text,
    metadata jsonb not null default '{}',
    allowed_functions uuid[],
    public boolean not null default false,
    queue_suffix text not null,
    lease_epoch integer not null default 0,
    lease_holder jsonb,
    lease_expires_at timestamptz,
    last_heartbeat_at timestamptz,
    status_report jsonb,
    heartbeat_period_s double precision not null default 30,
    active boolean not null default false,
    locked_until timestamptz,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
  )`,
  `create index endpoints_owner on endpoints (owner_id) where deleted_at is null`,
  `create table task_groups (
    id uuid primary key,
    owner_id uuid not null,
    has_queue boolean not null default false,
    created_at timestamptz not null default now()
  )`,
  `create table tasks (
    id uuid primary key,
    group_id uuid not null references task_groups (id) on delete cascade,
    owner_id uuid not null,
    endpoint_id uuid not null,
    function_id uuid not null,
    payload text not null,
    options jsonb,
    state text not null default 'waiting-for-ep',
    created_at timestamptz not null default now(),
    published_at timestamptz,
    received_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    streamed_at timestamptz,
    result bytea,
    output jsonb
  )`,
  `create index tasks_group on tasks (group_id)`,
  `create index tasks_unpublished on tasks (created_at) where published_at is null and completed_at is null`,
  `create index tasks_unstreamed on tasks (completed_at) where completed_at is not null and streamed_at is null`,
  `create index tasks_open_by_endpoint on tasks (endpoint_id) where completed_at is null`,
  // Task bodies are compressed on the way in by default (pglz), which costs more than it saves for base64.
  `alter table tasks alter column result set storage external`,
  `create table submissions (
    owner_id uuid not null,
    idempotency_key text not null,
    request_hash bytea not null,
    response jsonb not null,
    created_at timestamptz not null default now(),
    primary key (owner_id, idempotency_key)
  )`,
  `create table hub_secrets (
    name text primary key,
    value bytea not null
  )`,
];

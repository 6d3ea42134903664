/**
 * Groups of people, whom functions, endpoints and environments are shared with, and what searching for functions needs.
 *
 *   shared_with     groups that may use a thing; the thing and the list are read in one row
 *   readers         who finds a function: its owner, its groups, and the nil UUID when it is public
 *   search          the words of a function, of its name first
 *   may_be_shared   false for an endpoint whose agent runs functions as its own user and whose operator has not allowed it
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

/** Applies the migration. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) {
    await sql.raw(statement).execute(db);
  }
}

/** ASCII punctuation: the parser would take `numpy.linalg` for the name of a host, and `a/b` for a file. */
const PUNCTUATION = `'!"#$%&''()*+,-./:;<=>?@[\\]^_\`{|}~', repeat(' ', 32)`;

/** Both as written and as English stems; a text that is too long is found by its beginning. */
function words(column: string, weight: string): string {
  return ['simple', 'english']
    .map((config) => `setweight(to_tsvector('pg_catalog.${config}', ${column}), '${weight}')`)
    .join(' || ');
}

const STATEMENTS: readonly string[] = [
  `create table groups (
    id uuid primary key,
    name text not null,
    description text,
    created_by uuid,
    claim_issuer text,
    claim_name text,
    created_at timestamptz not null default now(),
    check ((claim_issuer is null) = (claim_name is null)),
    unique (claim_issuer, claim_name)
  )`,
  `create table group_members (
    group_id uuid not null references groups (id) on delete cascade,
    identity_id uuid not null,
    role text not null check (role in ('admin', 'manager', 'member')),
    since timestamptz not null default now(),
    primary key (group_id, identity_id)
  )`,
  `create index group_members_identity on group_members (identity_id)`,
  `create table environments (
    id uuid primary key,
    owner_id uuid not null,
    type text not null,
    location text not null,
    name text not null,
    description text,
    public boolean not null default false,
    shared_with uuid[] not null default '{}',
    created_at timestamptz not null default now(),
    deleted_at timestamptz
  )`,
  `create index environments_owner on environments (owner_id) where deleted_at is null`,
  `create function function_search_document(name text, description text, doc text) returns tsvector
    language sql immutable parallel safe as $$
      select ${words('w.name', 'A')} || ${words('w.description', 'B')} || ${words('w.doc', 'C')}
      from (select
        translate(name || ' ' || regexp_replace(name, '([a-z0-9])([A-Z])', '\\1 \\2', 'g'), ${PUNCTUATION}) as name,
        translate(left(coalesce(description, ''), 10000), ${PUNCTUATION}) as description,
        translate(left(coalesce(doc, ''), 10000), ${PUNCTUATION}) as doc
      ) as w
    $$`,
  `alter table functions
    add column doc text,
    add column searchable boolean not null default true,
    add column environment_id uuid references environments (id),
    add column shared_with uuid[] not null default '{}',
    add column readers uuid[] not null generated always as (
      shared_with || owner_id || case when public then '{00000000-0000-0000-0000-000000000000}'::uuid[] else '{}'::uuid[] end
    ) stored,
    add column search tsvector not null generated always as (function_search_document(name, description, doc)) stored`,
  // A long list of pending entries would be read by every search.
  `create index functions_search on functions using gin (search, readers) with (gin_pending_list_limit = 64)
    where deleted_at is null and searchable`,
  `create index functions_name on functions (lower(name)) where deleted_at is null and searchable`,
  `create index functions_owner on functions (owner_id, created_at) where deleted_at is null`,
  `alter table endpoints
    add column shared_with uuid[] not null default '{}',
    add column may_be_shared boolean not null generated always as (
      coalesce(metadata ->> 'isolation', case when lease_holder is null then 'unknown' else 'user' end) <> 'user'
      or coalesce(metadata ->> 'share_without_isolation', 'false') = 'true'
    ) stored`,
];

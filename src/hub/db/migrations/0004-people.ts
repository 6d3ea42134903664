/**
 * People: who they are, and what they signed in with.
 *
 *   people                 those that the hub signs in itself (a password) and those of other issuers (issuer and subject)
 *   logins                 one row for each time that somebody signed in; whoever deletes it ends every token of that login
 *   refresh_tokens         one at a time for each login and resource server; those before it are kept to recognise a stolen one
 *   authorization_codes    what a browser carries back to the application
 *   device_codes           what a terminal waits with until somebody lets it in elsewhere
 *
 * Clients stay where they are: an identity is a row of `clients` or of `people`, and an access token belongs to one of them.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

/** Applies the migration. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) {
    await sql.raw(statement).execute(db);
  }
}

const STATEMENTS = [
  `create table people (
    id uuid primary key,
    username text not null unique,
    name text not null,
    email text,
    password_hash text,
    issuer text,
    subject text,
    disabled boolean not null default false,
    created_at timestamptz not null default now(),
    unique (issuer, subject),
    check ((issuer is null) = (subject is null))
  )`,
  `create table logins (
    id uuid primary key,
    person_id uuid not null references people (id) on delete cascade,
    app_id uuid not null,
    created_at timestamptz not null default now()
  )`,
  `create index logins_person on logins (person_id)`,
  `alter table access_tokens
    alter column client_id drop not null,
    add column login_id uuid references logins (id) on delete cascade,
    add check ((client_id is null) <> (login_id is null))`,
  `create index access_tokens_login on access_tokens (login_id) where login_id is not null`,
  `create table refresh_tokens (
    token_hash bytea primary key,
    login_id uuid not null references logins (id) on delete cascade,
    scope text not null,
    resource_server text not null,
    expires_at timestamptz not null,
    replaced_at timestamptz
  )`,
  `create index refresh_tokens_login on refresh_tokens (login_id)`,
  `create table authorization_codes (
    code_hash bytea primary key,
    app_id uuid not null,
    person_id uuid not null references people (id) on delete cascade,
    redirect_uri text not null,
    code_challenge text not null,
    scope text not null,
    nonce text,
    expires_at timestamptz not null,
    login_id uuid references logins (id) on delete cascade
  )`,
  `create table device_codes (
    device_hash bytea primary key,
    user_code text not null unique,
    app_id uuid not null,
    scope text not null,
    expires_at timestamptz not null,
    interval_s integer not null,
    polled_at timestamptz,
    person_id uuid references people (id) on delete cascade,
    denied boolean not null default false
  )`,
];

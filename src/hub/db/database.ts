/**
 * Opens the database and brings its schema up to date.
 *
 * Migrations run under Kysely's advisory lock, so any number of hub processes may start at once: one migrates, the
 * others wait and find nothing left to do.
 */
import { Kysely, Migrator, PostgresDialect, sql } from 'kysely';
import pg from 'pg';

import { systemClock } from '../../base/clock.ts';
import { ConflictError, UnavailableError, errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { redactUrl } from '../../base/redact-url.ts';
import { trustOptions } from '../../transport/tls/trust.ts';
import { MIGRATIONS } from './migrations/index.ts';
import type { HubDatabase } from './schema.ts';

/** Connections one process holds at most; PostgreSQL's own default limit is 100 for all of them. */
const POOL_CONNECTIONS_MAX = 16;

/** How long a query may wait for a connection before it fails, in milliseconds. */
const CONNECT_TIMEOUT_MS = 5000;

/** Longest statement, in milliseconds: nothing on the API's path may hold a connection for longer. */
const STATEMENT_TIMEOUT_MS = 30_000;

/**
 * Longest silence of the server while a statement runs: it has ended the statement by then, so this is a connection that nobody
 * answers on any more, as behind a firewall that forgot it. TCP would go on hoping for a quarter of an hour.
 */
const ANSWER_MS_MAX = STATEMENT_TIMEOUT_MS + 5_000;

/** Options of {@link openDatabase}. */
export interface DatabaseOptions {
  readonly url: string;
  readonly logger: Logger;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  /** How long a statement may go without an answer before its connection counts as lost. @defaultValue 35 s */
  readonly answerMs?: number;
}

/** An open database, for those who need not know what it is made with. */
export type OpenDatabase = Kysely<HubDatabase>;

/** How databases that are open were opened, for migrations: these take as long as they take. */
const OPENED = new WeakMap<Kysely<HubDatabase>, DatabaseOptions>();

/** Opens a pool; connects lazily. `destroy()` of what is returned closes it. */
export function openDatabase(options: DatabaseOptions): Kysely<HubDatabase> {
  const db = openPool(options, true);
  OPENED.set(db, options);
  return db;
}

function openPool(options: DatabaseOptions, isBounded: boolean): Kysely<HubDatabase> {
  const pool = new pg.Pool({
    ...connectionTo(options.url, options.ca),
    max: POOL_CONNECTIONS_MAX,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    ...(isBounded ? { statement_timeout: STATEMENT_TIMEOUT_MS } : { keepAlive: true }),
    application_name: 'outpost-hub',
  });
  // An idle connection that breaks is replaced at the next query; without a listener it would end the process.
  pool.on('error', (error) => {
    options.logger.warn({ err: error }, 'an idle database connection broke');
  });
  // The same for one that is in use and breaks between two statements of a transaction: the next statement fails and says so.
  pool.on('connect', (client) => {
    client.on('error', (error) => {
      options.logger.debug({ err: error }, 'a database connection broke');
    });
    if (isBounded) {
      boundAnswers(client, options.answerMs ?? ANSWER_MS_MAX);
    }
  });
  return new Kysely<HubDatabase>({ dialect: new PostgresDialect({ pool }) });
}

/** Drops the connection under a statement that gets no answer: the driver's own limit would leave it in the pool, out of step. */
function boundAnswers(client: pg.PoolClient, limitMs: number): void {
  const query = client.query.bind(client) as (...args: readonly unknown[]) => unknown;
  const bounded = (...args: readonly unknown[]): unknown => {
    const answer = query(...args);
    if (answer instanceof Promise) {
      const timer = systemClock.after(limitMs, () => {
        client.connection.stream.destroy();
      });
      const end = (): void => {
        timer.cancel();
      };
      answer.then(end, end);
    }
    return answer;
  };
  client.query = bounded as typeof client.query;
}

const VERIFYING_MODES = new Set(['require', 'verify-ca', 'verify-full']);

/**
 * Where to connect, and whom to believe there. Every mode but `disable` and `no-verify` verifies the certificate and the host name;
 * an authority that the URL itself names (`sslrootcert`) is the driver's affair.
 */
function connectionTo(url: string, ca: string | undefined): pg.PoolConfig {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const { searchParams, hostname } = parsed ?? {};
  const mode = searchParams?.get('sslmode') ?? '';
  if (
    parsed === undefined ||
    !VERIFYING_MODES.has(mode) ||
    searchParams?.has('sslrootcert') === true
  ) {
    return { connectionString: url };
  }
  // The driver would let the URL win over what is said here.
  parsed.searchParams.delete('sslmode');
  // Without it the driver compares a certificate with "localhost" when the host is an address.
  const host = hostname?.replace(/^\[|\]$/g, '') ?? '';
  return { connectionString: parsed.href, ssl: { ...trustOptions(ca), host } };
}

/** @throws UnavailableError DATABASE_UNREACHABLE naming the URL and the variable to set. */
export async function checkDatabase(db: Kysely<HubDatabase>, url: string): Promise<void> {
  try {
    await sql`select 1`.execute(db);
  } catch (error) {
    throw new UnavailableError(
      'DATABASE_UNREACHABLE',
      `the database at ${redactUrl(url)} cannot be reached: ${errorText(error)}. ` +
        'Start PostgreSQL there, or set OUTPOST_DATABASE_URL to one that runs.',
      { cause: error },
    );
  }
}

/**
 * Applies what is missing and returns the names of what was applied. It takes minutes where a table of many rows is written anew,
 * and has connections of its own, for which the bounds of openDatabase do not hold.
 *
 * @throws ConflictError PRECONDITION_FAILED when the database was made by a newer version or a migration fails.
 */
export async function migrateDatabase(db: Kysely<HubDatabase>): Promise<string[]> {
  const options = OPENED.get(db);
  if (options === undefined) {
    return await migrate(db);
  }
  const unbounded = openPool(options, false);
  try {
    return await migrate(unbounded, options.logger);
  } finally {
    await unbounded.destroy();
  }
}

async function migrate(db: Kysely<HubDatabase>, logger?: Logger): Promise<string[]> {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => await Promise.resolve({ ...MIGRATIONS }) },
  });
  const known = await migrator.getMigrations();
  const missing = known.filter(({ executedAt }) => executedAt === undefined);
  if (missing.length > 0 && missing.length < known.length) {
    logger?.info(
      { migrations: missing.map(({ name }) => name) },
      'bringing the database up to date, which takes minutes when there is much in it',
    );
  }
  const { error, results } = await migrator.migrateToLatest();
  if (error !== undefined) {
    const failed = results?.find((result) => result.status === 'Error')?.migrationName;
    throw new ConflictError(
      'PRECONDITION_FAILED',
      failed === undefined
        ? `the database does not fit this version of the hub: ${errorText(error)}`
        : `migration ${failed} failed and was rolled back: ${errorText(error)}`,
      { cause: error },
    );
  }
  return (results ?? []).map((result) => result.migrationName);
}

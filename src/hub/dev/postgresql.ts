/**
 * A private PostgreSQL in the foreground: TCP on 127.0.0.1 with a password, and no Unix socket at all, because the path of one
 * ends at 107 bytes and state directories are deep.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import pg from 'pg';

import { BoundedLog } from './bounded-log.ts';
import type { InstalledDatabase } from './installed-servers.ts';
import type { ServerContext } from './rabbitmq.ts';
import { clearPostmasterPid } from './running-record.ts';
import { ownDirectory, writeFor } from './server-directory.ts';
import { KILL_LIMIT_MS, runTied, ServerProcess } from './server-process.ts';
import type { StopRung } from './server-process.ts';

const INITDB_LIMIT_MS = 60_000;
/** Recovery after a crash replays the log first. */
const READY_LIMIT_MS = 90_000;
const DATABASE_NAME = 'outpost';

/** The running database. */
export interface PrivateDatabase {
  readonly databaseUrl: string;
  readonly database: ServerProcess;
}

/** Fast shutdown, then immediate shutdown (recovery at the next start), then the kernel's. */
export const DATABASE_STOP: readonly StopRung[] = [
  { signal: 'SIGINT', waitMs: 10_000 },
  { signal: 'SIGQUIT', waitMs: 6_000 },
  { signal: 'SIGKILL', waitMs: KILL_LIMIT_MS },
];
/** Immediate shutdown: the data need recovery afterwards, or are thrown away. */
export const DATABASE_STOP_NOW: readonly StopRung[] = DATABASE_STOP.slice(1);

async function initialise(
  installed: InstalledDatabase,
  context: ServerContext,
  directory: string,
  dataDirectory: string,
): Promise<void> {
  // Made beside and renamed, so that a start that was cut short leaves no half of a database.
  const fresh = join(directory, 'data.new');
  const passwordFile = join(directory, 'initial-password');
  rmSync(fresh, { recursive: true, force: true });
  writeFor(installed.user, passwordFile, `${context.secrets.password}\n`);
  try {
    await runTied(
      {
        title: 'initdb',
        command: join(installed.binDirectory, 'initdb'),
        args: [
          ...['-D', fresh, '-U', 'outpost', `--pwfile=${passwordFile}`],
          ...['--auth=scram-sha-256', '--encoding=UTF8', '--locale=C', '--no-sync'],
        ],
        env: { HOME: directory },
        directory,
        user: installed.user,
        parentDeathSignal: 'KILL',
      },
      context.clock,
      INITDB_LIMIT_MS,
    );
  } finally {
    rmSync(passwordFile, { force: true });
  }
  renameSync(fresh, dataDirectory);
}

/** Makes our database unless it is there. */
async function ensureDatabase(url: string): Promise<void> {
  const client = new pg.Client({
    connectionString: `${url}/postgres`,
    connectionTimeoutMillis: 10_000,
  });
  await client.connect();
  try {
    const found = await client.query('select 1 from pg_database where datname = $1', [
      DATABASE_NAME,
    ]);
    if (found.rowCount === 0) {
      await client.query(`create database ${DATABASE_NAME}`);
    }
  } finally {
    await client.end();
  }
}

/** Starts the database; resolves when it accepts clients. @throws UnavailableError START_FAILED. */
export async function startDatabase(
  installed: InstalledDatabase,
  context: ServerContext,
): Promise<PrivateDatabase> {
  const { secrets, clock } = context;
  const directory = ownDirectory(join(context.root, 'postgresql'), installed.user);
  const dataDirectory = join(directory, 'data');
  if (existsSync(dataDirectory)) {
    await clearPostmasterPid(dataDirectory, clock, context.logger);
  } else {
    await initialise(installed, context, directory, dataDirectory);
  }
  const settings = {
    listen_addresses: '127.0.0.1',
    port: `${secrets.ports.database}`,
    unix_socket_directories: '',
    max_connections: '200',
    logging_collector: 'off',
    log_destination: 'stderr',
    log_min_messages: 'warning',
    // A statement may carry what people submitted; it has no business in a log.
    log_min_error_statement: 'panic',
  };
  const database = await ServerProcess.spawn(
    {
      title: 'PostgreSQL',
      command: join(installed.binDirectory, 'postgres'),
      args: [
        '-D',
        dataDirectory,
        ...Object.entries(settings).flatMap(([k, v]) => ['-c', `${k}=${v}`]),
      ],
      env: { HOME: directory },
      directory,
      user: installed.user,
      // A fast shutdown: the data stay clean even when we are killed.
      parentDeathSignal: 'INT',
      log: new BoundedLog(join(context.root, 'postgresql.log')),
    },
    clock,
  );
  context.record.add('PostgreSQL', database.identity);
  const url = `postgresql://outpost:${secrets.password}@127.0.0.1:${secrets.ports.database}`;
  try {
    await database.printed('ready to accept connections', READY_LIMIT_MS, context.signal);
    await ensureDatabase(url);
  } catch (error) {
    await database.stop(DATABASE_STOP);
    throw error;
  }
  return { databaseUrl: `${url}/${DATABASE_NAME}`, database };
}

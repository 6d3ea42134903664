/**
 * Finds Debian's RabbitMQ and PostgreSQL and the users that their packages made. Nothing is installed or changed here.
 */
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { errorCode, UnavailableError } from '../../base/errors.ts';

/** Search path of the servers: the environment of the caller is not handed to them. */
export const SERVER_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** A user that a server runs as. */
export interface ServerUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Programs of the broker. */
export interface InstalledBroker {
  readonly serverScript: string;
  readonly epmd: string;
  /** Set when the caller is root and must not run the server as itself. */
  readonly user: ServerUser | undefined;
}

/** Programs of the database. */
export interface InstalledDatabase {
  readonly binDirectory: string;
  readonly user: ServerUser | undefined;
}

function notInstalled(what: string): UnavailableError {
  return new UnavailableError(
    'NOT_INSTALLED',
    `${what} not found. Install the servers with: apt-get install -y --no-install-recommends rabbitmq-server postgresql\n` +
      'or set OUTPOST_AMQP_URL / OUTPOST_AMQP_MANAGEMENT_URL / OUTPOST_DATABASE_URL to servers that run elsewhere.',
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return [];
    }
    throw error;
  }
}

/** Newest first, comparing the numbers within the names. */
function newestFirst(names: string[]): string[] {
  return names.toSorted((a, b) => b.localeCompare(a, 'en', { numeric: true }));
}

function executableOnPath(name: string): string | undefined {
  return SERVER_PATH.split(':')
    .map((directory) => join(directory, name))
    .find(isExecutable);
}

/** Path of setpriv, which ties a server's life to ours and drops root's rights. */
export function findSetpriv(): string {
  const path = executableOnPath('setpriv');
  if (path === undefined) {
    throw notInstalled('setpriv (package util-linux)');
  }
  return path;
}

/** The packaged user to drop to, or undefined when the caller is an ordinary user. */
function dropTo(name: string): ServerUser | undefined {
  if (process.getuid?.() !== 0) {
    return undefined;
  }
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [entry, , uid, gid] = line.split(':');
    if (entry === name && uid !== undefined && gid !== undefined) {
      return { name, uid: Number(uid), gid: Number(gid) };
    }
  }
  throw notInstalled(`The user "${name}" of the Debian package is`);
}

/** Finds RabbitMQ. @throws UnavailableError NOT_INSTALLED. */
export function findBroker(): InstalledBroker {
  const base = '/usr/lib/rabbitmq/lib';
  const serverScript = newestFirst(namesIn(base))
    .filter((name) => name.startsWith('rabbitmq_server-'))
    // Not /usr/sbin/rabbitmq-server: that wrapper only accepts root or the user rabbitmq.
    .map((name) => join(base, name, 'sbin', 'rabbitmq-server'))
    .find(isExecutable);
  if (serverScript === undefined) {
    throw notInstalled('RabbitMQ');
  }
  const epmd =
    executableOnPath('epmd') ??
    newestFirst(namesIn('/usr/lib/erlang'))
      .filter((name) => name.startsWith('erts-'))
      .map((name) => join('/usr/lib/erlang', name, 'bin', 'epmd'))
      .find(isExecutable);
  if (epmd === undefined) {
    throw notInstalled("Erlang's epmd");
  }
  return { serverScript, epmd, user: dropTo('rabbitmq') };
}

/** Finds the newest PostgreSQL. @throws UnavailableError NOT_INSTALLED. */
export function findDatabase(): InstalledDatabase {
  const base = '/usr/lib/postgresql';
  const binDirectory = newestFirst(namesIn(base))
    .map((version) => join(base, version, 'bin'))
    .find((bin) => isExecutable(join(bin, 'postgres')) && isExecutable(join(bin, 'initdb')));
  if (binDirectory === undefined) {
    throw notInstalled('PostgreSQL');
  }
  return { binDirectory, user: dropTo('postgres') };
}

/**
 * Where the private servers keep what they must remember, and who may look at it.
 *
 *   <root>/servers.json   ports and the generated password, 0600, written once and then kept
 *   <root>/running.json   who runs the servers now and their processes, so that a later start recognises leftovers
 *   <root>/*.log          what the servers print
 *   <root>/rabbitmq/      the broker's own, 0700
 *   <root>/postgresql/    the database's own, 0700
 *
 * As root the servers run as the users of their packages. Those cannot look into a 0700 home, so the root then lies in
 * /var/lib/outpost/<hash of the wanted directory>/ instead.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';

import { errorCode, UnavailableError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { findSetpriv, SERVER_PATH } from './installed-servers.ts';
import type { ServerUser } from './installed-servers.ts';

/** Ports of one set of private servers, all on 127.0.0.1. */
export interface ServerPorts {
  readonly amqp: number;
  readonly management: number;
  readonly distribution: number;
  readonly epmd: number;
  readonly database: number;
}

/** What is remembered between runs. */
export interface ServerSecrets {
  readonly password: string;
  readonly ports: ServerPorts;
}

/** Home of the directories that ordinary places cannot hold for a root caller. */
const SHARED_ROOT = '/var/lib/outpost';
/** Below Linux' range for outgoing connections (32768 and up), so that no client socket takes a port before its server. */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;

const PORT_NAMES = ['amqp', 'management', 'distribution', 'epmd', 'database'] as const;

/** Writes a private file whole or not at all. */
export function writePrivately(path: string, text: string): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, text, { mode: 0o600 });
  renameSync(temporary, path);
}

function canTraverse(user: ServerUser, directory: string): boolean {
  const probe = spawnSync(
    findSetpriv(),
    [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups', '--', 'test', '-x', directory],
    { cwd: '/', env: { PATH: SERVER_PATH }, stdio: 'ignore' },
  );
  return probe.status === 0;
}

/** Makes the root directory; moves it where the servers' users can reach it. */
export function prepareRoot(
  dataDirectory: string,
  users: readonly (ServerUser | undefined)[],
  logger: Logger,
): string {
  const wanted = resolve(dataDirectory);
  const droppedTo = users.filter((user) => user !== undefined);
  // 0711 lets the packages' users through to their own directories without showing what else is there.
  mkdirSync(wanted, { recursive: true, mode: droppedTo.length > 0 ? 0o711 : 0o700 });
  if (droppedTo.every((user) => canTraverse(user, wanted))) {
    return wanted;
  }
  const hash = createHash('sha256').update(wanted).digest('hex').slice(0, 16);
  const root = join(SHARED_ROOT, hash);
  mkdirSync(SHARED_ROOT, { recursive: true, mode: 0o755 });
  mkdirSync(root, { recursive: true, mode: 0o711 });
  chmodSync(root, 0o711);
  logger.info(
    { dataDirectory: root, wanted, users: droppedTo.map((user) => user.name) },
    'private servers keep their data here, because their users cannot enter the wanted directory',
  );
  return root;
}

/** Makes a server's own directory under the root, 0700, owned by the user it runs as. */
export function ownDirectory(path: string, user: ServerUser | undefined): string {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (user !== undefined) {
    chownSync(path, user.uid, user.gid);
  }
  return path;
}

/** Writes a file that only the server's user may read. */
export function writeFor(user: ServerUser | undefined, path: string, text: string): void {
  writePrivately(path, text);
  if (user !== undefined) {
    chownSync(path, user.uid, user.gid);
  }
}

async function isFree(port: number): Promise<boolean> {
  return await new Promise((answer) => {
    const server = createServer();
    server.once('error', () => {
      answer(false);
    });
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      server.close(() => {
        answer(true);
      });
    });
  });
}

async function freePort(taken: ReadonlySet<number>): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    if (!taken.has(port) && (await isFree(port))) {
      return port;
    }
  }
  throw new UnavailableError(
    'PORT_IN_USE',
    `no free port on 127.0.0.1 between ${PORT_MIN} and ${PORT_MAX}; end what listens there (ss -ltnp shows it)`,
  );
}

/** Keeps the remembered ports that are still free and chooses new ones for the rest. */
async function choosePorts(remembered: Partial<ServerPorts>): Promise<ServerPorts> {
  const taken = new Set<number>();
  const chosen: Partial<Record<(typeof PORT_NAMES)[number], number>> = {};
  for (const name of PORT_NAMES) {
    const before = remembered[name];
    const port = before !== undefined && (await isFree(before)) ? before : await freePort(taken);
    taken.add(port);
    chosen[name] = port;
  }
  return chosen as ServerPorts;
}

/**
 * Reads or makes the password and the ports.
 *
 * @param forgetPorts - choose new ports all the same, after a start that lost one to somebody else.
 */
export async function loadSecrets(root: string, forgetPorts: boolean): Promise<ServerSecrets> {
  const path = join(root, 'servers.json');
  let remembered: ServerSecrets | undefined;
  try {
    remembered = JSON.parse(readFileSync(path, 'utf8')) as ServerSecrets;
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') {
      throw new UnavailableError(
        'START_FAILED',
        `${path} cannot be read; it holds the password of the private servers. To start afresh (this deletes their data): rm -r ${root}`,
        { cause: error },
      );
    }
    const leftover = ['rabbitmq/mnesia', 'postgresql/data'].find((name) =>
      existsSync(join(root, name)),
    );
    if (leftover !== undefined) {
      throw new UnavailableError(
        'START_FAILED',
        `${path} is missing but ${join(root, leftover)} exists, and its password is lost. To start afresh (this deletes their data): rm -r ${root}`,
      );
    }
  }
  const secrets: ServerSecrets = {
    password: remembered?.password ?? randomBytes(24).toString('hex'),
    ports: await choosePorts(forgetPorts ? {} : (remembered?.ports ?? {})),
  };
  writePrivately(path, `${JSON.stringify(secrets, undefined, 2)}\n`);
  return secrets;
}

/**
 * RabbitMQ and PostgreSQL for tests.
 *
 * The suite runner (`with-services.ts`) starts them once and hands their addresses on in the environment; a test file asks
 * `testServices()` in a `before` and makes a virtual host and a database of its own, so that files do not see each other.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pg from 'pg';

import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { startPrivateServers } from '../../src/hub/dev/private-servers.ts';

/** Addresses of the services, with the credentials of their administrators. */
export interface TestServices {
  readonly amqpUrl: string;
  readonly managementUrl: string;
  readonly databaseUrl: string;
}

/** Services that were started here and must be stopped. */
export interface StartedServices extends TestServices {
  /** What a test process needs in its environment. */
  readonly environment: Readonly<Record<string, string>>;
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

const VARIABLES = {
  amqpUrl: 'OUTPOST_TEST_AMQP_URL',
  managementUrl: 'OUTPOST_TEST_AMQP_MANAGEMENT_URL',
  databaseUrl: 'OUTPOST_TEST_DATABASE_URL',
} as const;

/** Starts both services with fresh data in a temporary directory. */
export async function startServices(
  options: { readonly onExit?: (which: string, reason: string) => void } = {},
): Promise<StartedServices> {
  const dataDir = await mkdtemp(join(tmpdir(), 'outpost-services-'));
  // As root the servers run as other users, who must get through to their own directories.
  await chmod(dataDir, 0o711);
  const servers = await startPrivateServers({
    dataDir,
    clock: systemClock,
    logger: silentLogger,
    ...(options.onExit === undefined ? {} : { onExit: options.onExit }),
  });
  return {
    amqpUrl: servers.amqpUrl,
    managementUrl: servers.managementUrl,
    databaseUrl: servers.databaseUrl,
    environment: {
      [VARIABLES.amqpUrl]: servers.amqpUrl,
      [VARIABLES.managementUrl]: servers.managementUrl,
      [VARIABLES.databaseUrl]: servers.databaseUrl,
    },
    pids: servers.pids,
    stop: async () => {
      await servers.stop({ fast: true });
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** The services that the runner started. Fails, rather than skips, when there are none. */
export function testServices(): TestServices {
  const missing = Object.values(VARIABLES).filter((name) => (process.env[name] ?? '') === '');
  assert.ok(
    missing.length === 0,
    `${missing.join(', ')} not set: this suite needs RabbitMQ and PostgreSQL. Run it with \`npm test -- integration\`, ` +
      'or after a build with `node build/test/support/with-services.js npx mocha FILE`.',
  );
  return {
    amqpUrl: process.env[VARIABLES.amqpUrl] ?? '',
    managementUrl: process.env[VARIABLES.managementUrl] ?? '',
    databaseUrl: process.env[VARIABLES.databaseUrl] ?? '',
  };
}

/** A name that no other test file uses. */
export function uniqueName(prefix: string): string {
  return `${prefix}_${randomBytes(6).toString('hex')}`;
}

/** Calls the broker's management API; the credentials stand in the URL. */
export async function managementRequest(
  managementUrl: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  const url = new URL(managementUrl);
  const authorization = Buffer.from(
    `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`,
  ).toString('base64');
  const response = await fetch(`${url.protocol}//${url.host}/api${path}`, {
    method,
    headers: { authorization: `Basic ${authorization}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: HTTP ${response.status} ${text}`);
  return text === '' ? undefined : (JSON.parse(text) as unknown);
}

/** A virtual host of one test file. */
export interface TestVhost {
  /** AMQP address of the virtual host, as the administrator. */
  readonly amqpUrl: string;
  delete(): Promise<void>;
}

/** Makes a virtual host that the administrator may use. */
export async function createVhost(
  managementUrl: string,
  name = uniqueName('test'),
  amqpUrl = testServices().amqpUrl,
): Promise<TestVhost> {
  const vhost = encodeURIComponent(name);
  const user = new URL(managementUrl).username;
  await managementRequest(managementUrl, 'PUT', `/vhosts/${vhost}`, {});
  await managementRequest(managementUrl, 'PUT', `/permissions/${vhost}/${user}`, {
    configure: '.*',
    write: '.*',
    read: '.*',
  });
  const url = new URL(amqpUrl);
  url.pathname = `/${vhost}`;
  return {
    amqpUrl: url.href,
    delete: async () => {
      await managementRequest(managementUrl, 'DELETE', `/vhosts/${vhost}`);
    },
  };
}

/** A database of one test file. */
export interface TestDatabase {
  readonly databaseUrl: string;
  drop(): Promise<void>;
}

async function administer(databaseUrl: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

/** Makes an empty database. */
export async function createDatabase(
  url: string,
  name = uniqueName('test'),
): Promise<TestDatabase> {
  const quoted = pg.escapeIdentifier(name);
  await administer(url, `create database ${quoted} template template0`);
  const own = new URL(url);
  own.pathname = `/${encodeURIComponent(name)}`;
  return {
    databaseUrl: own.href,
    drop: async () => {
      // With force, because a hub that was killed leaves connections that the server has not noticed yet.
      await administer(url, `drop database if exists ${quoted} with (force)`);
    },
  };
}

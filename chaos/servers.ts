/**
 * Broker and database of a run, each restartable on its own, with the same data and ports, and the broker's tools.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { systemClock } from '../src/base/clock.ts';
import { UnavailableError } from '../src/base/errors.ts';
import { silentLogger } from '../src/base/logger.ts';
import { startPrivateServers } from '../src/hub/dev/private-servers.ts';
import type { PrivateServers } from '../src/hub/dev/private-servers.ts';
import { managementRequest } from '../test/support/services.ts';

const run = promisify(execFile);
const RABBITMQ_LIB = '/usr/lib/rabbitmq/lib';

/** One of the two servers. */
export class Server {
  readonly #kind: 'broker' | 'database';
  readonly #dataDir: string;
  #servers: PrivateServers | undefined;

  constructor(kind: 'broker' | 'database', dataDir: string) {
    this.#kind = kind;
    this.#dataDir = dataDir;
  }

  /** Resolves when it accepts clients. */
  async start(): Promise<void> {
    this.#servers = await startPrivateServers({
      dataDir: this.#dataDir,
      clock: systemClock,
      logger: silentLogger,
      broker: this.#kind === 'broker',
      database: this.#kind === 'database',
    });
  }

  get servers(): PrivateServers {
    if (this.#servers === undefined) {
      throw new UnavailableError('START_FAILED', `the ${this.#kind} is not running`);
    }
    return this.#servers;
  }

  /** A start that failed is tried again. */
  async startIfStopped(): Promise<void> {
    if (this.#servers === undefined) {
      await this.start();
    }
  }

  /** Ends it in order; the data stay. */
  async stop(): Promise<void> {
    await this.#servers?.stop();
    this.#servers = undefined;
  }

  /** Kills it; the data stay. */
  async kill(): Promise<void> {
    const [pid] = this.servers.pids;
    if (pid !== undefined) {
      process.kill(pid, 'SIGKILL');
    }
    await this.stop();
  }

  /** Ends it and deletes the data. */
  async discard(): Promise<void> {
    await this.#servers?.stop({ fast: true });
    this.#servers = undefined;
  }
}

/** Calls the broker's management API. */
export async function manage(
  broker: Server,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  return await managementRequest(broker.servers.managementUrl, method, path, body);
}

/** Runs `rabbitmqctl` against the broker. What it prints is no answer: on a busy machine it may end before all is written. */
async function rabbitmqctl(broker: Server, ...args: string[]): Promise<void> {
  const root = broker.servers.dataDirectory;
  const { ports } = JSON.parse(readFileSync(join(root, 'servers.json'), 'utf8')) as {
    ports: { epmd: number };
  };
  const version = readdirSync(RABBITMQ_LIB).find((name) => name.startsWith('rabbitmq_server-'));
  // The script of that name in sbin insists on root and changes the user; this one just runs.
  const script = join(RABBITMQ_LIB, version ?? '', 'sbin/rabbitmqctl');
  await run(script, ['--node', 'outpost@localhost', ...args], {
    env: {
      PATH: process.env['PATH'],
      LANG: 'C.UTF-8',
      HOME: join(root, 'rabbitmq/home'),
      ERL_EPMD_PORT: String(ports.epmd),
      RABBITMQ_CONF_ENV_FILE: '/dev/null',
    },
    timeout: 120_000,
  });
}

/** Evaluates an expression of Erlang inside the broker, which writes down what came of it: some faults have no other handle. */
export async function evaluate(broker: Server, expression: string): Promise<string> {
  const path = join(broker.servers.dataDirectory, 'rabbitmq/home', `said-${randomUUID()}`);
  await rabbitmqctl(
    broker,
    'eval',
    `Said = begin ${expression} end, file:write_file("${path}", io_lib:format("~w", [Said])).`,
  );
  const said = readFileSync(path, 'utf8');
  rmSync(path);
  return said;
}

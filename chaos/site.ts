/**
 * Everything of a run that scenarios share: broker, database and hub as real processes under one directory, and a client's
 * credentials.
 *
 * The name of that directory is the run's cookie: it stands in HOME of whatever is started, and HOME gets through to every
 * grandchild, however scrubbed its environment is. So what outlives a run is recognised (survivors.ts).
 */
import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { UnavailableError } from '../src/base/errors.ts';
import { eventually } from '../test/support/eventually.ts';
import { freePort } from '../test/support/free-port.ts';
import { Child } from './child.ts';
import { Server } from './servers.ts';

const CLI = fileURLToPath(new URL('../src/cli/', import.meta.url));
const HUB_START_MS = 90_000;
const HUB_STOP_MS = 60_000;
const run = promisify(execFile);

/** The shared part of a run. */
export class Site {
  /** Directory of the run; its name is the cookie. */
  readonly directory: string;
  readonly broker: Server;
  readonly database: Server;
  hubPort = 0;
  credentials = { id: '', secret: '' };
  #hub: Child | undefined;

  private constructor(directory: string) {
    this.directory = directory;
    this.broker = new Server('broker', join(directory, 'broker'));
    this.database = new Server('database', join(directory, 'database'));
  }

  static async start(): Promise<Site> {
    // Short, because sockets lie below it; open to other users, because root's servers run as those.
    const directory = mkdtempSync(join(tmpdir(), 'oc-'));
    chmodSync(directory, 0o711);
    const site = new Site(directory);
    try {
      mkdirSync(join(directory, 'home'), { mode: 0o700 });
      await Promise.all([site.broker.start(), site.database.start()]);
      site.hubPort = await freePort();
      await site.startHub();
      const { stdout } = await site.command('hub', ['client', 'create', 'chaos', '--json']);
      const client = JSON.parse(stdout) as { client_id: string; client_secret: string };
      site.credentials = { id: client.client_id, secret: client.client_secret };
      return site;
    } catch (error) {
      await site.stop();
      throw error;
    }
  }

  get hubUrl(): string {
    return `http://127.0.0.1:${this.hubPort}`;
  }

  /** Port of the broker that clients dial. */
  get amqpPort(): number {
    return Number(new URL(this.broker.servers.amqpUrl).port);
  }

  /** Ports that nobody may listen on when everything has been stopped. */
  get ports(): readonly number[] {
    const { amqpUrl, managementUrl } = this.broker.servers;
    const urls = [amqpUrl, managementUrl, this.database.servers.databaseUrl];
    return [this.hubPort, ...urls.map((url) => Number(new URL(url).port))];
  }

  /** Process environment with nothing of the caller's. */
  environment(home: string): Record<string, string | undefined> {
    return { PATH: process.env['PATH'], LANG: 'C.UTF-8', HOME: home };
  }

  /** Runs a command of ours to its end. Rejects when it fails. */
  async command(
    program: 'hub' | 'agent',
    args: readonly string[],
    env: Readonly<Record<string, string | undefined>> = this.#hubEnvironment(),
  ): Promise<{ stdout: string; stderr: string }> {
    return await run(process.execPath, [join(CLI, `${program}.js`), ...args], {
      env,
      cwd: this.directory,
    });
  }

  /** Resolves when the hub answers. */
  async startHub(): Promise<void> {
    const hub = Child.start({
      args: [process.execPath, join(CLI, 'hub.js'), 'start'],
      env: this.#hubEnvironment(),
      cwd: this.directory,
      logPath: join(this.directory, 'hub.log'),
    });
    this.#hub = hub;
    const isThere = await eventually(async () => {
      if (hub.hasEnded) {
        return false;
      }
      const { status } = await fetch(`${this.hubUrl}/v2/version`);
      if (status !== 200) {
        throw new UnavailableError('START_FAILED', `the hub answers ${status}`);
      }
      return true;
    }, HUB_START_MS);
    if (!isThere) {
      throw new UnavailableError('START_FAILED', `the hub ended; see ${this.directory}/hub.log`);
    }
  }

  get hubHasEnded(): boolean {
    return this.#hub?.hasEnded !== false;
  }

  async killHub(): Promise<void> {
    await this.#hub?.kill();
  }

  /** Stops everything in order; the histories stay until `remove`. */
  async stop(): Promise<void> {
    const hub = this.#hub;
    if (hub?.hasEnded === false) {
      hub.signal('SIGTERM');
      await hub.endsWithin(HUB_STOP_MS, 'the hub');
    }
    await Promise.all([this.broker.discard(), this.database.discard()]);
  }

  /** Deletes the directory. */
  remove(): void {
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }

  #hubEnvironment(): Record<string, string | undefined> {
    return {
      ...this.environment(join(this.directory, 'home')),
      OUTPOST_HUB_HOST: '127.0.0.1',
      OUTPOST_HUB_PORT: String(this.hubPort),
      OUTPOST_HUB_LOG_LEVEL: 'debug',
      OUTPOST_AMQP_URL: this.broker.servers.amqpUrl,
      OUTPOST_AMQP_MANAGEMENT_URL: this.broker.servers.managementUrl,
      OUTPOST_DATABASE_URL: this.database.servers.databaseUrl,
    };
  }

  /** Runs an agent program as a child; see agent-under-test.ts. */
  startAgent(
    name: string,
    env: Readonly<Record<string, string | undefined>>,
    options: {
      readonly logPath: string;
      readonly prefix: readonly string[];
      readonly flags: readonly string[];
    },
  ): Child {
    const command = [process.execPath, join(CLI, 'agent.js'), 'start', name, '--foreground'];
    const [first = process.execPath, ...rest] = [...options.prefix, ...command, ...options.flags];
    return Child.start({
      args: [first, ...rest],
      env,
      cwd: this.directory,
      logPath: options.logPath,
    });
  }

  /** Writes a file that only the owner reads. */
  writeSecret(path: string): void {
    writeFileSync(path, this.credentials.secret, { mode: 0o600 });
  }
}

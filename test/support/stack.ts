/**
 * A whole Outpost for a test file, as a user has it: the built `hub` and `agent` commands as processes, their state under a
 * temporary OUTPOST_HOME, on the services that the runner started.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';
import { createDatabase, createVhost, testServices, uniqueName } from './services.ts';

const CLI = fileURLToPath(new URL('../../src/cli/', import.meta.url));
const STOP_LIMIT_MS = 60_000;
/** A first start migrates the database; on a busy machine that takes a while. */
const START_LIMIT_MS = 100_000;
const START_LIMIT = ['--timeout', String(START_LIMIT_MS / 1000)];

/** What a command printed and how it ended. */
export interface CommandOutcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Credentials of a registered client. */
export interface ClientCredentials {
  readonly id: string;
  readonly secret: string;
}

/** Runs a program to its end. */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; input?: string; limitMs?: number } = {},
): Promise<CommandOutcome> {
  const child = spawn(program, args, {
    env: options.env,
    cwd: options.cwd,
    stdio: 'pipe',
    timeout: options.limitMs,
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  // It may end without reading; how it ended is the outcome.
  child.stdin.on('error', () => child.stdin.destroy());
  child.stdin.end(options.input ?? '');
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...output };
}

function throughPort(url: string, port: number | undefined): string {
  const through = new URL(url);
  if (port !== undefined) {
    through.port = String(port);
    through.hostname = '127.0.0.1';
  }
  return through.href;
}

/** Options of {@link startStack}. */
export interface StackOptions {
  /** Port of the hub; a free one by default. The unmodified Python SDK knows only 5000. */
  readonly port?: number;
  /** Settings of the agent, as flags of `agent configure`. */
  readonly agent?: Readonly<Record<string, string | number>>;
  /** Ports of proxies through which the hub alone reaches the broker and the database. */
  readonly hubThrough?: { readonly amqpPort: number; readonly databasePort: number };
  /** More variables of the hub. */
  readonly hub?: Readonly<Record<string, string>>;
  /** Start no agent. */
  readonly hubOnly?: boolean;
  /** Directory of the programs `hub.js` and `agent.js`; those of the test build by default. */
  readonly programs?: string;
}

/** A running hub and agent. */
export class Stack {
  readonly home: string;
  readonly hubUrl: string;
  readonly client: ClientCredentials;
  endpointId = '';
  readonly #environment: NodeJS.ProcessEnv;
  readonly #programs: string;
  readonly #release: () => Promise<void>;
  #hub: ChildProcess | undefined;

  private constructor(
    home: string,
    hubUrl: string,
    client: ClientCredentials,
    environment: NodeJS.ProcessEnv,
    programs: string,
    release: () => Promise<void>,
  ) {
    this.home = home;
    this.hubUrl = hubUrl;
    this.client = client;
    this.#environment = environment;
    this.#programs = programs;
    this.#release = release;
  }

  static async start(options: StackOptions = {}): Promise<Stack> {
    const { programs = CLI } = options;
    const services = testServices();
    const vhost = await createVhost(services.managementUrl, uniqueName('stack'));
    const database = await createDatabase(services.databaseUrl, uniqueName('stack'));
    const home = await mkdtemp(join(tmpdir(), 'outpost-stack-'));
    const port = options.port ?? (await freePort());
    const hubUrl = `http://localhost:${port}`;
    const environment: NodeJS.ProcessEnv = {
      PATH: process.env['PATH'],
      HOME: home,
      LANG: 'C.UTF-8',
      TMPDIR: tmpdir(),
      OUTPOST_HOME: join(home, '.outpost'),
      OUTPOST_AMQP_URL: throughPort(vhost.amqpUrl, options.hubThrough?.amqpPort),
      OUTPOST_AMQP_PUBLIC_URL: services.amqpUrl,
      OUTPOST_AMQP_MANAGEMENT_URL: services.managementUrl,
      OUTPOST_DATABASE_URL: throughPort(database.databaseUrl, options.hubThrough?.databasePort),
      OUTPOST_HUB_PORT: String(port),
      ...options.hub,
    };
    const release = async (): Promise<void> => {
      await vhost.delete();
      await database.drop();
      await rm(home, { recursive: true, force: true });
    };
    const bare = new Stack(home, hubUrl, { id: '', secret: '' }, environment, programs, release);
    await bare.startHub();
    const client = await bare.createClient('tester');
    const stack = new Stack(home, hubUrl, client, environment, programs, release);
    stack.#hub = bare.#hub;
    if (options.hubOnly !== true) {
      await stack.configureAgent('default', options.agent);
      stack.endpointId = await stack.startAgent('default');
    }
    return stack;
  }

  /** Environment of hub commands; agents get one without the hub's secrets. */
  get environment(): NodeJS.ProcessEnv {
    return { ...this.#environment };
  }

  get agentEnvironment(): NodeJS.ProcessEnv {
    const names = ['PATH', 'HOME', 'LANG', 'TMPDIR', 'OUTPOST_HOME'];
    return Object.fromEntries(names.map((name) => [name, this.#environment[name]]));
  }

  async hubCommand(...args: string[]): Promise<CommandOutcome> {
    return await runProgram(process.execPath, [join(this.#programs, 'hub.js'), ...args], {
      env: this.#environment,
    });
  }

  async agentCommand(...args: string[]): Promise<CommandOutcome> {
    return await runProgram(process.execPath, [join(this.#programs, 'agent.js'), ...args], {
      env: this.agentEnvironment,
    });
  }

  async startHub(): Promise<void> {
    const hub = spawn(process.execPath, [join(this.#programs, 'hub.js'), 'start'], {
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#hub = hub;
    let said = '';
    const note = (text: string): void => {
      said += text;
      appendFileSync(join(this.home, 'hub.log'), text);
    };
    hub.stdout.setEncoding('utf8').on('data', note);
    hub.stderr.setEncoding('utf8').on('data', note);
    await eventually(async () => {
      assert.equal(hub.exitCode, null, `the hub ended: ${said}`);
      assert.equal((await fetch(`${this.hubUrl}/v2/version`)).status, 200);
    }, START_LIMIT_MS);
  }

  async stopHub(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const hub = this.#hub;
    this.#hub = undefined;
    if (hub?.exitCode === null && hub.signalCode === null) {
      const ended = once(hub, 'exit');
      hub.kill(signal);
      await ended;
    }
  }

  async createClient(name: string, ...flags: string[]): Promise<ClientCredentials> {
    const outcome = await this.hubCommand('client', 'create', name, '--json', ...flags);
    assert.equal(outcome.code, 0, outcome.stderr);
    const client = JSON.parse(outcome.stdout) as { client_id: string; client_secret: string };
    return { id: client.client_id, secret: client.client_secret };
  }

  async configureAgent(name: string, settings: StackOptions['agent'] = {}): Promise<void> {
    const secretFile = join(this.home, `${name}.secret`);
    await writeFile(secretFile, this.client.secret, { mode: 0o600 });
    const all = {
      'hub-url': this.hubUrl,
      'heartbeat-period-s': 1,
      python: process.env['OUTPOST_TEST_DILL_PYTHON'] ?? '/usr/bin/python3',
      ...settings,
    };
    const flags = Object.entries(all).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    const outcome = await this.agentCommand(
      'configure',
      name,
      '--client-id',
      this.client.id,
      '--client-secret-file',
      secretFile,
      ...flags,
    );
    assert.equal(outcome.code, 0, outcome.stderr);
  }

  /** Starts an agent in the background; returns its endpoint id. */
  async startAgent(name: string, ...flags: string[]): Promise<string> {
    const outcome = await this.agentCommand('start', name, '--json', ...START_LIMIT, ...flags);
    assert.equal(
      outcome.code,
      0,
      `agent start: ${outcome.stderr}${outcome.stdout}\n${await this.agentLog(name)}`,
    );
    return (JSON.parse(outcome.stdout) as { endpoint_id: string }).endpoint_id;
  }

  async stopAgent(name: string): Promise<void> {
    const outcome = await this.agentCommand('stop', name);
    assert.equal(outcome.code, 0, outcome.stderr);
  }

  /** Process id of a running agent. */
  async agentPid(name: string): Promise<number> {
    const lock = JSON.parse(
      await readFile(join(this.home, '.outpost', name, 'agent.lock'), 'utf8'),
    ) as { pid: number };
    return lock.pid;
  }

  async agentLog(name: string): Promise<string> {
    try {
      return await readFile(join(this.home, '.outpost', name, 'logs', 'agent.log'), 'utf8');
    } catch (error) {
      return `(no log: ${String(error)})`;
    }
  }

  /** What the unmodified Python SDK needs to find this hub. */
  get sdkEnvironment(): NodeJS.ProcessEnv {
    return {
      PATH: process.env['PATH'],
      HOME: this.home,
      LANG: 'C.UTF-8',
      GLOBUS_SDK_ENVIRONMENT: 'local',
      GLOBUS_SDK_SERVICE_URL_AUTH: `${this.hubUrl}/`,
      GLOBUS_COMPUTE_CLIENT_ID: this.client.id,
      GLOBUS_COMPUTE_CLIENT_SECRET: this.client.secret,
      ENDPOINT_ID: this.endpointId,
    };
  }

  /** Stops what runs and removes what was made. */
  async stop(): Promise<void> {
    if (this.endpointId !== '') {
      await this.agentCommand('stop', 'default', '--timeout', String(STOP_LIMIT_MS / 1000));
    }
    await this.stopHub();
    await this.#release();
  }
}

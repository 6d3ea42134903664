/**
 * The agent that a scenario attacks: configured and started with the agent's own commands, behind a TCP proxy towards the broker and
 * an HTTP gate towards the hub, and restarted by its supervisor as systemd would.
 */
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { callControl } from '../src/agent/control-client.ts';
import { controlSocketPath } from '../src/agent/control-protocol.ts';
import { UnavailableError } from '../src/base/errors.ts';
import { eventually } from '../test/support/eventually.ts';
import { startTcpProxy } from '../test/support/tcp-proxy.ts';
import type { TcpProxy } from '../test/support/tcp-proxy.ts';
import type { Child } from './child.ts';
import { startHttpGate } from './http-gate.ts';
import type { HttpGate } from './http-gate.ts';
import type { Site } from './site.ts';

const NAME = 'target';
const ONLINE_MS = 120_000;
const STOP_MS = 60_000;

/** What a scenario may say about the agent's surroundings. */
export interface AgentSetting {
  /** Variables beside the usual ones. */
  readonly env?: Readonly<Record<string, string>>;
  /** Settings, as flags of `agent configure`. */
  readonly flags?: Readonly<Record<string, string | number>>;
}

/** What `status` says, as far as faults need it. */
interface Status {
  readonly state: string;
  readonly endpoint_id: string | null;
  readonly worker_host_pid: number | null;
  readonly paused: readonly string[];
}

/** One agent of a scenario. */
export class AgentUnderTest {
  readonly proxy: TcpProxy;
  readonly gate: HttpGate;
  /** OUTPOST_HOME of the agent. */
  readonly home: string;
  readonly logPath: string;
  readonly #site: Site;
  readonly #directory: string;
  readonly #setting: AgentSetting;
  #child: Child | undefined;

  private constructor(
    site: Site,
    directory: string,
    setting: AgentSetting,
    proxy: TcpProxy,
    gate: HttpGate,
  ) {
    this.#site = site;
    this.#directory = directory;
    this.#setting = setting;
    this.proxy = proxy;
    this.gate = gate;
    this.home = join(directory, 'outpost');
    this.logPath = join(directory, 'agent.log');
  }

  /** Configures an agent below `directory`; it does not run yet. */
  static async configure(
    site: Site,
    directory: string,
    setting: AgentSetting,
  ): Promise<AgentUnderTest> {
    const proxy = await startTcpProxy({ targetPort: site.amqpPort });
    const gate = await startHttpGate(site.hubPort);
    const agent = new AgentUnderTest(site, directory, setting, proxy, gate);
    mkdirSync(agent.home, { recursive: true, mode: 0o700 });
    mkdirSync(join(directory, 'run'), { mode: 0o700 });
    const secret = join(directory, 'secret');
    site.writeSecret(secret);
    const flags = {
      'client-id': site.credentials.id,
      'client-secret-file': secret,
      'hub-url': `http://127.0.0.1:${gate.port}`,
      'amqp-port': proxy.port,
      python: '/usr/bin/python3',
      'heartbeat-period-s': 1,
      'kill-grace-s': 1,
      'drain-grace-s': 3,
      'log-level': 'debug',
      ...setting.flags,
    };
    const list = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    await site.command('agent', ['configure', NAME, ...list], agent.#environment());
    return agent;
  }

  /** Starts the process; it may take a while until it is online. */
  start(flags: readonly string[] = []): void {
    this.#child = this.#spawn(this.#environment(this.#setting.env), flags, [], this.logPath);
  }

  /** Resolves when it is online; returns its endpoint id. */
  async online(): Promise<string> {
    const endpoint = await eventually(async () => {
      if (this.hasEnded) {
        return undefined;
      }
      const { state, endpoint_id: endpointId } = await this.status();
      if (state !== 'online' || endpointId === null) {
        throw new UnavailableError('TIMED_OUT', `the agent is ${state}; see ${this.logPath}`);
      }
      return endpointId;
    }, ONLINE_MS);
    if (endpoint === undefined) {
      throw new UnavailableError('START_FAILED', `the agent ended; see ${this.logPath}`);
    }
    return endpoint;
  }

  /** Asks the running agent. */
  async status(): Promise<Status> {
    const path = controlSocketPath({
      endpointDir: join(this.home, NAME),
      runtimeDir: join(this.#directory, 'run'),
      uid: process.getuid?.() ?? 0,
    });
    return (await callControl(path, 'status', {}, { timeoutMs: 2_000 })) as Status;
  }

  get hasEnded(): boolean {
    return this.#child?.hasEnded !== false;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.signal(signal);
  }

  async kill(): Promise<void> {
    await this.#child?.kill();
  }

  /** Asks it to end and waits. */
  async terminate(): Promise<void> {
    this.#child?.signal('SIGTERM');
    await this.#child?.endsWithin(STOP_MS, 'the agent after SIGTERM');
  }

  /**
   * Starts a second process for the same endpoint.
   *
   * @param host - undefined: on this host, on the same directory; else on a copy of it, as a host of that name.
   */
  startSecond(host: string | undefined, flags: readonly string[] = []): Child {
    const env = { ...this.#environment(), ...(host === undefined ? {} : this.#elsewhere(host)) };
    const prefix =
      host === undefined
        ? []
        : ['unshare', '--uts', 'sh', '-c', 'hostname "$0" && exec "$@"', host];
    return this.#spawn(env, flags, prefix, join(this.#directory, 'second.log'));
  }

  /** Stops the agent in order and closes what stands before it. */
  async stop(): Promise<void> {
    try {
      if (this.#child?.hasEnded === false) {
        await this.terminate();
      }
    } finally {
      await this.proxy.close();
      await this.gate.close();
    }
  }

  /** What is left of this agent's own ports. */
  get ports(): readonly number[] {
    return [this.proxy.port, this.gate.port];
  }

  #elsewhere(host: string): Record<string, string> {
    const home = join(this.#directory, host);
    const runtime = join(home, 'run');
    mkdirSync(runtime, { recursive: true, mode: 0o700 });
    for (const name of ['config.yaml', '.env', 'endpoint.json']) {
      cpSync(join(this.home, NAME, name), join(home, NAME, name));
    }
    return { OUTPOST_HOME: home, XDG_RUNTIME_DIR: runtime };
  }

  #spawn(
    env: Readonly<Record<string, string | undefined>>,
    flags: readonly string[],
    prefix: readonly string[],
    logPath: string,
  ): Child {
    return this.#site.startAgent(NAME, env, { logPath, prefix, flags });
  }

  #environment(extra: Readonly<Record<string, string>> = {}): Record<string, string | undefined> {
    return {
      ...this.#site.environment(this.#directory),
      OUTPOST_HOME: this.home,
      XDG_RUNTIME_DIR: join(this.#directory, 'run'),
      ...extra,
    };
  }
}

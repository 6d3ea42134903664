/**
 * Where the bench measures: one broker, one database, one hub, and agents that are started and stopped as a user does it. The
 * services are those of the test suites, started here unless a runner has done so.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createConnection } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { systemClock } from '../src/base/clock.ts';
import { withDeadline } from '../src/base/deadline.ts';
import { UnavailableError } from '../src/base/errors.ts';
import { ReleaseStack } from '../src/base/release-stack.ts';
import { managementRequest, startServices } from '../test/support/services.ts';
import { Stack } from '../test/support/stack.ts';
import type { Destination } from './generator-protocol.ts';
import { commandLine, descendants } from './process-usage.ts';

/** What people run, if it has been built: bundled, other than the programs of the test build. */
const PROGRAMS = fileURLToPath(new URL('../../dist/cli/', import.meta.url));
/** The only port of a hub that the unmodified Python SDK knows. */
const SDK_PORT = 5000;
const ONLINE_LIMIT_MS = 60_000;
/** Seconds; the product's default. The suites' own setting is one second. */
const HEARTBEAT_PERIOD_S = 30;

/** A running agent. */
export interface BenchAgent {
  readonly name: string;
  readonly endpointId: string;
  readonly pid: number;
  readonly hostPid: number;
  /** Where its tasks are published. */
  readonly destination: Destination;
  /** Stops it; what it runs may be cut short. */
  stop(): Promise<void>;
}

/** Settings that only the bench has. */
export interface BenchAgentOptions {
  /** Flags of `agent configure`. */
  readonly settings?: Readonly<Record<string, string | number>>;
  /** Variables for agent-entry.ts; the agent then runs in the foreground of a process of its own. */
  readonly entryVariables?: Readonly<Record<string, string>>;
}

/** Broker, database and hub. */
export class Site {
  readonly stack: Stack;
  /** Whether the hub has the port that the unmodified Python SDK dials. */
  readonly hasSdkPort: boolean;
  readonly #releases: ReleaseStack;
  #isHubUp = true;

  private constructor(stack: Stack, hasSdkPort: boolean, releases: ReleaseStack) {
    this.stack = stack;
    this.hasSdkPort = hasSdkPort;
    this.#releases = releases;
  }

  /** Starts everything but agents. */
  static async open(): Promise<Site> {
    const releases = new ReleaseStack();
    try {
      if ((process.env['OUTPOST_TEST_AMQP_URL'] ?? '') === '') {
        const services = await startServices();
        releases.push('services', async () => {
          await services.stop();
        });
        Object.assign(process.env, services.environment);
      }
      const hasSdkPort = !(await isListening(SDK_PORT));
      const stack = await Stack.start({
        hubOnly: true,
        ...(existsSync(PROGRAMS) && { programs: PROGRAMS }),
        ...(hasSdkPort && { port: SDK_PORT }),
      });
      releases.push('hub', async () => {
        await stack.stop();
      });
      return new Site(stack, hasSdkPort, releases);
    } catch (error) {
      await releases.release();
      throw error;
    }
  }

  /** Address of the virtual host, with all rights. */
  get amqpUrl(): string {
    return this.stack.environment['OUTPOST_AMQP_URL'] ?? '';
  }

  /** Virtual host, for paths of the management API. */
  get vhostPath(): string {
    return encodeURIComponent(decodeURIComponent(new URL(this.amqpUrl).pathname.slice(1)));
  }

  /** Calls the broker's management API. */
  async manage(method: string, path: string): Promise<unknown> {
    return await managementRequest(
      this.stack.environment['OUTPOST_AMQP_MANAGEMENT_URL'] ?? '',
      method,
      path,
    );
  }

  /** The hub stands still while the agent alone is measured: it would take the results. */
  async useHub(isUp: boolean): Promise<void> {
    if (isUp && !this.#isHubUp) {
      await this.stack.startHub();
    } else if (!isUp && this.#isHubUp) {
      await this.stack.stopHub();
    }
    this.#isHubUp = isUp;
  }

  /** Makes the directory of an endpoint. */
  async configure(name: string, settings: BenchAgentOptions['settings'] = {}): Promise<void> {
    await this.stack.configureAgent(name, {
      'heartbeat-period-s': HEARTBEAT_PERIOD_S,
      ...settings,
    });
  }

  /** Makes an endpoint and starts its agent; returns when it is online. */
  async startAgent(name: string, options: BenchAgentOptions = {}): Promise<BenchAgent> {
    await this.useHub(true);
    await this.configure(name, options.settings);
    return options.entryVariables === undefined
      ? await this.#startInBackground(name)
      : await this.#startThroughEntry(name, options.entryVariables);
  }

  /** Stops what was started. */
  async close(): Promise<void> {
    await this.#releases.release();
  }

  async #startInBackground(name: string): Promise<BenchAgent> {
    let isStopped = false;
    const stop = async (): Promise<void> => {
      if (!isStopped) {
        isStopped = true;
        await this.stack.agentCommand('stop', name);
      }
    };
    // Before the start: one that is not online in time keeps trying in the background.
    this.#releases.push(`agent ${name}`, stop);
    const endpointId = await this.stack.startAgent(name);
    return await this.#agent(name, endpointId, await this.stack.agentPid(name), stop);
  }

  async #startThroughEntry(
    name: string,
    variables: Readonly<Record<string, string>>,
  ): Promise<BenchAgent> {
    const entry = fileURLToPath(new URL('./agent-entry.js', import.meta.url));
    const child = spawn(process.execPath, [entry, 'start', name, '--foreground', '--json'], {
      env: { ...this.stack.agentEnvironment, ...variables },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const stop = async (): Promise<void> => {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        await ended;
      }
    };
    this.#releases.push(`agent ${name}`, stop);
    const endpointId = await withDeadline(
      systemClock,
      ONLINE_LIMIT_MS,
      endpointOnceOnline(child),
      () => new UnavailableError('START_FAILED', `the agent ${name} did not come online`),
    );
    assert.ok(child.pid !== undefined);
    return await this.#agent(name, endpointId, child.pid, stop);
  }

  async #agent(
    name: string,
    endpointId: string,
    pid: number,
    stop: () => Promise<void>,
  ): Promise<BenchAgent> {
    const hostPid = descendants(pid).find((child) => commandLine(child).includes('host-main'));
    assert.ok(hostPid !== undefined, `the agent ${name} has no worker host`);
    const queues = (await this.manage('GET', `/queues/${this.vhostPath}`)) as { name: string }[];
    const queue = queues.find(
      (one) => one.name.startsWith(endpointId) && one.name.endsWith('.tasks'),
    );
    assert.ok(queue !== undefined, `no task queue of ${endpointId}`);
    const destination = { exchange: 'tasks', routingKey: queue.name };
    return { name, endpointId, pid, hostPid, destination, stop };
  }
}

async function endpointOnceOnline(child: ChildProcess): Promise<string> {
  assert.ok(child.stdout !== null);
  // Read to the end: a full pipe would hold the agent up.
  const lines = createInterface({ input: child.stdout });
  return await new Promise((resolve, reject) => {
    lines.on('line', (line) => {
      if (line.includes('"endpoint is online"')) {
        resolve((JSON.parse(line) as { endpointId: string }).endpointId);
      }
    });
    child.once('exit', (code) => {
      reject(new UnavailableError('START_FAILED', `the agent ended with code ${code ?? 'none'}`));
    });
  });
}

async function isListening(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

/**
 * The peer: globus-compute-endpoint from PyPI, unmodified, on our broker. Its engines are started by hand as its own manager starts them:
 * `_start-user-endpoint` with credentials and configuration on stdin. It gets the same tasks as our Python row.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { connect } from 'amqplib';

import { sleep, systemClock } from '../../src/base/clock.ts';
import { withDeadline } from '../../src/base/deadline.ts';
import { UnavailableError, errorCode, errorText } from '../../src/base/errors.ts';
import { Generator } from '../generator.ts';
import { descendants, processesWithVariable, rssMb } from '../process-usage.ts';
import type { GlobusEngine, Report } from '../report.ts';
import { round } from '../statistics.ts';
import { RESULTS_QUEUE } from './context.ts';
import type { BenchContext } from './context.ts';
import { measureThroughput } from './direct.ts';
import type { Taker } from './direct.ts';
import { startEcho } from './echo.ts';

/** Variable with the path of the command `globus-compute-endpoint`. */
export const GLOBUS_ENDPOINT_VARIABLE = 'BENCH_GLOBUS_ENDPOINT';

const ENGINES: Readonly<Record<string, string>> = {
  ThreadPoolEngine: 'engine:\n  type: ThreadPoolEngine\n  max_workers: 2\n',
  ProcessPoolEngine: 'engine:\n  type: ProcessPoolEngine\n  max_workers: 2\n',
  GlobusComputeEngine:
    'engine:\n  type: GlobusComputeEngine\n  max_workers_per_node: 2\n  address: 127.0.0.1\n' +
    '  provider:\n    type: LocalProvider\n    init_blocks: 1\n    min_blocks: 1\n    max_blocks: 1\n',
};
/** Tells its processes from others: each bench run has a directory of its own. */
const USER_DIRECTORY_VARIABLE = 'GLOBUS_COMPUTE_USER_DIR';
/** Its results wait half a second each, so a few samples take long enough. */
const LATENCY_SAMPLES_MAX = 40;
const FIRST_RESULT_LIMIT_MS = 120_000;
const END_LIMIT_MS = 20_000;
const SETTLE_MS = 3_000;

/** Measures every engine; one that cannot be measured says why. */
export async function measureGlobus(context: BenchContext): Promise<NonNullable<Report['globus']>> {
  await context.site.useHub(false);
  const found: Record<string, GlobusEngine | string> = {};
  for (const [engine, config] of Object.entries(ENGINES)) {
    try {
      found[engine] = await measureEngine(context, engine, config);
    } catch (error) {
      found[engine] = errorText(error);
      context.say(`${engine}: ${errorText(error)}`);
    }
  }
  return found;
}

async function measureEngine(
  context: BenchContext,
  engine: string,
  config: string,
): Promise<GlobusEngine> {
  const { site, options } = context;
  const queue = await declareTaskQueue(site.amqpUrl);
  const echo = await startEcho(site.amqpUrl);
  const generator = await Generator.start(site.amqpUrl, [RESULTS_QUEUE, echo.resultQueue]);
  const begun = performance.now();
  const endpoint = await startEndpoint(context, engine, config, queue);
  try {
    const taker: Taker = {
      name: engine,
      destination: { exchange: '', routingKey: queue },
      noop: 'python-noop',
      processes: { endpoint: endpoint.pid ?? 0 },
    };
    await withDeadline(
      systemClock,
      FIRST_RESULT_LIMIT_MS,
      generator.burst(taker.destination, taker.noop, 1),
      () =>
        new UnavailableError(
          'TIMED_OUT',
          `${engine} answered nothing: ${endpointLog(context, engine)}`,
        ),
    );
    const startToFirstResultMs = round(performance.now() - begun, 0);
    context.say(`${engine}: first result after ${startToFirstResultMs} ms`);
    await sleep(systemClock, SETTLE_MS);
    const processes = familyOf(context, endpoint);
    const idleRssMb = round(
      processes.reduce((sum, pid) => sum + rssMb(pid), 0),
      1,
    );
    const echoTaker: Taker = {
      name: 'echo',
      destination: echo.destination,
      noop: 'python-noop',
      processes: { echo: echo.pid },
    };
    const fewer = {
      ...options,
      latencySamples: Math.min(LATENCY_SAMPLES_MAX, options.latencySamples),
    };
    const measured = await measureThroughput({ ...context, options: fewer }, generator, echoTaker, [
      taker,
    ]);
    const own = measured[engine];
    assert.ok(own !== undefined);
    const payload = await generator.burst(taker.destination, 'python-1MiB', options.payloadCount);
    return {
      tasksPerSecond: own.tasksPerSecond,
      ratioToEcho: own.ratioToEcho,
      idleP50Ms: own.idleP50Ms,
      idleP99Ms: own.idleP99Ms,
      payload1MiBTasksPerSecond: round(payload, 1),
      startToFirstResultMs,
      idleRssMb,
      idleProcesses: processes.length,
    };
  } finally {
    await end(context, endpoint);
    await generator.stop();
    await echo.stop();
  }
}

async function declareTaskQueue(amqpUrl: string): Promise<string> {
  const queue = `${randomUUID()}.bench.tasks`;
  const connection = await connect(amqpUrl, { noDelay: true });
  try {
    const channel = await connection.createChannel();
    await channel.assertQueue(queue, { durable: true });
  } finally {
    await connection.close();
  }
  return queue;
}

/** Starts the endpoint as a manager does; it watches its parent and ends with it. */
async function startEndpoint(
  { site }: BenchContext,
  engine: string,
  config: string,
  queue: string,
): Promise<ChildProcess> {
  const command = process.env[GLOBUS_ENDPOINT_VARIABLE] ?? '';
  assert.notEqual(
    command,
    '',
    `${GLOBUS_ENDPOINT_VARIABLE} is not set: npm run bench -- --vs-globus sets it`,
  );
  const userDirectory = globusHome(site.stack.home);
  await mkdir(join(userDirectory, engine), { recursive: true, mode: 0o700 });
  const endpointId = queue.slice(0, queue.indexOf('.'));
  const publishing = (exchange: string): object => ({
    connection_url: site.amqpUrl,
    exchange,
    queue: exchange,
    queue_publish_kwargs: {
      exchange,
      routing_key: `${endpointId}.${exchange}`,
      mandatory: true,
      properties: { delivery_mode: 2 },
    },
  });
  const child = spawn(command, ['_start-user-endpoint', engine], {
    cwd: userDirectory,
    // Its helpers are found on the PATH.
    env: {
      PATH: `${dirname(command)}:${process.env['PATH'] ?? ''}`,
      HOME: site.stack.home,
      LANG: 'C.UTF-8',
      [USER_DIRECTORY_VARIABLE]: userDirectory,
    },
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  await once(child, 'spawn');
  child.stdin.end(
    JSON.stringify({
      amqp_creds: {
        endpoint_id: endpointId,
        task_queue_info: { connection_url: site.amqpUrl, exchange: 'tasks', queue },
        result_queue_info: publishing('results'),
        heartbeat_queue_info: publishing('heartbeats'),
      },
      config,
      ep_info: { posix_ppid: process.pid },
    }),
  );
  return child;
}

function globusHome(home: string): string {
  return join(home, 'globus');
}

/** Where its log is, for whoever wants to know why. */
function endpointLog({ site }: BenchContext, engine: string): string {
  return join(globusHome(site.stack.home), engine, 'endpoint.log');
}

/**
 * The processes of an endpoint. Its batch blocks leave its family, so they are found by a variable; its main process hides its
 * environment behind its title, so that one is found by its id.
 */
function familyOf({ site }: BenchContext, endpoint: ChildProcess): number[] {
  const pid = endpoint.pid ?? 0;
  const marked = processesWithVariable(USER_DIRECTORY_VARIABLE, globusHome(site.stack.home));
  return [...new Set([pid, ...descendants(pid), ...marked])];
}

/** Ends the endpoint and whatever it started: forked workers keep its connections open. */
async function end(context: BenchContext, endpoint: ChildProcess): Promise<void> {
  if (endpoint.exitCode === null && endpoint.signalCode === null) {
    const children = descendants(endpoint.pid ?? 0);
    const ended = once(endpoint, 'exit');
    endpoint.kill('SIGTERM');
    await withDeadline(
      systemClock,
      END_LIMIT_MS,
      ended,
      () => new UnavailableError('TIMED_OUT', 'the endpoint did not end'),
    ).catch(async () => {
      // Its children first: without it they could not be told from others.
      for (const pid of children) {
        kill(pid);
      }
      endpoint.kill('SIGKILL');
      await ended;
    });
  }
  const home = globusHome(context.site.stack.home);
  for (const pid of processesWithVariable(USER_DIRECTORY_VARIABLE, home)) {
    kill(pid);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It ended by itself.
    if (errorCode(error) !== 'ESRCH') {
      throw error;
    }
  }
}

/**
 * `agent worker NAME`: the worker host of an endpoint as a service of its own, under another user (agent-worker@.service).
 *
 * It knows nothing of the endpoint but its name: the agent's directory is closed to it. It waits for the agent to listen in the meeting
 * place, serves it until one of the two ends, and then ends itself; the service manager starts it again. The loss of the agent kills
 * whatever runs. SIGTERM lets running tasks end first, as long as the service manager waits.
 */
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Socket } from 'node:net';

import { unitHostPaths } from '../../agent/unit-worker-host.ts';
import type { UnitHostPaths } from '../../agent/unit-worker-host.ts';
import { backoffDelayMs } from '../../base/backoff.ts';
import { sleep, systemClock } from '../../base/clock.ts';
import { ConfigError, UsageError, errorCode, errorText } from '../../base/errors.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import type { Environment } from '../../config/config-sources.ts';
import { nameProblem } from '../../config/endpoint-directory.ts';
import { openLog } from '../../config/logging.ts';
import {
  serviceNotification,
  serviceStateDirectory,
  workerSocketDirectory,
} from '../../config/service-environment.ts';
import { ServiceReporter } from '../../transport/systemd/service-reporter.ts';
import { defineCommand } from '../command-line.ts';
import { printNote } from '../output.ts';

/** Between two attempts to reach an agent that is not there: no load while it is down, no delay when it comes. */
const RETRY = { baseMs: 50, maxMs: 1_000 };

/** Runs the worker host of an endpoint. */
export const worker = defineCommand(
  (parser) =>
    parser.positional('name', {
      type: 'string',
      demandOption: true,
      describe: 'Name of the endpoint; its setting worker_host is "unit"',
    }),
  async ({ name }) => {
    const problem = nameProblem(name);
    if (problem !== undefined) {
      throw new UsageError(`${JSON.stringify(name)} cannot be the name of an endpoint: ${problem}`);
    }
    const environment = processEnvironment();
    const paths = unitHostPaths(workerSocketDirectory(environment), name);
    // A relative working directory of the endpoint starts here.
    process.chdir(serviceStateDirectory(environment) ?? process.cwd());
    const waiting = `waiting for the agent of endpoint ${name} on ${paths.socket}`;
    const serving = `runs tasks of endpoint ${name}`;
    const state = { text: waiting };
    const reporter = await openReporter(environment, () => state.text);
    reporter.ready();
    printNote(`Worker host: ${waiting}`);

    const { serveAgent } = await import('../../workers/host-process.ts');
    const found = await findAgent(paths);
    if (found === undefined) {
      reporter.stopping();
      return 0;
    }
    state.text = serving;
    reporter.update();
    printNote(`Worker host ${serving}`);
    serveAgent({ ...found, environment, drainFirst: true });
    // From here on the end of the process belongs to the host.
    return await new Promise<number>(() => {
      // Never settled.
    });
  },
);

async function openReporter(
  environment: Environment,
  describe: () => string,
): Promise<ServiceReporter> {
  const { logger } = await openLog({ level: 'warn', destination: { kind: 'stdout' } });
  return await ServiceReporter.open({
    notification: serviceNotification(environment),
    describe,
    isProgressing: () => true,
    clock: systemClock,
    logger,
  });
}

/** The agent's end, as soon as it is there; undefined when this process is told to end first. */
async function findAgent(
  paths: UnitHostPaths,
): Promise<{ socket: Socket; token: string } | undefined> {
  const ended = new AbortController();
  const end = (): void => {
    ended.abort();
  };
  const signals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
  for (const signal of signals) {
    process.on(signal, end);
  }
  try {
    for (let attempt = 0; ; attempt += 1) {
      const found = await tryAgent(paths);
      if (found !== undefined || ended.signal.aborted) {
        return ended.signal.aborted ? undefined : found;
      }
      await sleep(systemClock, backoffDelayMs(attempt, RETRY), ended.signal);
    }
  } catch (error) {
    if (ended.signal.aborted) {
      return undefined;
    }
    throw error;
  } finally {
    for (const signal of signals) {
      process.off(signal, end);
    }
  }
}

async function tryAgent({
  socket: path,
  token: tokenPath,
}: UnitHostPaths): Promise<{ socket: Socket; token: string } | undefined> {
  try {
    const token = (await readFile(tokenPath, 'utf8')).trim();
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    socket.removeAllListeners('error');
    return { socket, token };
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'EAGAIN') {
      return undefined;
    }
    throw new ConfigError(
      `The agent cannot be reached: ${errorText(error)}. This process must run in the group of the directory (outpost-worker, unless it was set up otherwise); see docs/systemd.md.`,
      [],
      { cause: error },
    );
  }
}

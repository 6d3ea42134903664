/** `agent stop`. */
import { setMaxListeners } from 'node:events';

import { ComputeError, UsageError } from '../../base/errors.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import { listEndpointDirectories, outpostHome } from '../../config/endpoint-directory.ts';
import { defineCommand } from '../command-line.ts';
import { durationText, printJson, printLine, printNote } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { stopEndpoint } from './stop-endpoint.ts';
import type { StopOutcome } from './stop-endpoint.ts';

/** Long enough for the default drain and the steps after it. */
const STOP_TIMEOUT_S = 120;

/** Stops an endpoint and waits until its process is gone. */
export const stop = defineCommand(
  (parser) =>
    withEndpointName(parser)
      .option('all', {
        type: 'boolean',
        default: false,
        describe: 'Stop every endpoint of this home, also those on other hosts',
      })
      .option('timeout', {
        type: 'number',
        default: STOP_TIMEOUT_S,
        requiresArg: true,
        describe: 'Seconds to wait; the agent goes on stopping after that. Ctrl-C hurries it',
      }),
  async (argv) => {
    if (!(argv.timeout > 0)) {
      throw new UsageError('--timeout must be a number of seconds above 0.');
    }
    const timeoutMs = argv.timeout * 1000;
    if (argv.all) {
      return await stopAll(timeoutMs, argv.json);
    }
    const context = await openEndpoint(argv.name);
    const { name } = context.directory;
    const outcome = await stopEndpoint(context, timeoutMs, printNote);
    if (argv.json) {
      printJson(outcomeDocument(name, outcome));
    } else {
      printLine(outcomeText(name, outcome));
    }
    return 0;
  },
);

/** Stops them side by side. What fails with one is told, and hinders no other; the exit code is that of the first failure. */
async function stopAll(timeoutMs: number, isJson: boolean): Promise<number> {
  const environment = processEnvironment();
  const home = outpostHome(environment);
  const directories = await listEndpointDirectories(home);
  // Each listens for Ctrl-C.
  setMaxListeners(0, process);
  let exitCode = 0;
  const endpoints = await Promise.all(
    directories.map(async (directory) => {
      const { name } = directory;
      try {
        const context = { environment, home, directory };
        const outcome = await stopEndpoint(context, timeoutMs, (text) => {
          printNote(`${name}: ${text}`);
        });
        if (outcome.wasRunning && !isJson) {
          printLine(outcomeText(name, outcome));
        }
        return outcomeDocument(name, outcome);
      } catch (error) {
        if (!(error instanceof ComputeError)) {
          throw error;
        }
        exitCode ||= error.exitCode;
        if (!isJson) {
          printNote(`${name}: ${error.message}`);
        }
        const { code, message } = error;
        return { name, was_running: true, pid: null, host: null, error: { code, message } };
      }
    }),
  );
  if (isJson) {
    printJson({ home, endpoints });
  } else if (!endpoints.some((endpoint) => endpoint.was_running)) {
    printLine(`No endpoint of ${home} is running.`);
  }
  return exitCode;
}

function outcomeDocument(name: string, { wasRunning, pid, host }: StopOutcome) {
  return { name, was_running: wasRunning, pid: pid ?? null, host: host ?? null };
}

function outcomeText(name: string, { wasRunning, host, tookMs }: StopOutcome): string {
  const where = host === undefined ? '' : ` on ${host}`;
  return wasRunning
    ? `Endpoint ${name}${where} has stopped (${durationText(tookMs)}).`
    : `Endpoint ${name} is not running.`;
}

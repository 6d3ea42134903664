/** `agent restart`: what is wrong with the settings is found before the running agent is stopped. */
import { UsageError } from '../../base/errors.ts';
import { defineCommand } from '../command-line.ts';
import { durationText, printNote } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { givenFlags, withOptionFlags } from './option-flags.ts';
import { prepareStart, startEndpoint } from './start-endpoint.ts';
import { START_TIMEOUT_S } from './start.ts';
import { stopEndpoint } from './stop-endpoint.ts';

/** After the configured drain and kill grace, the agent's own limit on its shutdown ends it. */
const SHUTDOWN_ALLOWANCE_MS = 60_000;

/** Stops an endpoint if it runs, and starts it. */
export const restart = defineCommand(
  (parser) =>
    withOptionFlags(
      withEndpointName(parser).option('timeout', {
        type: 'number',
        default: START_TIMEOUT_S,
        requiresArg: true,
        describe: 'Seconds to wait until it is online again',
      }),
    ),
  async (argv) => {
    if (!(argv.timeout > 0)) {
      throw new UsageError('--timeout must be a number of seconds above 0.');
    }
    const context = await openEndpoint(argv.name);
    const prepared = await prepareStart(context, givenFlags(argv));
    const { drainGraceMs, killGraceMs } = prepared.resolved.config;
    const limitMs = drainGraceMs + killGraceMs + SHUTDOWN_ALLOWANCE_MS;
    const outcome = await stopEndpoint(context, limitMs, printNote);
    if (outcome.wasRunning && !argv.json) {
      printNote(`Stopped (${durationText(outcome.tookMs)}).`);
    }
    return await startEndpoint(prepared, {
      takeover: false,
      timeoutMs: argv.timeout * 1000,
      json: argv.json,
    });
  },
);

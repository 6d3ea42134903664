/** `agent stop`. */
import { UsageError } from '../../base/errors.ts';
import { defineCommand } from '../command-line.ts';
import { durationText, printJson, printLine, printNote } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { stopEndpoint } from './stop-endpoint.ts';

/** Long enough for the default drain and the steps after it. */
const STOP_TIMEOUT_S = 120;

/** Stops an endpoint and waits until its process is gone. */
export const stop = defineCommand(
  (parser) =>
    withEndpointName(parser).option('timeout', {
      type: 'number',
      default: STOP_TIMEOUT_S,
      requiresArg: true,
      describe: 'Seconds to wait; the agent goes on stopping after that. Ctrl-C hurries it',
    }),
  async (argv) => {
    if (!(argv.timeout > 0)) {
      throw new UsageError('--timeout must be a number of seconds above 0.');
    }
    const context = await openEndpoint(argv.name);
    const { name } = context.directory;
    const outcome = await stopEndpoint(context, argv.timeout * 1000, printNote);
    if (argv.json) {
      printJson({ name, was_running: outcome.wasRunning, pid: outcome.pid ?? null });
    } else if (outcome.wasRunning) {
      printLine(`Endpoint ${name} has stopped (${durationText(outcome.tookMs)}).`);
    } else {
      printLine(`Endpoint ${name} is not running.`);
    }
    return 0;
  },
);

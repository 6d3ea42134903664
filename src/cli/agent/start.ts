/**
 * `agent start`: in the background by default; `--foreground` for systemd and for looking at it.
 *
 * The agent itself is loaded only by the process that runs it, so that the command which waits for it is light.
 */
import { UsageError } from '../../base/errors.ts';
import { openLog } from '../../config/logging.ts';
import { defineCommand } from '../command-line.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { givenFlags, withOptionFlags } from './option-flags.ts';
import { prepareStart, startEndpoint } from './start-endpoint.ts';

/** Default of `--timeout`, in seconds. */
export const START_TIMEOUT_S = 30;

/** Starts an endpoint. */
export const start = defineCommand(
  (parser) =>
    withOptionFlags(
      withEndpointName(parser)
        .option('foreground', {
          type: 'boolean',
          default: false,
          describe: 'Run in this process; log to stdout',
        })
        .option('takeover', {
          type: 'boolean',
          default: false,
          describe: 'Take the endpoint over from the machine that holds it',
        })
        .option('timeout', {
          type: 'number',
          default: START_TIMEOUT_S,
          requiresArg: true,
          describe: 'Seconds to wait until it is online; it keeps trying after that',
        }),
    ),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    if (!(argv.timeout > 0)) {
      throw new UsageError('--timeout must be a number of seconds above 0.');
    }
    const prepared = await prepareStart(context, givenFlags(argv));
    if (argv.foreground) {
      const { config } = prepared.resolved;
      const kind = process.stdout.isTTY && !argv.json ? 'terminal' : 'stdout';
      const log = await openLog({ level: config.logLevel, destination: { kind } });
      const { runAgentProcess } = await import('./agent-process.ts');
      return await runAgentProcess({
        context,
        resolved: prepared.resolved,
        flags: prepared.flags,
        credentials: prepared.credentials,
        takeover: argv.takeover,
        logger: log.logger,
        logControl: log.control,
        onProgress: () => undefined,
      });
    }
    return await startEndpoint(prepared, {
      takeover: argv.takeover,
      timeoutMs: argv.timeout * 1000,
      json: argv.json,
    });
  },
);

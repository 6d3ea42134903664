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
        .option('standby', {
          type: 'boolean',
          default: false,
          describe: 'With --foreground: wait while another host has the endpoint',
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
    if (argv.standby && (!argv.foreground || argv.takeover)) {
      throw new UsageError(
        '--standby waits in the foreground until another host has gone: use it with --foreground, and without --takeover.',
      );
    }
    let prepared = await prepareStart(context, givenFlags(argv));
    if (argv.foreground) {
      const { config } = prepared.resolved;
      const kind = process.stdout.isTTY && !argv.json ? 'terminal' : 'stdout';
      const log = await openLog({ level: config.logLevel, destination: { kind } });
      if (argv.standby) {
        const { standBy } = await import('./standby.ts');
        if ((await standBy(context, log.logger)) === 'stopped') {
          return 0;
        }
        // It may have taken days.
        prepared = await prepareStart(context, givenFlags(argv));
      } else if (!argv.takeover) {
        const { refuseWhenElsewhere } = await import('./standby.ts');
        await refuseWhenElsewhere(context);
      }
      const { runAgentProcess } = await import('./agent-process.ts');
      return await runAgentProcess({
        context,
        resolved: prepared.resolved,
        flags: prepared.flags,
        signIn: prepared.signIn,
        tokens: prepared.signIn.tokens(prepared.resolved.config),
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

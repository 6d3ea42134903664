/**
 * `agent ensure`: the agent runs afterwards. For cron (`@reboot`, or every minute): silent and quick when it runs already.
 *
 * Never two at once: whoever is second finds the lock held and is content. An endpoint that another host holds is left to that one.
 */
import { ComputeError } from '../../base/errors.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printNote } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { findPresence } from './presence.ts';

const START_TIMEOUT_MS = 30_000;

/** Starts an endpoint unless it runs. */
export const ensure = defineCommand(
  (parser) => withEndpointName(parser),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    const { name } = context.directory;
    const presence = await findPresence(context.directory);
    if (presence.kind === 'running') {
      if (argv.json) {
        printJson({ name, was_running: true, pid: presence.holder.pid });
      }
      return 0;
    }
    // Only now: every minute counts what is loaded here.
    const { prepareStart, startEndpoint } = await import('./start-endpoint.ts');
    const prepared = await prepareStart(context, {});
    try {
      const options = { takeover: false, timeoutMs: START_TIMEOUT_MS, json: argv.json };
      return await startEndpoint(prepared, options);
    } catch (error) {
      const others = whoRunsIt(error, presence.kind === 'elsewhere');
      if (others === undefined) {
        throw error;
      }
      if (argv.json) {
        printJson({ name, was_running: others !== 'starting' });
      } else if (others === 'starting') {
        printNote(
          `Endpoint ${name} has been started and is not online yet; see: agent status ${name}`,
        );
      }
      return 0;
    }
  },
);

/** Who runs the endpoint after all, or undefined when nobody does. */
function whoRunsIt(
  error: unknown,
  wasElsewhere: boolean,
): 'here' | 'elsewhere' | 'starting' | undefined {
  const code = error instanceof ComputeError ? error.code : undefined;
  if (code === 'ALREADY_RUNNING') {
    return 'here';
  }
  if (code === 'TIMED_OUT') {
    return 'starting';
  }
  return code === 'PRECONDITION_FAILED' && wasElsewhere ? 'elsewhere' : undefined;
}

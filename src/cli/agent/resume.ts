/** `agent resume`. */
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { requestMode, withReason } from './mode-request.ts';

/** Has an endpoint take tasks again. */
export const resume = defineCommand(
  (parser) => withReason(withEndpointName(parser)),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    const { name } = context.directory;
    const reply = await requestMode(context, 'resume', argv.reason);
    if (argv.json) {
      printJson(reply);
    } else {
      printLine(
        reply.changed
          ? `Endpoint ${name} takes tasks again.`
          : `Endpoint ${name} takes tasks; it was neither paused nor drained.`,
      );
    }
    return 0;
  },
);

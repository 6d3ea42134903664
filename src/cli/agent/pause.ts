/** `agent pause`. */
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { requestMode, runningText, withReason } from './mode-request.ts';

/** Has an endpoint take no more tasks; what it holds and runs goes on. */
export const pause = defineCommand(
  (parser) => withReason(withEndpointName(parser)),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    const { name } = context.directory;
    const reply = await requestMode(context, 'pause', argv.reason);
    if (argv.json) {
      printJson(reply);
      return 0;
    }
    const { running, waiting } = reply.tasks;
    printLine(
      reply.changed
        ? `Endpoint ${name} is paused: it takes no more tasks, new ones wait at the hub.`
        : `Endpoint ${name} was paused already.`,
    );
    if (running + waiting > 0) {
      printLine(
        `${runningText(running)} and ${waiting} held go on; to hand those back: agent drain ${name}`,
      );
    }
    printLine(`To take tasks again: agent resume ${name}`);
    return 0;
  },
);

/** `agent disable-on-boot`: takes back what `enable-on-boot` did, by whichever way. A running agent goes on. */
import { ConflictError } from '../../base/errors.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { disableSteps } from './boot/methods.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';

/** An endpoint no longer starts with the machine. */
export const disableOnBoot = defineCommand(
  (parser) =>
    withEndpointName(parser).option('dry-run', {
      type: 'boolean',
      default: false,
      describe: 'Show what would be done, and do nothing',
    }),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    const { name } = context.directory;
    const found = await disableSteps(context);
    const steps = found.flatMap((one) => one.steps);
    if (!argv.dryRun) {
      if (found.some(({ method }) => method === 'system') && process.getuid?.() !== 0) {
        throw new ConflictError(
          'PRECONDITION_FAILED',
          `Endpoint ${name} is a unit of the system, which only root can take back: agent disable-on-boot ${name}, as root with the same OUTPOST_HOME.`,
        );
      }
      for (const { run } of steps) {
        await run();
      }
    }
    if (argv.json) {
      const methods = found.map(({ method }) => method);
      printJson({
        name,
        methods,
        dry_run: argv.dryRun,
        steps: steps.map(({ what }) => ({ what })),
      });
    } else if (found.length === 0) {
      printLine(
        `Nothing starts endpoint ${name} with this machine, as far as this command had arranged it.`,
      );
    } else {
      for (const { what } of steps) {
        printLine(`${argv.dryRun ? 'Would do' : 'Done'}: ${what}`);
      }
      printLine(
        `Endpoint ${name} no longer starts with the machine. If it runs, it goes on: agent stop ${name}`,
      );
    }
    return 0;
  },
);

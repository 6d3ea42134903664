/** `agent enable-on-boot`: the endpoint starts with its machine, by whatever this machine and this user have for that. */
import { userInfo } from 'node:os';

import { ComputeError, UnavailableError, UsageError } from '../../base/errors.ts';
import { backgroundEnvironment } from '../../config/process-context.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine, printNote } from '../output.ts';
import { enableSteps } from './boot/methods.ts';
import type { BootMethod, BootStep } from './boot/methods.ts';
import { hasSystemd, hasUserManager } from './boot/programs.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import type { EndpointContext } from './endpoint-argument.ts';

/** Makes an endpoint start with the machine. */
export const enableOnBoot = defineCommand(
  (parser) =>
    withEndpointName(parser)
      .option('system', { type: 'boolean', describe: 'A unit of the system; takes root' })
      .option('user', {
        type: 'boolean',
        describe: 'A unit of your own service manager, with lingering',
      })
      .option('cron', { type: 'boolean', describe: 'A line in your crontab' })
      .conflicts({ system: ['user', 'cron'], user: ['cron'] })
      .option('dry-run', {
        type: 'boolean',
        default: false,
        describe: 'Show what would be done, and do nothing',
      }),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    const asked = askedMethod(argv);
    let method = asked ?? (await bestMethod(context));
    let steps = await enableSteps(context, method);
    if (argv.dryRun) {
      return report(context, method, steps, { json: argv.json, dryRun: true });
    }
    const failure = await take(steps);
    if (failure !== undefined) {
      if (method !== 'user' || !failure.step.startsWith('loginctl')) {
        throw failure.error;
      }
      if (asked !== undefined) {
        const { name } = context.directory;
        throw new UnavailableError(
          'START_FAILED',
          `A unit of your own would end when you log out: ${failure.error.message}. Nothing was changed. An administrator can allow it, ` +
            `as root: loginctl enable-linger ${userInfo().username}. Without that: agent enable-on-boot ${name} --cron`,
          { cause: failure.error },
        );
      }
      printNote(
        `A unit of your own would end when you log out: ${failure.error.message}. Using cron instead.`,
      );
      method = 'cron';
      steps = await enableSteps(context, method);
      const again = await take(steps);
      if (again !== undefined) {
        throw again.error;
      }
    }
    return report(context, method, steps, { json: argv.json, dryRun: false });
  },
);

function askedMethod(argv: {
  readonly system: boolean | undefined;
  readonly user: boolean | undefined;
  readonly cron: boolean | undefined;
}): BootMethod | undefined {
  if (argv.system === true && process.getuid?.() !== 0) {
    throw new UsageError(
      'A unit of the system takes root. As root, with the same OUTPOST_HOME: agent enable-on-boot NAME --system. Without root: --user, or --cron.',
    );
  }
  const asked = (['system', 'user', 'cron'] as const).filter((method) => argv[method] === true);
  return asked[0];
}

async function bestMethod({ environment }: EndpointContext): Promise<BootMethod> {
  if (process.getuid?.() === 0) {
    return hasSystemd() ? 'system' : 'cron';
  }
  return (await hasUserManager(backgroundEnvironment(environment))) ? 'user' : 'cron';
}

/** Takes steps until one fails. */
async function take(
  steps: readonly BootStep[],
): Promise<{ readonly step: string; readonly error: ComputeError } | undefined> {
  for (const { what, run } of steps) {
    try {
      await run();
    } catch (error) {
      if (!(error instanceof ComputeError)) {
        throw error;
      }
      return { step: what, error };
    }
  }
  return undefined;
}

function report(
  { directory: { name } }: EndpointContext,
  method: BootMethod,
  steps: readonly BootStep[],
  { json, dryRun }: { readonly json: boolean; readonly dryRun: boolean },
): number {
  if (json) {
    const shown = steps.map(({ what, text }) => ({ what, text: text ?? null }));
    printJson({ name, method, dry_run: dryRun, steps: shown });
    return 0;
  }
  for (const { what, text } of steps) {
    printLine(
      `${dryRun ? 'Would ' : 'Done: '}${dryRun && !/^(write|add|remove) /.test(what) ? 'run ' : ''}${what}`,
    );
    if (text !== undefined && (dryRun || method === 'cron')) {
      printLine(text.trimEnd().replaceAll(/^/gm, '    '));
    }
  }
  printLine('');
  printLine(EXPLANATIONS[method].replaceAll('NAME', name));
  return 0;
}

const EXPLANATIONS: Readonly<Record<BootMethod, string>> = {
  system:
    'Endpoint NAME starts with the machine, is started again when it fails, and is stopped in order at shutdown.\n' +
    'It is not started now: systemctl start agent@NAME (after agent stop NAME, if it runs in the background).\n' +
    'From then on use systemctl start, stop, reload and status agent@NAME; settings of the unit: systemctl edit agent@NAME.\n' +
    'To take it back: agent disable-on-boot NAME',
  user:
    'Endpoint NAME starts with the machine, whether you log in or not, and is started again when it fails.\n' +
    'It is not started now: systemctl --user start agent@NAME (after agent stop NAME, if it runs in the background).\n' +
    'From then on use systemctl --user start, stop, reload and status agent@NAME.\n' +
    'To take it back: agent disable-on-boot NAME',
  cron:
    'Cron starts endpoint NAME when this machine starts. It does not start it again when it fails; for that, add a line with * * * * *\n' +
    'in place of @reboot: agent ensure is made to be called every minute, but also starts what you have stopped.\n' +
    'It is not started now: agent start NAME. To take it back: agent disable-on-boot NAME',
};

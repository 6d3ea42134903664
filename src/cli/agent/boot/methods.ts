/**
 * The three ways in which an endpoint starts with its machine, each as steps that can be shown before they are taken, and how each is
 * taken back: a unit of the system, a unit of the user's own service manager (with lingering), a line in the user's crontab.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';

import { ConflictError } from '../../../base/errors.ts';
import { programFile } from '../../../base/package-root.ts';
import type { Environment } from '../../../config/config-sources.ts';
import { loadAgentConfig } from '../../../config/load-agent-config.ts';
import { backgroundEnvironment } from '../../../config/process-context.ts';
import type { EndpointContext } from '../endpoint-argument.ts';
import {
  crontabCommand,
  hasCrontabBlock,
  withCrontabBlock,
  withoutCrontabBlock,
} from './crontab.ts';
import { isLingering, mustRun, readCrontab, userName, writeCrontab } from './programs.ts';
import { isLingeringOurs, isOurUnit, unitName, unitText } from './unit-text.ts';

/** One of the ways. */
export type BootMethod = 'system' | 'user' | 'cron';

/** Something that is done to the machine. */
export interface BootStep {
  /** What is done, as a person would type or say it. */
  readonly what: string;
  /** Text that is written. */
  readonly text?: string;
  readonly run: () => Promise<void>;
}

/** Home of the endpoints of agents that are system services, and who runs those (systemd/sysusers.d). */
const SERVICE = { home: '/var/lib/outpost', user: 'outpost' };

/** The agent's own steps after the drain and the kill, and some more before the service manager ends it. */
const STOP_ALLOWANCE_S = 70;

const SYSTEM_UNITS = '/etc/systemd/system';

/** Steps that make the endpoint start with the machine. @throws ComputeError when they cannot be told. */
export async function enableSteps(
  context: EndpointContext,
  method: BootMethod,
): Promise<BootStep[]> {
  const { directory, environment, home } = context;
  if (method === 'cron') {
    return await cronSteps(context);
  }
  const unit = unitName(directory.name);
  const { config } = await loadAgentConfig(directory, environment);
  const { uid } = await stat(directory.path);
  const user = method === 'system' ? await userName(uid, programs(environment)) : undefined;
  const isService = user === SERVICE.user && home === SERVICE.home;
  const lingers = method === 'user' && !isLingering();
  const path = environment['PATH'];
  const text = unitText({
    kind: isService ? 'service' : 'personal',
    command: agentCommand(),
    home,
    ...(!isService && path !== undefined && { path }),
    ...(user !== undefined && { user }),
    stopTimeoutS: Math.ceil((config.drainGraceMs + config.killGraceMs) / 1000) + STOP_ALLOWANCE_S,
    lingers,
  });
  const systemctl = method === 'system' ? ['systemctl'] : ['systemctl', '--user'];
  const file = unitFile(context, method);
  return [
    // First, because where it is forbidden the rest is of no use.
    ...(lingers ? [commandStep(['loginctl', 'enable-linger'], environment)] : []),
    {
      what: `write ${file}`,
      text,
      run: async () => {
        await refuseForeign(file, home);
        await mkdir(dirname(file), { recursive: true });
        await writeFile(file, text, { mode: 0o644 });
      },
    },
    commandStep([...systemctl, 'daemon-reload'], environment),
    commandStep([...systemctl, 'enable', unit], environment),
  ];
}

/** Steps that take back what was done by each way; empty when nothing was. */
export async function disableSteps(
  context: EndpointContext,
): Promise<{ readonly method: BootMethod; readonly steps: BootStep[] }[]> {
  const found: { method: BootMethod; steps: BootStep[] }[] = [];
  for (const method of ['system', 'user'] as const) {
    const steps = await unitRemovalSteps(context, method);
    if (steps.length > 0) {
      found.push({ method, steps });
    }
  }
  const { directory, environment, home } = context;
  const crontab = await readCrontab(programs(environment));
  const owner = { name: directory.name, home };
  if (crontab !== undefined && hasCrontabBlock(crontab, owner)) {
    const run = async (): Promise<void> => {
      await writeCrontab(withoutCrontabBlock(crontab, owner), programs(environment));
    };
    found.push({ method: 'cron', steps: [{ what: 'remove its lines from your crontab', run }] });
  }
  return found;
}

async function unitRemovalSteps(
  context: EndpointContext,
  method: 'system' | 'user',
): Promise<BootStep[]> {
  const { directory, environment, home } = context;
  const file = /^[A-Za-z0-9:_.-]+$/.test(directory.name) ? unitFile(context, method) : '';
  if (!existsSync(file)) {
    return [];
  }
  const text = await readFile(file, 'utf8');
  if (!isOurUnit(text, home)) {
    return [];
  }
  const systemctl = method === 'system' ? ['systemctl'] : ['systemctl', '--user'];
  return [
    commandStep([...systemctl, 'disable', unitName(directory.name)], environment),
    {
      what: `remove ${file}`,
      run: async () => {
        await rm(file);
      },
    },
    commandStep([...systemctl, 'daemon-reload'], environment),
    ...(isLingeringOurs(text) && !(await hasOtherUnits(file))
      ? [commandStep(['loginctl', 'disable-linger'], environment)]
      : []),
  ];
}

/** Whether other endpoints of this user start by units, and so need the user's service manager to run from boot on. */
async function hasOtherUnits(file: string): Promise<boolean> {
  const names = await readdir(dirname(file));
  return names.some((name) => /^agent@.+\.service$/.test(name) && name !== basename(file));
}

async function cronSteps({ directory, environment, home }: EndpointContext): Promise<BootStep[]> {
  const settings = [`OUTPOST_HOME=${home}`, `PATH=${environment['PATH'] ?? '/usr/bin:/bin'}`];
  const command = ['env', ...settings, ...agentCommand(), 'ensure', directory.name];
  // What goes wrong is mailed by cron, as everything on stderr.
  const line = `@reboot ${crontabCommand(command)} >/dev/null`;
  const owner = { name: directory.name, home };
  const before = await readCrontab(programs(environment));
  return [
    {
      what: 'add to your crontab',
      text: `${line}\n`,
      run: async () => {
        if (before === undefined) {
          throw new ConflictError(
            'PRECONDITION_FAILED',
            `There is no cron here that you may use, and no service manager of yours that runs from boot on. Ask the administrator for one of: ` +
              `loginctl enable-linger ${environment['USER'] ?? 'YOU'}; a line in cron.allow; agent enable-on-boot --system as root. ` +
              `Until then, start it by hand after each boot: agent ensure ${directory.name}`,
          );
        }
        await writeCrontab(withCrontabBlock(before, owner, [line]), programs(environment));
      },
    },
  ];
}

function commandStep(words: readonly string[], environment: Environment): BootStep {
  return {
    what: words.join(' '),
    run: async () => {
      await mustRun(words, programs(environment));
    },
  };
}

function unitFile({ directory, environment }: EndpointContext, method: 'system' | 'user'): string {
  const configured = environment['XDG_CONFIG_HOME'] ?? '';
  const userConfig = configured === '' ? join(homedir(), '.config') : configured;
  const units = method === 'system' ? SYSTEM_UNITS : join(userConfig, 'systemd/user');
  return join(units, unitName(directory.name));
}

async function refuseForeign(file: string, home: string): Promise<void> {
  if (existsSync(file) && !isOurUnit(await readFile(file, 'utf8'), home)) {
    throw new ConflictError(
      'PRECONDITION_FAILED',
      `${file} is there and was not written by this command for an endpoint in ${home}. Enable it with systemctl, or remove it first; ` +
        `or give the endpoint another name, which takes a new one: agent configure`,
    );
  }
}

function agentCommand(): string[] {
  return [process.execPath, programFile('cli/agent.js')];
}

/** What other programs may see: no credentials. */
function programs(environment: Environment): Environment {
  return backgroundEnvironment(environment);
}

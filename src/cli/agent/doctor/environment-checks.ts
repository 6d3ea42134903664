/**
 * The execution environments that the settings name one by one: an interpreter is started in each as the worker host would, and asked what
 * it is. Patterns and whole types name none, and of an environment that is only known by its id nobody here knows where it lies.
 *
 * Nothing is fetched: an image that is not on this machine is told of, not pulled.
 */
import { existsSync } from 'node:fs';

import { workerBaseEnvironment } from '../../../config/process-context.ts';
import { launcherOf } from '../../../protocol/environments.ts';
import type { EnvironmentRules } from '../../../protocol/environments.ts';
import { ENVIRONMENT_TYPES } from '../../../protocol/sharing.ts';
import type { EnvironmentType, TaskEnvironment } from '../../../protocol/sharing.ts';
import { planLaunch } from '../../../workers/environments/launch.ts';
import { workerDirectory } from '../../../workers/python/spawn-interpreter.ts';
import { EXIT, failed, ok, skipped, warning } from './check.ts';
import type { Check, Facts, Finding } from './check.ts';
import { askInterpreter, isTooOld } from './interpreter-checks.ts';
import type { Subject } from './subject.ts';

/** More are not looked at: each takes a process. */
const LOOKED_AT_MAX = 16;

/** The checks. */
export const ENVIRONMENT_CHECKS: readonly Check[] = [
  {
    name: 'environments',
    settings: ['environments', 'environment', 'working_dir', 'python_interpreters'],
    remedy: 'See environments in config.yaml, and docs/environments.md',
    run: environmentsFinding,
  },
];

/** What was found in one of them. */
interface Look {
  readonly name: string;
  readonly verdict: 'ok' | 'warning' | 'failed' | 'skipped';
  readonly found: string;
  readonly details?: Facts;
}

async function environmentsFinding(subject: Subject, signal: AbortSignal): Promise<Finding> {
  const { environments, pythonInterpreters } = subject.settings.config;
  const { rules } = environments;
  const { named, unnamed } = environmentsNamed(rules);
  if (named.length === 0 && unnamed.length === 0) {
    return skipped('the settings allow no execution environments');
  }
  const looks = await Promise.all(
    named.slice(0, LOOKED_AT_MAX).map(async (one) => await look(subject, one, signal)),
  );
  const details = { looked_at: looks, not_looked_at: unnamed };
  const withVerdict = (wanted: Look['verdict']): Look[] =>
    looks.filter(({ verdict }) => verdict === wanted);
  const [broken, doubtful] = [withVerdict('failed'), withVerdict('warning')];
  if (broken.length > 0) {
    return failed(
      EXIT.settings,
      broken.map(({ name, found }) => `${name}: ${found}`).join('; '),
      `Correct environments in ${subject.context.directory.configPath}, or what it names, then: agent restart ${subject.context.directory.name}`,
      details,
    );
  }
  if (pythonInterpreters === 0) {
    return warning(
      'environments are allowed, and there is no place to run a Python function in one',
      'Set python_interpreters to 1 or more',
      details,
    );
  }
  if (doubtful.length > 0) {
    return warning(
      doubtful.map(({ name, found }) => `${name}: ${found}`).join('; '),
      'Provide what is missing there, unless no function needs it',
      details,
    );
  }
  const rest =
    unnamed.length === 0
      ? ''
      : `${looks.length === 0 ? '' : '; '}not looked at, because no single one is named: ${unnamed.join(', ')}`;
  const found = looks.map((one) => `${one.name}: ${one.found}`).join('; ');
  return looks.some(({ verdict }) => verdict === 'ok')
    ? ok(`${found}${rest}`, details)
    : { ...skipped(`${found}${rest}`), details };
}

/** The rules that name one environment, and those that name many, or one by its id. */
export function environmentsNamed({ allow, map }: Pick<EnvironmentRules, 'allow' | 'map'>): {
  readonly named: readonly Pick<TaskEnvironment, 'type' | 'location'>[];
  readonly unnamed: readonly string[];
} {
  const named: { type: EnvironmentType; location: string }[] = [];
  const unnamed: string[] = [];
  for (const rule of new Set([...Object.keys(map), ...allow])) {
    const at = rule.indexOf(':');
    const type = ENVIRONMENT_TYPES.find((each) => each === rule.slice(0, Math.max(at, 0)));
    const location = rule.slice(at + 1);
    if (type === undefined || (!Object.hasOwn(map, rule) && location.includes('*'))) {
      unnamed.push(rule);
    } else {
      named.push({ type, location });
    }
  }
  return { named, unnamed };
}

async function look(
  subject: Subject,
  { type, location }: Pick<TaskEnvironment, 'type' | 'location'>,
  signal: AbortSignal,
): Promise<Look> {
  const name = `${type} ${location}`;
  const { config } = subject.settings;
  const { rules } = config.environments;
  const environment: TaskEnvironment = { id: '', type, location };
  const launcher = launcherOf(rules, environment) ?? {};
  if (launcher.prefix === undefined && mustBeFetched(type, location)) {
    return { name, verdict: 'skipped', found: 'an image elsewhere, which is not fetched for this' };
  }
  const present = {
    ...workerBaseEnvironment(subject.context.environment),
    ...config.environment,
  };
  const workingDir = existsSync(config.workingDir)
    ? config.workingDir
    : subject.context.directory.path;
  const { getuid, getgid } = process;
  const launch = planLaunch(environment, launcher, {
    workingDir,
    workerDir: workerDirectory(),
    options: withoutPulling(rules.options),
    environment: present,
    passedOn: Object.keys(config.environment),
    containerName: `outpost-doctor-${process.pid}-${type}-${Math.random().toString(36).slice(2, 8)}`,
    ...(getuid !== undefined && getgid !== undefined && { user: { uid: getuid(), gid: getgid() } }),
  });
  const env = { ...present, ...launch.variables };
  const { answer, problem } = await askInterpreter(subject, launch.command, { env, signal });
  if (answer === undefined) {
    return { name, verdict: 'failed', found: problem };
  }
  const { version, dill, why } = answer;
  const details = { ...answer };
  if (isTooOld(version)) {
    return { name, verdict: 'failed', found: `Python ${version} is too old`, details };
  }
  return dill === null
    ? {
        name,
        verdict: 'warning',
        found: `Python ${version}, and functions that are sent pickled fail in it (${why ?? 'no dill'})`,
        details,
      }
    : { name, verdict: 'ok', found: `Python ${version}, dill ${dill}`, details };
}

/** Apptainer fetches what is no file, each time anew where it cannot keep it. */
function mustBeFetched(type: EnvironmentType, location: string): boolean {
  return (type === 'apptainer' || type === 'singularity') && location.includes('://');
}

function withoutPulling(options: EnvironmentRules['options']): EnvironmentRules['options'] {
  const never = (type: 'docker' | 'podman'): string[] => [...(options[type] ?? []), '--pull=never'];
  return { ...options, docker: never('docker'), podman: never('podman') };
}

/**
 * Command lines that start a Python interpreter in an execution environment. The arguments of the interpreter follow the last word.
 *
 * An interpreter that takes the place of what was started keeps its parent and descriptors, and so is like any other ("descriptors").
 * A launcher that stays in between may close descriptors and is another process than the interpreter ("stdio"): the protocol then
 * runs over the launcher's standard input and output, which every launcher passes on.
 */
import { join } from 'node:path';

import type { EnvironmentLauncher, EnvironmentRules } from '../../protocol/environments.ts';
import type { TaskEnvironment } from '../../protocol/sharing.ts';

/** How an interpreter is started in an environment. */
export interface Launch {
  readonly command: readonly [file: string, ...args: string[]];
  readonly transport: 'descriptors' | 'stdio';
  /** Of the launcher, beside what it has anyway. */
  readonly variables: Readonly<Record<string, string>>;
  /** What ends the interpreter where killing the launcher does not. */
  readonly killCommand?: readonly [file: string, ...args: string[]];
}

/** What a launch depends on beside the environment. */
export interface LaunchContext {
  readonly workingDir: string;
  /** Directory with outpost_worker.py. */
  readonly workerDir: string;
  readonly options: EnvironmentRules['options'];
  /** What the launcher is started with. */
  readonly environment: Readonly<Record<string, string>>;
  /** Names of variables that are handed into a container, which inherits none. */
  readonly passedOn: readonly string[];
  /** Name of the container, unique on this machine. */
  readonly containerName: string;
  readonly user?: { readonly uid: number; readonly gid: number };
}

/**
 * Modules are one word each and must not be anything else to the shell; what `module` prints goes where the function's output goes.
 * Environment Modules before 4 leave 0 as the exit code of a `module load` that failed: what counts is that it changed the list of
 * what is loaded, or that the module is on it, by its first name (`python` and `python/3` may both stand for `python/3.12.1`).
 */
const MODULE_SCRIPT = `set -f
modules=$1
shift
for module in $modules; do
  before=$LOADEDMODULES
  module load "$module" || exit
  case ":$LOADEDMODULES:" in *":\${module%%/*}"[:/]*) continue ;; esac
  case $module in -*) continue ;; esac
  if [ "$LOADEDMODULES" = "$before" ]; then
    echo "module load $module: it is not among the loaded modules: $LOADEDMODULES" >&2
    exit 1
  fi
done
exec "$@"`;

/** The command line for an environment. */
export function planLaunch(
  environment: TaskEnvironment,
  launcher: EnvironmentLauncher,
  context: LaunchContext,
): Launch {
  if (launcher.prefix !== undefined && launcher.prefix.length > 0) {
    return withPrefix(environment, launcher.prefix, launcher.interpreter, context);
  }
  const { type, location } = environment;
  const { interpreter } = launcher;
  const extra = context.options[type] ?? [];
  switch (type) {
    case 'venv':
      return inDirectory(location, 'VIRTUAL_ENV', interpreter, context);
    case 'conda':
      return location.startsWith('/')
        ? inDirectory(location, 'CONDA_PREFIX', interpreter, context)
        : throughStdio([
            ...['conda', 'run', '--no-capture-output', '--name', location, ...extra],
            interpreter ?? 'python',
          ]);
    case 'module':
      return {
        command: ['bash', '-lc', MODULE_SCRIPT, 'outpost', location, interpreter ?? 'python3'],
        transport: 'descriptors',
        variables: {},
      };
    case 'apptainer':
    case 'singularity':
      return throughStdio([
        ...[type, 'exec', '--bind', context.workingDir],
        ...['--bind', `${context.workerDir}:${context.workerDir}:ro`],
        ...['--pwd', context.workingDir, ...extra, location, interpreter ?? 'python3'],
      ]);
    case 'docker':
    case 'podman':
      return inContainer(type, location, interpreter, context);
  }
}

function inDirectory(
  directory: string,
  variable: string,
  interpreter: string | undefined,
  { environment }: LaunchContext,
): Launch {
  const bin = join(directory, 'bin');
  const path = environment['PATH'];
  return {
    command: [interpreter ?? join(bin, 'python')],
    transport: 'descriptors',
    variables: { [variable]: directory, PATH: path === undefined ? bin : `${bin}:${path}` },
  };
}

function withPrefix(
  { type, location }: TaskEnvironment,
  prefix: readonly string[],
  interpreter: string | undefined,
  { workingDir, workerDir }: LaunchContext,
): Launch {
  const values = { location, working_dir: workingDir, worker_dir: workerDir };
  const words = prefix.map((word) =>
    word.replaceAll(
      /\{(location|working_dir|worker_dir)\}/g,
      (_, name: keyof typeof values) => values[name],
    ),
  );
  const isDirectory = type === 'venv' || (type === 'conda' && location.startsWith('/'));
  const standard = isDirectory ? join(location, 'bin', 'python') : 'python3';
  return throughStdio([...words, interpreter ?? standard]);
}

function inContainer(
  type: 'docker' | 'podman',
  location: string,
  interpreter: string | undefined,
  context: LaunchContext,
): Launch {
  const { workingDir, workerDir, containerName, user, passedOn } = context;
  const launch = throughStdio([
    ...[type, 'run', '--interactive', '--rm', '--init', '--name', containerName],
    // Files in the working directory belong to whoever owns it outside.
    ...ownership(type, user),
    ...['--mount', bindMount(workingDir), '--mount', `${bindMount(workerDir)},readonly`],
    ...['--workdir', workingDir],
    ...passedOn.flatMap((name) => ['--env', name]),
    ...(context.options[type] ?? []),
    ...['--entrypoint', interpreter ?? 'python3', location],
  ]);
  return { ...launch, killCommand: [type, 'kill', containerName] };
}

function ownership(type: 'docker' | 'podman', user: LaunchContext['user']): string[] {
  if (user === undefined) {
    return [];
  }
  // Without root podman maps the user that calls it; as root it knows no such mapping and needs none.
  const isMapped = type === 'podman' && user.uid !== 0;
  return isMapped ? ['--userns', 'keep-id'] : ['--user', `${user.uid}:${user.gid}`];
}

/** A field with a comma or a quote in it is quoted as in CSV. */
function bindMount(directory: string): string {
  const field = (text: string): string =>
    /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  return `type=bind,${field(`source=${directory}`)},${field(`target=${directory}`)}`;
}

function throughStdio(words: readonly string[]): Launch {
  const [file = '', ...args] = words;
  return { command: [file, ...args], transport: 'stdio', variables: {} };
}

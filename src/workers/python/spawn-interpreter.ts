/**
 * Starts the process of an interpreter: directly, or by a launcher of an execution environment (../environments/launch.ts). The two
 * streams of the protocol are descriptors 3 and 4 of the interpreter, or the standard input and output of the launcher.
 */
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';

import { execa } from 'execa';

import { errorCode, errorText } from '../../base/errors.ts';
import { packageRoot } from '../../base/package-root.ts';
import type { PlaceFailure } from '../engine.ts';
import type { Launch } from '../environments/launch.ts';

/** What is started. */
export interface InterpreterCommand {
  readonly executable: string;
  /** Instead of the executable itself. */
  readonly launch: Launch | undefined;
  readonly workingDir: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Descriptors that its standard streams point to; with a launcher on standard streams only the second one. */
  readonly stdout: number;
  readonly stderr: number;
}

/** A process that was started, or an attempt of which only `error` will tell. */
export interface InterpreterProcess {
  readonly pid: number | undefined;
  readonly requests: Duplex | undefined;
  readonly answers: Duplex | undefined;
}

/** What becomes of it. */
export interface InterpreterProcessListener {
  readonly onExit: (exitCode: number | null, signal: NodeJS.Signals | null) => void;
  readonly onError: (error: unknown) => void;
}

/** Directory with the program of the interpreters, as it is called where links of this machine do not lead anywhere. */
export function workerDirectory(): string {
  return realpathSync(join(packageRoot(), 'python'));
}

/** Starts an interpreter, in a process group of its own. */
export function spawnInterpreter(
  { executable, launch, workingDir, environment, stdout, stderr }: InterpreterCommand,
  { onExit, onError }: InterpreterProcessListener,
): InterpreterProcess {
  const isStdio = launch?.transport === 'stdio';
  const [file, ...before] = launch?.command ?? [executable];
  const script = join(workerDirectory(), 'outpost_worker.py');
  const mode = isStdio ? '--stdio' : String(process.pid);
  const subprocess = execa(file, [...before, '-X', 'faulthandler', script, mode], {
    cwd: workingDir,
    env: { ...environment, ...launch?.variables },
    extendEnv: false,
    detached: true,
    // execa's own exit hook does not apply to detached children: the host's `kill` does.
    cleanup: false,
    buffer: false,
    reject: false,
    // execa takes any descriptor; its types only know the standard ones.
    stdio: isStdio
      ? ['pipe', 'pipe', stderr as 2]
      : ['ignore', stdout as 1, stderr as 2, 'pipe', 'pipe'],
  });
  subprocess.once('exit', onExit);
  subprocess.once('error', onError);
  // Everything is read from the events; with `reject: false` the promise never rejects. What the system refuses at once (an environment
  // that is too large, no memory) comes without an event, and without a process.
  subprocess.then((result) => {
    if (subprocess.pid === undefined) {
      onError(result.cause ?? result);
    }
  }, onError);
  const streams = subprocess.stdio as unknown as (Duplex | undefined)[];
  const [requests, answers] = isStdio ? streams : streams.slice(3);
  return { pid: subprocess.pid, requests, answers };
}

/** Why a process was never made, and what to do; `launcher` is the program that was to start it in an environment. */
export function spawnFailure(
  error: unknown,
  {
    name,
    workingDir,
    launcher,
  }: { name: string; workingDir: string; launcher: string | undefined },
): PlaceFailure {
  if (!existsSync(workingDir)) {
    // The same error code, but not about the interpreter.
    const reason = `the working directory ${workingDir} of the tasks has been removed: create it again`;
    return { reason, hopeless: false };
  }
  const code = errorCode(error);
  const why =
    code === 'ENOENT'
      ? 'does not exist'
      : code === 'EACCES'
        ? 'may not be executed'
        : `could not be started (${errorText(error)})`;
  const reason =
    launcher === undefined
      ? `the Python interpreter ${name} ${why}: set \`python\` in the endpoint's config.yaml to an interpreter of version 3.9 or newer and restart the agent`
      : `${launcher}, which starts the Python interpreter ${name}, ${why}: the operator of this endpoint can install it, or map the environment to another launcher (\`environments\` in config.yaml)`;
  return { reason, hopeless: code === 'ENOENT' || code === 'EACCES' };
}

/** Ends what a launcher leaves behind when it is killed. Its outcome is seen elsewhere: the protocol ends, or does not. */
export function killThroughLauncher(
  [file, ...args]: NonNullable<Launch['killCommand']>,
  environment: Readonly<Record<string, string>>,
): void {
  execa(file, args, {
    env: environment,
    extendEnv: false,
    detached: true,
    cleanup: false,
    reject: false,
    stdio: 'ignore',
  }).catch(() => undefined);
}

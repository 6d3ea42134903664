/**
 * The background process of an endpoint: made by `agent start`, and for the plain `agent start NAME` before the command line is even read,
 * so that it loads while the command does.
 *
 * A process that was made ahead does nothing until it gets its orders (daemon-channel.ts). It is killed when this process ends without
 * having given them, because something was refused or another endpoint is meant; when this process is killed, it ends by itself.
 * What makes one ahead loads little: that is the point of it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';

import { hasLock } from '../../agent/agent-lock.ts';
import { programFile } from '../../base/package-root.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import type { Environment } from '../../config/config-sources.ts';
import {
  DEFAULT_ENDPOINT_NAME,
  endpointDirectory,
  outpostHome,
} from '../../config/endpoint-directory.ts';
import type { EndpointDirectory } from '../../config/endpoint-directory.ts';
import { backgroundEnvironment } from '../../config/process-context.ts';

/** Nothing runs in the background then. */
const NO_BACKGROUND = /^(?:--foreground|--help|-h|--version)(?:=|$)/;

/** A heap that holds what a start needs (MB): without it V8 clears up in the middle of the start, and twice more in the minute after it. */
const INITIAL_HEAP = '--initial-heap-size=32';

/** The one that was made ahead, until it is taken. */
let ahead: { readonly path: string; readonly child: ChildProcess } | undefined;

/** Makes the process that this command line will ask for, if that can be told at a glance. Never throws: the command says what is wrong. */
export function spawnAhead([command, ...rest]: readonly string[]): void {
  if (command !== 'start' || rest.some((argument) => NO_BACKGROUND.test(argument))) {
    return;
  }
  const [first = '-'] = rest;
  try {
    const environment = processEnvironment();
    const name = first.startsWith('-') ? DEFAULT_ENDPOINT_NAME : first;
    const directory = endpointDirectory(outpostHome(environment), name);
    const { path, configPath, logsPath } = directory;
    // One that holds the lock still writes the file that would begin anew.
    if (!existsSync(configPath) || !existsSync(logsPath) || hasLock(path)) {
      return;
    }
    const child = spawnDaemon(directory, environment);
    // Whoever takes it looks whether it lives.
    child.on('error', () => undefined);
    ahead = { path, child };
    process.on('exit', () => {
      ahead?.child.kill('SIGKILL');
    });
  } catch {
    // An impossible name, no more processes: the command finds that out, too.
  }
}

/** The background process of an endpoint, made now unless it was made ahead. */
export function takeDaemon(directory: EndpointDirectory, environment: Environment): ChildProcess {
  const taken = ahead;
  ahead = undefined;
  if (taken?.path === directory.path && isAlive(taken.child)) {
    return taken.child;
  }
  taken?.child.kill('SIGKILL');
  return spawnDaemon(directory, environment);
}

function spawnDaemon(directory: EndpointDirectory, environment: Environment): ChildProcess {
  const stderr = openSync(directory.stderrPath, 'w', 0o600);
  try {
    // The working directory is one that stays: the shell's may be unmounted or deleted while the agent runs.
    const program = programFile('cli/agent-daemon.js');
    return spawn(process.execPath, [INITIAL_HEAP, program, directory.name], {
      detached: true,
      cwd: directory.path,
      env: backgroundEnvironment(environment),
      stdio: ['ignore', 'ignore', stderr, 'pipe', 'pipe'],
    });
  } finally {
    closeSync(stderr);
  }
}

function isAlive({ pid, exitCode, signalCode }: ChildProcess): boolean {
  return pid !== undefined && exitCode === null && signalCode === null;
}

/**
 * A directory of its own for each task: `<working_dir>/<task id>`. Workers make it and remove it when the task has ended; here is
 * what they cannot do: whatever a killed worker left behind goes when its task is settled, and at the start of the next host at
 * the latest.
 *
 * A mark with the id of the task stands for a sandbox, in a directory of this endpoint on this host: several endpoints may share a
 * working directory, and none removes what it did not make. The same directory takes what is being deleted.
 */
import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rm,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { errorCode } from '../base/errors.ts';
import type { Engine } from './engine.ts';

/** Where sandboxes and their marks lie. */
export interface SandboxDirectories {
  readonly workingDir: string;
  readonly marksDir: string;
}

const TRASH_PREFIX = 'trash-';

/** Sandboxes of an endpoint on this host. */
export function sandboxDirectories(workingDir: string, endpointId: string): SandboxDirectories {
  const owner = `${endpointId}@${hostname()}`.replaceAll(/[^\w.@-]/g, '_');
  return { workingDir, marksDir: join(workingDir, '.sandboxes', owner) };
}

/** Removes what an earlier host left behind; called before any worker starts. */
export function sweepSandboxes(directories: SandboxDirectories): void {
  mkdirSync(directories.marksDir, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(directories.marksDir)) {
    if (name.startsWith(TRASH_PREFIX)) {
      removeTree(join(directories.marksDir, name));
    } else {
      discardSandbox(directories, name);
    }
  }
}

/** Makes the sandbox of a task, for a worker in this process. Returns its path. */
export function makeSandbox({ workingDir, marksDir }: SandboxDirectories, taskId: string): string {
  const path = join(workingDir, taskId);
  mkdirSync(marksDir, { recursive: true, mode: 0o700 });
  writeFileSync(join(marksDir, taskId), '', { mode: 0o600 });
  discardDirectory(path, marksDir);
  mkdirSync(path, { mode: 0o700 });
  return path;
}

/**
 * Takes the sandbox of a task that has ended out of the way at once, so that the task may be started again, and deletes it in the
 * background. Nothing happens when there is none. What cannot be removed stays marked for the next start.
 */
export function discardSandbox({ workingDir, marksDir }: SandboxDirectories, taskId: string): void {
  if (discardDirectory(join(workingDir, taskId), marksDir)) {
    try {
      unlinkSync(join(marksDir, taskId));
    } catch {
      // There was none; or it stays, and the next start looks once more.
    }
  }
}

/** Has an engine leave no sandbox behind of tasks whose worker was ended under them. */
export function withSandboxes(engine: Engine, directories: SandboxDirectories): Engine {
  const submit = engine.submit.bind(engine);
  engine.submit = (task, settle) => {
    submit(task, (outcome) => {
      if (outcome.kind === 'failed') {
        discardSandbox(directories, task.taskId);
      }
      settle(outcome);
    });
  };
  return engine;
}

/** False when the directory is still there. */
function discardDirectory(path: string, marksDir: string): boolean {
  const trash = join(marksDir, TRASH_PREFIX + randomUUID());
  try {
    renameSync(path, trash);
  } catch (error) {
    // A file where the sandbox was is what a function made of it; a name that cannot be moved waits for the next start.
    return errorCode(error) === 'ENOENT';
  }
  rm(trash, { recursive: true, force: true }, (error) => {
    if (error !== null) {
      removeTree(trash);
    }
  });
  return true;
}

/** Removes a tree, also what a function made read-only; what cannot be removed stays for the next start. */
function removeTree(path: string): void {
  try {
    makeWritable(path);
    rmSync(path, { recursive: true, force: true });
  } catch {
    // Somebody else's file in it, or a file system that is away: it is tried again at every start.
  }
}

function makeWritable(directory: string): void {
  chmodSync(directory, 0o700);
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) {
      makeWritable(join(directory, entry.name));
    }
  }
}

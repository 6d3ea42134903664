/**
 * Finds the Python interpreter that a bare name means.
 *
 * The first match on PATH may be the shim of a version manager: a shell script that costs 100 ms at every start and may be
 * unusable for another user. So a real executable anywhere on PATH wins over a script.
 */
import { closeSync, openSync, readSync } from 'node:fs';

import { executablesNamed } from './executables.ts';

/** The absolute path that `name` stands for; `name` itself when it has a slash or nothing of that name is found. */
export function findPython(name: string, path: string | undefined): string {
  if (name.includes('/')) {
    return name;
  }
  const found = executablesNamed(name, path);
  return found.find((file) => !isScript(file)) ?? found[0] ?? name;
}

/** Whether an executable is a script, as the shims of version managers are. */
export function isScript(file: string): boolean {
  try {
    const descriptor = openSync(file, 'r');
    try {
      const head = Buffer.alloc(2);
      return readSync(descriptor, head, 0, 2, 0) === 2 && head.toString('latin1') === '#!';
    } finally {
      closeSync(descriptor);
    }
  } catch {
    // Executable but not readable: nothing that a version manager installs.
    return false;
  }
}

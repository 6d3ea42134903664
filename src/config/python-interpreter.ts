/**
 * Finds the Python interpreter that a bare name means.
 *
 * The first match on PATH may be the shim of a version manager: a shell script that costs 100 ms at every start and may be
 * unusable for another user. So a real executable anywhere on PATH wins over a script.
 */
import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The absolute path that `name` stands for; `name` itself when it has a slash or nothing of that name is found. */
export function findPython(name: string, path: string | undefined): string {
  if (name.includes('/')) {
    return name;
  }
  const found = (path ?? '')
    .split(delimiter)
    .filter((directory) => directory.startsWith('/'))
    .map((directory) => join(directory, name))
    .filter((file) => isExecutable(file));
  return found.find((file) => !isScript(file)) ?? found[0] ?? name;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    // Not there or not ours to run: not a candidate.
    return false;
  }
}

function isScript(file: string): boolean {
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

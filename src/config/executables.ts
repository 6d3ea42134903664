/** Looks up programs on PATH, without running anything. */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Every executable called `name` on PATH, in its order. Relative entries do not count: they are another place in each directory. */
export function executablesNamed(name: string, path: string | undefined): string[] {
  return (path ?? '')
    .split(delimiter)
    .filter((directory) => directory.startsWith('/'))
    .map((directory) => join(directory, name))
    .filter((file) => isExecutable(file));
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

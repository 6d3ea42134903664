/** Python interpreters of this machine, one for each minor version: on PATH as `python3.N`, or installed by pyenv. */
import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** Paths by minor version (`3.12`), those that the worker does not support included. */
export function pythonsByMinor(): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const path = (process.env['PATH'] ?? '').split(delimiter);
  const shims = path.find((directory) => directory.endsWith('.pyenv/shims'));
  const root = process.env['PYENV_ROOT'] ?? shims?.replace(/\/shims$/, '');
  const versionsDir = join(root ?? join(homedir(), '.pyenv'), 'versions');
  for (const name of existsSync(versionsDir) ? readdirSync(versionsDir) : []) {
    const minor = /^(3\.\d+)\.\d+$/.exec(name)?.[1];
    const executable = join(versionsDir, name, 'bin', 'python');
    if (minor !== undefined && existsSync(executable)) {
      found.set(minor, executable);
    }
  }
  for (const directory of path) {
    // What lies in pyenv's `shims` starts the interpreter of some other version, or none.
    for (const name of existsSync(directory) && !directory.endsWith('/shims')
      ? readdirSync(directory)
      : []) {
      const minor = /^python(3\.\d+)$/.exec(name)?.[1];
      if (minor !== undefined && !found.has(minor)) {
        found.set(minor, join(directory, name));
      }
    }
  }
  return new Map(
    [...found].sort(([a], [b]) => Number(a.split('.')[1] ?? 0) - Number(b.split('.')[1] ?? 0)),
  );
}

/** Where the installed package and its programs lie: files stand at other depths in dist/, bundled or not, and in the test build. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { InvariantError } from './errors.ts';

/** Directory that holds our package.json, from this file upwards. */
export function packageRoot(): string {
  return directoryAboveWith('package.json');
}

/** A program of ours, by its path below `src/`, with the ending that it has when it is compiled. */
export function programFile(path: string): string {
  return join(directoryAboveWith(path), path);
}

/** Version of this package. */
export function packageVersion(): string {
  const text = readFileSync(join(packageRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

function directoryAboveWith(path: string): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, path))) {
    const parent = dirname(directory);
    if (parent === directory) {
      throw new InvariantError(`${path} of outpost not found above the running file`);
    }
    directory = parent;
  }
  return directory;
}

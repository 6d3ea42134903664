/** Where the installed package lies: compiled files stand at other depths in dist/ and in the test build. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { InvariantError } from './errors.ts';

/** Directory that holds our package.json, from this file upwards. */
export function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) {
    const parent = dirname(directory);
    if (parent === directory) {
      throw new InvariantError('package.json of outpost not found above the running file');
    }
    directory = parent;
  }
  return directory;
}

/** Version of this package. */
export function packageVersion(): string {
  const text = readFileSync(join(packageRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

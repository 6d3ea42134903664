/** The endpoint's `.env`: variables as in the environment, read by dotenv. It holds secrets, so it must be its owner's alone. */
import { parse } from 'dotenv';

import { readSecretFile } from './secret-file.ts';

/** The variables of a dotenv file, or undefined when there is none. @throws ConfigError when others can read it. */
export async function readDotenvFile(path: string): Promise<Record<string, string> | undefined> {
  const text = await readSecretFile(path, { key: '.env' });
  return text === undefined ? undefined : parse(text);
}

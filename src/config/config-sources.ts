/**
 * Where values come from: small files, the environment, flags. Nothing here judges a value, or takes long to load.
 *
 * The environment is a parameter with `process.env` as its default and is never written to; an empty text means unset.
 */
import { readFileSync } from 'node:fs';

import { ConfigError, errorCode, errorText } from '../base/errors.ts';
import type { ConfigProblem } from '../base/errors.ts';

/** Environment variables; a parameter everywhere, so that tests need not touch the process's own. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The environment of this process. Passed down by the command line, read nowhere else. */
export function processEnvironment(): Environment {
  return process.env;
}

/** A value before it is read, and where it stands. */
export interface SourcedValue {
  readonly raw: unknown;
  readonly source: string;
}

/** Values of one source by key. */
export interface SourceReading {
  readonly values: ReadonlyMap<string, SourcedValue>;
  readonly problems: readonly ConfigProblem[];
}

/** A config file is written by hand; one this large is something else. */
const CONFIG_BYTES_MAX = 1024 * 1024;

/** The text of a small file, or undefined when there is none. @throws ConfigError when it cannot be read. */
export function readTextFile(path: string): string | undefined {
  try {
    const bytes = readFileSync(path);
    if (bytes.length > CONFIG_BYTES_MAX) {
      throw new ConfigError('A settings file is too large', [
        { key: path, source: path, expected: `at most ${CONFIG_BYTES_MAX} bytes` },
      ]);
    }
    return bytes.toString('utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error instanceof ConfigError ? error : unreadableFile(path, error);
  }
}

/** What is thrown for a file that is there and cannot be read. */
export function unreadableFile(path: string, cause: unknown): ConfigError {
  const problem = { key: path, source: path, expected: `to be readable; ${errorText(cause)}` };
  return new ConfigError('A settings file cannot be read', [problem], { cause });
}

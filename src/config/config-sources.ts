/**
 * Where values come from: config.yaml with line numbers, the environment, flags. Nothing here judges a value.
 *
 * The environment is a parameter with `process.env` as its default and is never written to; an empty text means unset.
 */
import { readFileSync } from 'node:fs';

import { LineCounter, isMap, isNode, isScalar, parseDocument } from 'yaml';

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

/** Reads a YAML file of settings. `undefined` when there is no such file. */
export function readConfigFile(path: string): SourceReading | undefined {
  const text = readTextFile(path);
  return text === undefined ? undefined : parseConfigText(text, path);
}

/** Reads the text of a YAML file of settings; `path` is for messages. */
export function parseConfigText(text: string, path: string): SourceReading {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): string => `${path}:${lines.linePos(offset).line}`;
  const problems = document.errors.map((error) => ({
    key: 'config.yaml',
    source: at(error.pos[0]),
    expected: `valid YAML; ${error.message}`,
  }));
  const values = new Map<string, SourcedValue>();
  const root = document.contents;
  if (problems.length > 0 || root === null || (isScalar(root) && root.value === null)) {
    return { values, problems };
  }
  if (!isMap(root)) {
    const expected = 'a map of settings, one `key: value` a line';
    return { values, problems: [{ key: 'config.yaml', source: path, expected }] };
  }
  for (const pair of root.items) {
    const key = isScalar(pair.key) ? String(pair.key.value) : 'a key that is no text';
    const offset = isScalar(pair.key) ? pair.key.range[0] : 0;
    const source = at(offset);
    try {
      values.set(key, { raw: isNode(pair.value) ? pair.value.toJS(document) : null, source });
    } catch (error) {
      // Aliases that multiply without end are the one thing that parses and has no value.
      problems.push({ key, source, expected: `a plain value; ${errorText(error)}` });
    }
  }
  return { values, problems };
}

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

/** Options of the table as flags: declared from it and collected by it. */
import { resolve } from 'node:path';

import type { Argv } from 'yargs';

import { optionHelp } from '../../config/config-rendering.ts';
import { FILE_OPTIONS } from '../../config/options.ts';

/** Declares a flag for every option of config.yaml. Values are read by the table, so all are texts here. */
export function withOptionFlags<T>(parser: Argv<T>): Argv<T> {
  for (const option of FILE_OPTIONS) {
    if (option.flag !== undefined) {
      parser.option(option.flag, {
        type: 'string',
        requiresArg: true,
        describe: optionHelp(option),
        group: `${option.section}:`,
      });
    }
  }
  return parser;
}

function fromHere(path: string): string {
  return path === '' || path === '~' || path.startsWith('~/') ? path : resolve(path);
}

/** The flags that were given, by option key. */
export function givenFlags(argv: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const flags: Record<string, unknown> = {};
  for (const option of FILE_OPTIONS) {
    const value = option.flag === undefined ? undefined : argv[option.flag];
    if (value !== undefined) {
      // What a shell completed is meant from where the shell is.
      flags[option.key] =
        option.key === 'ca_file' && typeof value === 'string' ? fromHere(value) : value;
    }
  }
  return flags;
}

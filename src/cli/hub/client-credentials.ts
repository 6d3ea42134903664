/** What `hub client create` and `hub client rotate` do with a new secret: print it, or write it to a file, once. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

import type { Argv } from 'yargs';

import { UsageError } from '../../base/errors.ts';
import type { CreatedClient } from '../../hub/auth/client-registry.ts';
import { printFields, printJson, printNote } from '../output.ts';

interface WriteEnvArguments {
  readonly writeEnv: string | undefined;
  readonly force: boolean;
}

/** Adds `--write-env` and `--force`. */
export function withWriteEnv<T>(parser: Argv<T>): Argv<T & WriteEnvArguments> {
  return parser
    .option('write-env', {
      type: 'string',
      requiresArg: true,
      describe:
        'Write id and secret to this file (0600) instead of printing them; what else is in it stays',
    })
    .option('force', {
      type: 'boolean',
      default: false,
      describe: 'Replace the credentials that the file of --write-env holds',
    }) as unknown as Argv<T & WriteEnvArguments>;
}

/** The file of `--write-env`. @throws UsageError before there is a secret, which would be lost. */
export function plannedEnvFile({ writeEnv, force }: WriteEnvArguments): string | undefined {
  const file = writeEnv === undefined ? undefined : resolve(writeEnv);
  if (file !== undefined && !force && CREDENTIAL.test(textOf(file))) {
    throw new UsageError(
      `${file} holds credentials already; choose another file, or replace them with --force`,
    );
  }
  return file;
}

/** A credential that is set, unlike the commented ones of a file that `agent configure` wrote. */
const CREDENTIAL = /^\s*(?:export\s+)?OUTPOST_CLIENT_(?:ID|SECRET)\s*=\s*\S/m;

function textOf(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

/** Writes id and secret to the file, or prints them. */
export function handOutCredentials(
  client: CreatedClient,
  file: string | undefined,
  asJson: boolean,
): void {
  if (file !== undefined) {
    writeCredentials(file, client);
  }
  if (asJson) {
    printJson({
      client_id: client.id,
      name: client.name,
      endpoint_only: client.endpointOnly,
      ...(file === undefined ? { client_secret: client.secret } : { env_file: file }),
    });
    return;
  }
  printFields([
    ['client id', client.id],
    ['client secret', file === undefined ? client.secret : undefined],
    ['written to', file],
  ]);
  if (file === undefined) {
    printNote('The secret is shown only now; it is stored as a hash.');
  }
}

function writeCredentials(file: string, client: CreatedClient): void {
  const temporary = `${file}.${process.pid}`;
  const named = withVariable(textOf(file), 'OUTPOST_CLIENT_ID', client.id);
  const text = withVariable(named, 'OUTPOST_CLIENT_SECRET', client.secret);
  writeFileSync(temporary, text, { mode: 0o600, flag: 'wx' });
  renameSync(temporary, file);
}

/** In the place of the line that sets the variable or shows how to, otherwise at the end. */
function withVariable(text: string, name: string, value: string): string {
  const line = new RegExp(`^(?:# *)?(?:export +)?${name} *=.*$`, 'm');
  return line.test(text)
    ? text.replace(line, () => `${name}=${value}`)
    : `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}${name}=${value}\n`;
}

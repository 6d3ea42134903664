/**
 * `agent configure`: makes the directory of an endpoint. Everything is checked before anything is written, and a failure
 * leaves no half-made directory.
 */
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { text as readAll } from 'node:stream/consumers';

import { ConfigError, UsageError, errorText } from '../../base/errors.ts';
import { resolveAgentConfig } from '../../config/agent-config.ts';
import { renderConfigFile, renderDotenvFile } from '../../config/config-rendering.ts';
import { processEnvironment, readConfigFile } from '../../config/config-sources.ts';
import type { Environment, SourceReading } from '../../config/config-sources.ts';
import { checkCredentialPair } from '../../config/credentials.ts';
import {
  DEFAULT_ENDPOINT_NAME,
  createEndpointDirectory,
  endpointDirectory,
  outpostHome,
  replaceFile,
} from '../../config/endpoint-directory.ts';
import type { EndpointDirectory } from '../../config/endpoint-directory.ts';
import type { OptionValue } from '../../config/option-types.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { givenFlags, withOptionFlags } from './option-flags.ts';

interface GivenCredentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** Makes or rewrites the configuration of an endpoint. */
export const configure = defineCommand(
  (parser) =>
    withOptionFlags(
      parser
        .positional('name', {
          type: 'string',
          default: DEFAULT_ENDPOINT_NAME,
          describe: 'Name of the endpoint',
        })
        .option('from', {
          type: 'string',
          requiresArg: true,
          describe: 'YAML file with settings to begin with',
        })
        .option('client-id', {
          type: 'string',
          requiresArg: true,
          describe: 'Client id that the endpoint signs in with, kept in its .env',
        })
        .option('client-secret-file', {
          type: 'string',
          requiresArg: true,
          describe: 'File with the secret of the client, - for stdin',
        })
        .option('force', {
          type: 'boolean',
          default: false,
          describe: 'Write config.yaml of an existing endpoint anew',
        }),
    ),
  async (argv) => {
    const environment = processEnvironment();
    const home = outpostHome(environment);
    const planned = endpointDirectory(home, argv.name);
    const settings = readSettings(planned, argv.from, givenFlags(argv), environment);
    const credentials = await readCredentials(argv['client-id'], argv['client-secret-file']);
    const isNew = !(argv.force && existsSync(planned.path));
    const directory = isNew ? await createEndpointDirectory(home, argv.name) : planned;
    try {
      await replaceFile(directory.configPath, renderConfigFile(settings));
      if (credentials !== undefined) {
        await replaceFile(directory.dotenvPath, dotenvText(credentials));
      }
    } catch (error) {
      if (isNew) {
        await rm(directory.path, { recursive: true, force: true });
      }
      throw error;
    }
    report(argv.json, directory, isNew, existsSync(directory.dotenvPath));
    return 0;
  },
);

function readSettings(
  directory: EndpointDirectory,
  from: string | undefined,
  flags: Readonly<Record<string, unknown>>,
  environment: Environment,
): ReadonlyMap<string, OptionValue> {
  const { config, origins } = resolveAgentConfig({
    directory: directory.path,
    file: from === undefined ? undefined : requiredFile(from),
    flags,
    // Settings of the environment stay there: written into the file, they would outlive it unnoticed.
    environment: { PATH: environment['PATH'] },
  });
  const settings = new Map<string, OptionValue>();
  for (const { key, value, source } of origins) {
    if (source !== 'default' && value !== undefined) {
      settings.set(key, value);
    }
  }
  if (config.python.includes('/')) {
    // Written down, because the agent may be started with another PATH, by systemd for one.
    settings.set('python', config.python);
  }
  return settings;
}

function requiredFile(from: string): SourceReading {
  const path = resolve(from);
  const reading = readConfigFile(path);
  if (reading === undefined) {
    throw new ConfigError('The settings to begin with cannot be read', [
      { key: '--from', source: path, expected: 'there is no such file' },
    ]);
  }
  return reading;
}

async function readCredentials(
  clientId: string | undefined,
  secretFile: string | undefined,
): Promise<GivenCredentials | undefined> {
  if (clientId === undefined && secretFile === undefined) {
    return undefined;
  }
  if (clientId === undefined || secretFile === undefined) {
    throw new UsageError(
      'Give both --client-id and --client-secret-file (- for stdin), or neither.',
    );
  }
  const clientSecret = (await readSecret(secretFile)).trim();
  checkCredentialPair(clientId, clientSecret, 'command line');
  return { clientId, clientSecret };
}

async function readSecret(file: string): Promise<string> {
  if (file === '-') {
    return await readAll(process.stdin);
  }
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new ConfigError(
      'The client secret cannot be read',
      [{ key: '--client-secret-file', source: file, expected: errorText(error) }],
      { cause: error },
    );
  }
}

function dotenvText({ clientId, clientSecret }: GivenCredentials): string {
  return renderDotenvFile({ OUTPOST_CLIENT_ID: clientId, OUTPOST_CLIENT_SECRET: clientSecret });
}

function report(
  json: boolean,
  directory: EndpointDirectory,
  isNew: boolean,
  hasDotenv: boolean,
): void {
  if (json) {
    printJson({
      name: directory.name,
      path: directory.path,
      config: directory.configPath,
      created: isNew,
      credentials: hasDotenv ? directory.dotenvPath : null,
    });
    return;
  }
  const verb = isNew ? 'Made' : 'Wrote the settings of';
  printLine(`${verb} endpoint ${directory.name}: ${directory.configPath}`);
  if (!hasDotenv) {
    printLine(
      'Next: set OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET (the hub’s administrator makes them: hub client create),',
    );
    printLine(`then: agent start ${directory.name}`);
    return;
  }
  printLine(
    isNew
      ? `Next: agent start ${directory.name}`
      : `If it is running: agent restart ${directory.name}`,
  );
}

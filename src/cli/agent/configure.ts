/**
 * `agent configure`: makes the directory of an endpoint. Everything is checked before anything is written, all mistakes are
 * reported at once, and a failure leaves no half-made directory.
 */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { text as readAll } from 'node:stream/consumers';

import { ConfigError, UsageError } from '../../base/errors.ts';
import { resolveAgentConfig } from '../../config/agent-config.ts';
import { findBatchScheduler } from '../../config/batch-scheduler.ts';
import { parseConfigText, readConfigFile } from '../../config/config-file.ts';
import { renderConfigFile } from '../../config/config-rendering.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import type { Environment, SourceReading } from '../../config/config-sources.ts';
import {
  DEFAULT_ENDPOINT_NAME,
  createEndpointDirectory,
  endpointDirectory,
  outpostHome,
  refuseExistingEndpoint,
  replaceFile,
} from '../../config/endpoint-directory.ts';
import type { EndpointDirectory } from '../../config/endpoint-directory.ts';
import type { OptionValue } from '../../config/option-types.ts';
import { problemsTogether } from '../../config/problems-together.ts';
import { canAsk } from '../ask.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine, printNote } from '../output.ts';
import {
  askForCredentials,
  dotenvText,
  hasCredentials,
  readGivenCredentials,
} from './given-credentials.ts';
import type { CredentialFlags } from './given-credentials.ts';
import type { HubPlace } from './hub-place.ts';
import { givenFlags, withOptionFlags } from './option-flags.ts';
import { findPerson } from './sign-in.ts';

/** Settings to write, and what is to be said about them. */
interface PlannedSettings {
  readonly settings: ReadonlyMap<string, OptionValue>;
  /** Where it will sign in. */
  readonly hub: HubPlace;
  readonly notices: readonly string[];
}

/** Where the credentials of an endpoint stand. */
type CredentialsPlace = 'dotenv' | 'environment' | 'login' | 'none';

/** What is told at the end. */
interface ConfigureOutcome {
  readonly json: boolean;
  readonly directory: EndpointDirectory;
  readonly isNew: boolean;
  readonly notices: readonly string[];
  readonly credentials: CredentialsPlace;
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
          describe: 'YAML or JSON file with settings to begin with, - for stdin; flags win over it',
        })
        .option('client-id', {
          type: 'string',
          requiresArg: true,
          describe: 'Client id that the endpoint signs in with, kept in its .env',
        })
        .option('client-secret-file', {
          type: 'string',
          requiresArg: true,
          describe: 'File with the secret of the client, yours alone (chmod 600), - for stdin',
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
    const isNew = !(argv.force && existsSync(planned.path));
    if (isNew) {
      // Before anybody is asked anything.
      refuseExistingEndpoint(planned);
    }
    const flags = { clientId: argv['client-id'], secretFile: argv['client-secret-file'] };
    if (argv.from === '-' && flags.secretFile === '-') {
      throw new UsageError('Only one of --from and --client-secret-file can be stdin (-).');
    }
    const mayAsk = canAsk(argv.json) && argv.from !== '-';
    const { dotenvPath } = planned;
    const [{ settings, hub, notices }, given, found] = await problemsTogether([
      async () => await planSettings(planned, argv.from, givenFlags(argv), environment),
      async () => await readGivenCredentials(flags, mayAsk),
      async () => await presentCredentials(flags, dotenvPath, environment),
    ]);
    const login = found === 'none' ? await findPerson(hub, { environment }) : undefined;
    const present = login === undefined ? found : 'login';
    const isAsking = given === undefined && present === 'none' && mayAsk;
    const credentials = isAsking ? await askForCredentials() : given;
    const dotenv = await dotenvText(dotenvPath, credentials);
    const directory = isNew ? await createEndpointDirectory(home, argv.name) : planned;
    try {
      await replaceFile(directory.configPath, renderConfigFile(settings));
      await replaceFile(dotenvPath, dotenv);
    } catch (error) {
      if (isNew) {
        await rm(directory.path, { recursive: true, force: true });
      }
      throw error;
    }
    report({
      json: argv.json,
      directory,
      isNew,
      notices,
      credentials: credentials === undefined ? present : 'dotenv',
    });
    return 0;
  },
);

async function planSettings(
  directory: EndpointDirectory,
  from: string | undefined,
  flags: Readonly<Record<string, unknown>>,
  environment: Environment,
): Promise<PlannedSettings> {
  const { config, origins } = resolveAgentConfig({
    directory: directory.path,
    file: from === undefined ? undefined : await readFrom(from),
    flags,
    // Settings of the environment stay there: written into the file, they would outlive it unnoticed.
    environment: { PATH: environment['PATH'] },
    batchScheduler: findBatchScheduler(environment),
  });
  const settings = new Map<string, OptionValue>();
  for (const { key, value, isDefault } of origins) {
    if (!isDefault && value !== undefined) {
      settings.set(key, value);
    }
  }
  if (config.python.includes('/')) {
    // Written down, because the agent may be started with another PATH, by systemd for one.
    settings.set('python', config.python);
  }
  const hubUrl = environment['OUTPOST_HUB_URL'] ?? '';
  return {
    settings,
    hub: { hubUrl: hubUrl === '' ? config.hubUrl : hubUrl, ca: config.ca },
    notices: config.notices,
  };
}

async function readFrom(from: string): Promise<SourceReading> {
  if (from === '-') {
    return parseConfigText(await readAll(process.stdin), 'stdin');
  }
  const path = resolve(from);
  const reading = readConfigFile(path);
  if (reading === undefined) {
    throw new ConfigError('The settings to begin with cannot be read', [
      { key: '--from', source: path, expected: 'there is no such file' },
    ]);
  }
  return reading;
}

/** Where credentials stand already. Those that are given on the command line will replace what is in `.env`. */
async function presentCredentials(
  { clientId, secretFile }: CredentialFlags,
  dotenvPath: string,
  environment: Environment,
): Promise<CredentialsPlace> {
  if (clientId !== undefined || secretFile !== undefined) {
    return 'none';
  }
  if (await hasCredentials({ environment: {}, dotenvPath })) {
    return 'dotenv';
  }
  return (await hasCredentials({ environment })) ? 'environment' : 'none';
}

function report({ json, directory, isNew, notices, credentials }: ConfigureOutcome): void {
  const { name, path, configPath, dotenvPath } = directory;
  for (const notice of notices) {
    printNote(`Warning: ${notice}`);
  }
  if (json) {
    printJson({
      name,
      path,
      config: configPath,
      created: isNew,
      credentials: credentials === 'dotenv' ? dotenvPath : null,
      notices,
    });
    return;
  }
  printLine(`${isNew ? 'Made' : 'Wrote the settings of'} endpoint ${name}: ${configPath}`);
  if (credentials === 'none') {
    printLine('Next: agent login, for an endpoint that signs in as you;');
    printLine(`or put OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET into ${dotenvPath}`);
    printLine('(the hub’s administrator makes them: hub client create).');
    printLine(`Then: agent start ${name}`);
    return;
  }
  printLine(isNew ? `Next: agent start ${name}` : `If it is running: agent restart ${name}`);
}

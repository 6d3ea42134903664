/** `agent config show`, `agent config validate` and `agent config reference`. */
import { SECRET_PLACEHOLDER } from '../../base/blank-secrets.ts';
import { AuthError } from '../../base/errors.ts';
import {
  renderConfigFile,
  renderConfigurationReference,
  renderDotenvFile,
} from '../../config/config-rendering.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import { FILE_OPTIONS } from '../../config/options.ts';
import { problemsTogether } from '../../config/problems-together.ts';
import { defineCommand, defineGroup } from '../command-line.ts';
import { printJson, printLine, printNote, printTable } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import type { HubPlace } from './hub-place.ts';
import { findSignIn } from './sign-in.ts';

/** A setting as it is shown. */
interface ShownSetting {
  readonly key: string;
  readonly value: unknown;
  readonly source: string;
}

const show = defineCommand(
  (parser) =>
    withEndpointName(parser).option('origin', {
      type: 'boolean',
      default: false,
      describe: 'Show where each value comes from',
    }),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    const reading = loadAgentConfig(context.directory, context.environment);
    const [{ origins, config: settings }, credentials] = await problemsTogether([
      async () => await reading,
      async () => await shownCredentials(context, async () => (await reading).config),
    ]);
    const shown: ShownSetting[] = [...origins, ...credentials];
    for (const notice of settings.notices) {
      printNote(`Warning: ${notice}`);
    }
    if (argv.json) {
      const rows = shown.map(({ key, value, source }) => [
        key,
        argv.origin ? { value: value ?? null, source } : (value ?? null),
      ]);
      printJson(Object.fromEntries(rows));
      return 0;
    }
    printTable(shown, [
      { title: 'SETTING', value: ({ key }) => key },
      { title: 'VALUE', value: valueText },
      ...(argv.origin
        ? [{ title: 'SOURCE', value: ({ source }: { source: string }) => source }]
        : []),
    ]);
    return 0;
  },
);

const validate = defineCommand(
  (parser) => withEndpointName(parser),
  async (argv) => {
    const { directory, environment } = await openEndpoint(argv.name);
    const { dotenvPath, name } = directory;
    const reading = loadAgentConfig(directory, environment);
    const [{ config: settings }, { source }] = await problemsTogether([
      async () => await reading,
      async () => await findSignIn(async () => (await reading).config, { environment, dotenvPath }),
    ]);
    for (const notice of settings.notices) {
      printNote(`Warning: ${notice}`);
    }
    if (argv.json) {
      printJson({ name, valid: true, credentials: source, notices: settings.notices });
    } else {
      printLine(`The settings and credentials of endpoint ${name} can be used.`);
    }
    return 0;
  },
);

const REFERENCES = {
  markdown: renderConfigurationReference,
  yaml: () => renderConfigFile(new Map()),
  dotenv: () => renderDotenvFile({}),
} as const;

const reference = defineCommand(
  (parser) =>
    parser.option('format', {
      choices: ['markdown', 'yaml', 'dotenv'] as const,
      default: 'markdown' as const,
      describe: 'What to print: the description, an empty config.yaml, or an empty .env',
    }),
  async (argv) => {
    const text = REFERENCES[argv.format]();
    if (argv.json) {
      printJson({ [argv.format]: text });
    } else {
      printLine(text.trimEnd());
    }
    return await Promise.resolve(0);
  },
);

/** Shows settings in force, and all that there are. */
export const config = defineGroup([
  {
    command: 'show [name]',
    summary: 'Show the settings in force',
    load: async () => await Promise.resolve(show),
  },
  {
    command: 'validate [name]',
    summary: 'Say what is wrong with settings and credentials, all at once',
    load: async () => await Promise.resolve(validate),
  },
  {
    command: 'reference',
    summary: 'Print the description of all settings',
    load: async () => await Promise.resolve(reference),
  },
]);

/** The credentials, the secret by its source only. An endpoint without any can be looked at too. */
async function shownCredentials(
  { directory: { dotenvPath }, environment }: EndpointContext,
  hub: () => Promise<HubPlace>,
): Promise<ShownSetting[]> {
  let source = 'nowhere';
  try {
    const signIn = await findSignIn(hub, { environment, dotenvPath });
    source = signIn.source;
    if (signIn.kind === 'client') {
      return [
        { key: 'client_id', value: signIn.credentials.clientId, source },
        { key: 'client_secret', value: SECRET_PLACEHOLDER, source },
      ];
    }
  } catch (error) {
    if (!(error instanceof AuthError)) {
      throw error;
    }
  }
  return [
    { key: 'client_id', value: undefined, source },
    { key: 'client_secret', value: undefined, source },
  ];
}

function valueText({ key, value }: ShownSetting): string {
  if (value === undefined) {
    return '-';
  }
  const unit = FILE_OPTIONS.find((option) => option.key === key)?.unit;
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return unit === undefined ? text : `${text} ${unit}`;
}

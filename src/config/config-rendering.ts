/**
 * The options table as text for people: config.yaml with comments, the `.env` example, docs/configuration.md.
 */
import { stringify } from 'yaml';

import { OPTION_SECTIONS } from './option-row.ts';
import type { OptionRow } from './option-row.ts';
import { expectation } from './option-types.ts';
import type { OptionValue } from './option-types.ts';
import { AGENT_OPTIONS, FILE_OPTIONS } from './options.ts';

const COMMENT_WIDTH = 88;

const CREDENTIAL_OPTIONS = AGENT_OPTIONS.filter((option) => option.section === 'Credentials');

/** config.yaml: what is set stands there, everything else as a comment with its default. */
export function renderConfigFile(settings: ReadonlyMap<string, OptionValue>): string {
  const lines = [
    '# Settings of this endpoint. A line without # is set; the others show the defaults.',
    '# Flags, the environment (OUTPOST_…) and .env win over this file. Changes take effect when the',
    '# agent is restarted; those of settings marked "Reload" also by: agent reload NAME',
    '# Secrets do not belong here but into .env beside this file.',
  ];
  for (const section of OPTION_SECTIONS) {
    const options = FILE_OPTIONS.filter((option) => option.section === section);
    if (options.length > 0) {
      lines.push('', `# ---- ${section} ${'-'.repeat(COMMENT_WIDTH - section.length - 8)}`);
    }
    for (const option of options) {
      lines.push('', ...commentLines(option), ...settingLines(option, settings.get(option.key)));
    }
  }
  return `${lines.join('\n')}\n`;
}

/** A `.env` file with all that can be set there; values that are given, by variable, stand without the comment sign. */
export function renderDotenvFile(values: Readonly<Record<string, string>>): string {
  const lines = [
    '# Credentials of this endpoint, and settings that win over config.yaml. Only you may read',
    '# this file: the agent refuses it otherwise (chmod 600).',
  ];
  for (const option of CREDENTIAL_OPTIONS) {
    const value = values[option.environment];
    lines.push(
      '',
      ...commentLines(option),
      value === undefined
        ? `# ${option.environment}=`
        : `${option.environment}=${dotenvQuoted(value)}`,
    );
  }
  lines.push('', '# Each setting of config.yaml, as it is called here, with its default:', '#');
  for (const option of FILE_OPTIONS) {
    const value = values[option.environment];
    lines.push(
      value === undefined
        ? `# ${option.environment}=${dotenvDefault(option)}`
        : `${option.environment}=${dotenvQuoted(value)}`,
    );
  }
  const known = new Set(AGENT_OPTIONS.map((option) => option.environment));
  const others = Object.entries(values).filter(([name]) => !known.has(name));
  if (others.length > 0) {
    lines.push('', '# Others:', ...others.map(([name, value]) => `${name}=${dotenvQuoted(value)}`));
  }
  return `${lines.join('\n')}\n`;
}

/** docs/configuration.md, generated from the table. */
export function renderConfigurationReference(): string {
  const lines = [
    '<!-- Generated from src/config/options.ts by renderConfigurationReference(); do not edit. -->',
    '',
    '# Settings of the agent',
    '',
    'Each endpoint has a directory, `$OUTPOST_HOME/<name>/` (default `~/.outpost/<name>/`), with its',
    '`config.yaml`. `agent configure` writes one that lists every setting. For each setting the first of these',
    'wins: the flag, the environment variable, the same variable in the endpoint’s `.env`, `config.yaml`, the',
    'default. An empty value means "not set".',
    '',
    'All problems are reported at once, with the file and line or the variable that each came from; unknown keys',
    'are problems too. `agent config show --origin` prints what is in force and where it comes from,',
    '`agent config validate` only what is wrong. With `--json`, `agent config show` prints one object with the value of',
    'each setting under its key, null where it is not set; with `--origin` each is an object of `value` and `source`.',
    'The client secret is `"[secret]"` there.',
    '',
    '`agent configure NAME --from FILE` begins with the settings of a YAML or JSON file (- for stdin); flags win over it.',
    'Nothing waits for input unless stdin is a terminal and `--json` is absent.',
    '',
    'Where a batch scheduler is installed (sbatch, qsub, bsub or condor_submit, or /etc/slurm), the host is taken for a',
    'login node that people share: no workers run there, and those that you set run with less claim to the processors,',
    'unless `javascript_threads`, `python_interpreters` and `worker_nice` say otherwise.',
  ];
  for (const section of OPTION_SECTIONS) {
    lines.push('', `## ${section}`);
    for (const option of AGENT_OPTIONS.filter((row) => row.section === section)) {
      lines.push('', `### \`${option.key}\``, '', option.description, '', ...factLines(option));
    }
  }
  lines.push('', ...credentialsChapter());
  return `${lines.join('\n')}\n`;
}

/** One line of help for a flag. */
export function optionHelp(option: OptionRow): string {
  const sentence = option.description.split(/(?<=\.)\s/)[0] ?? option.description;
  return `${sentence} [${defaultText(option)}]`;
}

/** The default as people read it. */
export function defaultText(option: OptionRow): string {
  if (option.defaultText !== undefined) {
    return option.defaultText;
  }
  const value = option.default;
  if (value === undefined) {
    return 'not set';
  }
  const unit = option.unit === undefined ? '' : ` ${option.unit}`;
  return typeof value === 'object' ? 'none' : `${value}${unit}`;
}

function factLines(option: OptionRow): string[] {
  const names = [`environment \`${option.environment}\``];
  if (option.flag !== undefined) {
    names.push(`flag \`--${option.flag}\``);
  }
  return [
    `- Expected: ${expectationWithUnit(option)}`,
    `- Default: ${defaultText(option)}`,
    `- Also: ${names.join(', ')}`,
    `- A change takes effect ${whenApplied(option)}`,
  ];
}

function whenApplied({ secret, restartNeeded }: OptionRow): string {
  if (secret) {
    return 'at the next sign-in';
  }
  return restartNeeded
    ? 'when the agent is restarted'
    : 'when the agent reads its settings again (`agent reload`, or SIGHUP), without a restart';
}

function credentialsChapter(): string[] {
  return [
    '### Where credentials come from',
    '',
    'The first source that has a client id or a secret is used, and it must have both:',
    '',
    '1. `OUTPOST_CLIENT_ID` and `OUTPOST_CLIENT_SECRET` in the environment',
    '2. `GLOBUS_COMPUTE_CLIENT_ID` and `GLOBUS_COMPUTE_CLIENT_SECRET` in the environment',
    '3. `FUNCX_SDK_CLIENT_ID` and `FUNCX_SDK_CLIENT_SECRET` in the environment (old names; a warning is logged)',
    '4. the systemd credentials `outpost-client-id` and `outpost-client-secret` (`LoadCredential=`)',
    '5. the endpoint’s `.env`, with any of the three pairs of names; it must have mode 0600',
    '',
    'A file with a secret, be it `.env`, a systemd credential or the FILE of `--client-secret-file`, is refused when',
    'others on the machine can read or write it. (The mode of a systemd credential may show the group as a reader: that is',
    'the mask of its access control list.)',
    '',
    '`agent whoami` says which source is used and whose identity it is.',
  ];
}

function commentLines(option: OptionRow): string[] {
  const facts = [
    `Expected: ${expectationWithUnit(option)}.`,
    ...(option.defaultText === undefined ? [] : [`Default: ${option.defaultText}.`]),
    ...(option.restartNeeded || option.secret ? [] : ['Reload.']),
  ];
  return [option.description, facts.join(' ')].flatMap((text) =>
    wrapped(text, COMMENT_WIDTH - 2).map((line) => `# ${line}`),
  );
}

function expectationWithUnit({ type, unit }: OptionRow): string {
  return unit !== undefined && type.type === 'integer'
    ? `${expectation(type)} (${unit})`
    : expectation(type);
}

// What is computed or not set by default is left empty, which means "not set".
function dotenvDefault(option: OptionRow): string {
  const { default: value, defaultText } = option;
  return value === undefined || defaultText !== undefined || typeof value === 'object'
    ? ''
    : dotenvQuoted(String(value));
}

function settingLines(option: OptionRow, value: OptionValue | undefined): string[] {
  if (value !== undefined) {
    return stringify({ [option.key]: value }, { lineWidth: 0 })
      .trimEnd()
      .split('\n');
  }
  if (option.default !== undefined && option.defaultText === undefined) {
    return [`# ${stringify({ [option.key]: option.default }, { lineWidth: 0 }).trimEnd()}`];
  }
  return [`# ${option.key}:`];
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

// dotenv takes single-quoted text as it is; a text with a single quote goes into backquotes.
function dotenvQuoted(value: string): string {
  if (/^[\w./:@+=-]*$/.test(value)) {
    return value;
  }
  return value.includes("'") ? `\`${value}\`` : `'${value}'`;
}

/**
 * The agent's settings, resolved: defaults < config.yaml < `.env` < environment < flags.
 *
 * All problems are reported at once, each with its key, source, value and what was expected. The result is total and frozen;
 * times are in milliseconds whatever the unit in the file.
 */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';

import { readAuthorityFile } from '../base/authority-file.ts';
import { ConfigError } from '../base/errors.ts';
import type { ConfigProblem } from '../base/errors.ts';
import type { Environment, SourceReading, SourcedValue } from './config-sources.ts';
import { nearestKey } from './nearest-key.ts';
import { readOptionValue } from './option-types.ts';
import type { OptionValue } from './option-types.ts';
import { AGENT_OPTIONS, FILE_OPTIONS } from './options.ts';
import type { LogLevel, OptionRow } from './options.ts';
import { findPython } from './python-interpreter.ts';

/** Settings of one agent. */
export interface AgentConfig {
  readonly displayName: string | undefined;
  readonly hubUrl: string;
  /** Authorities that are trusted beside the system's, PEM. */
  readonly ca: string | undefined;
  readonly amqpPort: number | undefined;
  readonly javascriptThreads: number;
  readonly javascriptHeapMb: number;
  readonly pythonInterpreters: number;
  /** Absolute path, or the bare name when nothing of that name was found. */
  readonly python: string;
  /** Extra environment of the workers. */
  readonly environment: Readonly<Record<string, string>>;
  /** Absolute. */
  readonly workingDir: string;
  readonly runInSandbox: boolean;
  readonly workerStartTimeoutMs: number;
  /** Undefined: all functions. */
  readonly allowedFunctions: readonly string[] | undefined;
  /** Identifiers; undefined: all serializers. */
  readonly allowedSerializers: readonly string[] | undefined;
  readonly reserve: number;
  /** 0: no limit. */
  readonly taskTimeoutMs: number;
  readonly maxRetries: number;
  readonly killGraceMs: number;
  readonly resultCharsMax: number;
  readonly outputBytesMax: number;
  readonly heartbeatPeriodMs: number;
  readonly drainGraceMs: number;
  readonly journalBytesMax: number;
  readonly logLevel: LogLevel;
}

/** What settings are resolved from. */
export interface AgentConfigSources {
  /** Directory of the endpoint: relative paths start here. */
  readonly directory: string;
  readonly file?: SourceReading | undefined;
  readonly dotenv?: { readonly path: string; readonly values: Environment } | undefined;
  readonly environment?: Environment;
  /** By option key (`hub_url`), not by the name of the flag. */
  readonly flags?: Readonly<Record<string, unknown>>;
}

/** Settings and where each came from. */
export interface ResolvedAgentConfig {
  readonly config: AgentConfig;
  /** Every option of config.yaml: its value as in the file, and `default`, `file:line`, a variable or a flag. */
  readonly origins: readonly OptionOrigin[];
}

/** Where a setting came from. */
export interface OptionOrigin {
  readonly key: string;
  readonly value: OptionValue | undefined;
  readonly source: string;
}

/** Resolves settings. @throws ConfigError with every problem there is. */
export function resolveAgentConfig(sources: AgentConfigSources): ResolvedAgentConfig {
  const problems: ConfigProblem[] = [...(sources.file?.problems ?? [])];
  problems.push(...unknownKeys(sources));
  const values = new Map<string, OptionValue>();
  const origins: OptionOrigin[] = [];
  for (const option of FILE_OPTIONS) {
    const sourced = lookUp(option, sources);
    const value = sourced === undefined ? option.default : read(option, sourced, problems);
    if (value !== undefined) {
      values.set(option.key, value);
    }
    origins.push({ key: option.key, value, source: sourced?.source ?? 'default' });
  }
  const ca = readAuthorities(values, origins, sources.directory, problems);
  const config = toAgentConfig(values, sources, ca);
  problems.push(...crossCheck(config, origins));
  if (problems.length > 0) {
    throw new ConfigError(
      problems.length === 1
        ? 'The settings have a problem:'
        : `The settings have ${problems.length} problems:`,
      problems,
    );
  }
  const known = new Map<string, OptionValue>([...values, ['reserve', config.reserve]]);
  return {
    config,
    origins: origins.map((origin) => ({ ...origin, value: known.get(origin.key) })),
  };
}

function lookUp(option: OptionRow, sources: AgentConfigSources): SourcedValue | undefined {
  const { flags = {}, environment = {}, dotenv, file } = sources;
  const variable = option.environment;
  const candidates: (SourcedValue | undefined)[] = [
    { raw: flags[option.key], source: `--${option.flag ?? option.key}` },
    { raw: environment[variable], source: `environment ${variable}` },
    dotenv && { raw: dotenv.values[variable], source: `${dotenv.path} ${variable}` },
    file?.values.get(option.key),
  ];
  return candidates.find(
    (candidate) => candidate?.raw !== undefined && candidate.raw !== null && candidate.raw !== '',
  );
}

function read(
  option: OptionRow,
  { raw, source }: SourcedValue,
  problems: ConfigProblem[],
): OptionValue | undefined {
  const reading = readOptionValue(option.type, raw);
  if ('value' in reading) {
    return reading.value;
  }
  problems.push({
    key: option.key,
    source,
    value: shown(raw),
    expected: `expected ${reading.expected}`,
  });
  // The default stands in, so that problems which follow from this one are not reported as well.
  return option.default;
}

function unknownKeys({ file, dotenv, flags = {} }: AgentConfigSources): ConfigProblem[] {
  const fileKeys = FILE_OPTIONS.map((option) => option.key);
  const problems: ConfigProblem[] = [];
  for (const [key, { source }] of file?.values ?? []) {
    if (!fileKeys.includes(key)) {
      problems.push({ key, source, expected: unknownKeyText(key, fileKeys) });
    }
  }
  for (const key of Object.keys(flags)) {
    if (!fileKeys.includes(key)) {
      problems.push({ key, source: 'command line', expected: unknownKeyText(key, fileKeys) });
    }
  }
  const variables = AGENT_OPTIONS.map((option) => option.environment);
  for (const name of Object.keys(dotenv?.values ?? {})) {
    // Other names may be there for other programs; ours are checked, because a typo would be silent.
    if (name.startsWith('OUTPOST_') && !variables.includes(name)) {
      problems.push({
        key: name,
        source: dotenv?.path ?? '.env',
        expected: unknownKeyText(name, variables),
      });
    }
  }
  return problems;
}

function unknownKeyText(key: string, known: readonly string[]): string {
  if (key === 'client_id' || key === 'client_secret') {
    return `credentials do not belong here; set OUTPOST_${key.toUpperCase()} in the endpoint’s .env`;
  }
  const near = nearestKey(key, known);
  return near === undefined
    ? 'is not a setting; see docs/configuration.md'
    : `is not a setting; did you mean ${near}?`;
}

/** The authorities, read at once: a wrong file is a problem of the settings and not of some later connection. */
function readAuthorities(
  values: ReadonlyMap<string, OptionValue>,
  origins: readonly OptionOrigin[],
  directory: string,
  problems: ConfigProblem[],
): string | undefined {
  const file = values.get('ca_file');
  if (typeof file !== 'string') {
    return undefined;
  }
  const path = resolve(directory, withHome(file));
  const reading = readAuthorityFile(path);
  if ('pem' in reading) {
    return reading.pem;
  }
  const source = origins.find((origin) => origin.key === 'ca_file')?.source ?? 'default';
  problems.push({ key: 'ca_file', source, value: path, expected: `expected ${reading.expected}` });
  return undefined;
}

function crossCheck(config: AgentConfig, origins: readonly OptionOrigin[]): ConfigProblem[] {
  const sourceOf = (key: string): string =>
    origins.find((origin) => origin.key === key)?.source ?? 'default';
  const problems: ConfigProblem[] = [];
  if (config.javascriptThreads === 0 && config.pythonInterpreters === 0) {
    problems.push({
      key: 'python_interpreters',
      source: sourceOf('python_interpreters'),
      value: '0',
      expected: 'expected at least 1 here or in javascript_threads: nothing could run',
    });
  }
  // A bare name that is not found is no problem: an endpoint may have no use for Python.
  const python = { key: 'python', source: sourceOf('python'), value: config.python };
  if (config.python.includes('/') && !isAbsolute(config.python)) {
    problems.push({ ...python, expected: 'expected an absolute path or a name on PATH' });
  } else if (isAbsolute(config.python) && !existsSync(config.python)) {
    problems.push({ ...python, expected: 'there is no such file' });
  }
  return problems;
}

function toAgentConfig(
  values: ReadonlyMap<string, OptionValue>,
  { directory, environment = {} }: AgentConfigSources,
  ca: string | undefined,
): AgentConfig {
  const number = (key: string): number => values.get(key) as number;
  const text = (key: string): string => values.get(key) as string;
  const milliseconds = (key: string): number => Math.round(number(key) * 1000);
  const slots = number('javascript_threads') + number('python_interpreters');
  const workingDir = withHome(text('working_dir'));
  return Object.freeze<AgentConfig>({
    displayName: values.get('display_name') as string | undefined,
    hubUrl: text('hub_url'),
    ca,
    amqpPort: values.get('amqp_port') as number | undefined,
    javascriptThreads: number('javascript_threads'),
    javascriptHeapMb: number('javascript_heap_mb'),
    pythonInterpreters: number('python_interpreters'),
    python: findPython(withHome(text('python')), environment['PATH']),
    environment: Object.freeze(values.get('environment') as Record<string, string>),
    workingDir: isAbsolute(workingDir) ? workingDir : join(directory, workingDir),
    runInSandbox: values.get('run_in_sandbox') === true,
    workerStartTimeoutMs: milliseconds('worker_start_timeout_s'),
    allowedSerializers: Object.freeze(values.get('allowed_serializers')) as
      readonly string[] | undefined,
    allowedFunctions: Object.freeze(values.get('allowed_functions')) as
      readonly string[] | undefined,
    reserve:
      (values.get('reserve') as number | undefined) ?? Math.min(1024, Math.max(64, 2 * slots)),
    taskTimeoutMs: milliseconds('task_timeout_s'),
    maxRetries: number('max_retries'),
    killGraceMs: milliseconds('kill_grace_s'),
    resultCharsMax: number('result_chars_max'),
    outputBytesMax: number('output_bytes_max'),
    heartbeatPeriodMs: milliseconds('heartbeat_period_s'),
    drainGraceMs: milliseconds('drain_grace_s'),
    journalBytesMax: number('journal_bytes_max'),
    logLevel: text('log_level') as LogLevel,
  });
}

function withHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path;
}

// A URL with a password in it is refused, and must not be repeated by the refusal.
function shown(raw: unknown): string {
  const text = typeof raw === 'string' ? raw : JSON.stringify(raw);
  return text.replaceAll(/\/\/[^/@\s]*@/g, '//[secret]@').slice(0, 200);
}

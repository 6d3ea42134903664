/**
 * The agent's settings, resolved: defaults < config.yaml < `.env` < environment < flags.
 *
 * All problems are reported at once, each with its key, source, value and what was expected. The result is total and frozen;
 * times are in milliseconds whatever the unit in the file.
 */
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';

import { readAuthorityFile } from '../base/authority-file.ts';
import type { ConfigProblem } from '../base/errors.ts';
import { NO_ENVIRONMENTS } from '../protocol/environments.ts';
import type { EnvironmentRules } from '../protocol/environments.ts';
import type { EnvironmentSettings } from '../protocol/host-frames.ts';
import { crossCheck, noticesOf } from './config-checks.ts';
import type { Environment, SourceReading, SourcedValue } from './config-sources.ts';
import type { LogLevel } from './log-levels.ts';
import { nearestKey } from './nearest-key.ts';
import type { OptionOrigin } from './option-origin.ts';
import type { OptionRow } from './option-row.ts';
import { readOptionValue } from './option-types.ts';
import type { OptionValue } from './option-types.ts';
import { AGENT_OPTIONS, FILE_OPTIONS } from './options.ts';
import { settingsError } from './problems-together.ts';
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
  /** Execution environments that functions may name. */
  readonly environments: EnvironmentSettings;
  readonly workerStartTimeoutMs: number;
  /** 0 to 19. */
  readonly workerNice: number;
  /** Address space of one Python interpreter; 0: no limit. */
  readonly workerMemoryMb: number;
  /** Who starts the worker host: the agent, or a systemd unit. */
  readonly workerHost: 'child' | 'unit';
  /** Undefined: all functions. */
  readonly allowedFunctions: readonly string[] | undefined;
  /** Identifiers; undefined: all serializers. */
  readonly allowedSerializers: readonly string[] | undefined;
  /** The endpoint may be shared although its workers run as the agent's user. */
  readonly shareWithoutIsolation: boolean;
  readonly reserve: number;
  /** 0: no limit. */
  readonly taskTimeoutMs: number;
  readonly maxRetries: number;
  readonly killGraceMs: number;
  readonly resultCharsMax: number;
  readonly outputBytesMax: number;
  readonly heartbeatPeriodMs: number;
  readonly drainGraceMs: number;
  /** 0: the agent never stops by itself. */
  readonly idleHeartbeatsSoft: number;
  /** 0: never. */
  readonly idleHeartbeatsHard: number;
  /** Cron expressions. */
  readonly cleanupSchedule: string;
  /** Both windows are set, or neither. */
  readonly drainAt: string | undefined;
  readonly resumeAt: string | undefined;
  /** As {@link parseListenAddress} takes it. */
  readonly metricsListen: string | undefined;
  readonly journalBytesMax: number;
  readonly logLevel: LogLevel;
  /** Of all files of the log. */
  readonly logBytesMax: number;
  /** 0: captured output is not kept. */
  readonly taskLogsDays: number;
  readonly taskLogsBytesMax: number;
  /** What tells that this host has a batch scheduler, as a path. */
  readonly batchScheduler: string | undefined;
  /** What is right and yet worth knowing, in whole sentences for the operator. */
  readonly notices: readonly string[];
}

/** What settings are resolved from. */
export interface AgentConfigSources {
  /** Directory of the endpoint: relative paths start here. */
  readonly directory: string;
  readonly file?: SourceReading | undefined;
  readonly dotenv?: { readonly path: string; readonly values: Environment } | undefined;
  readonly environment?: Environment;
  /** What tells that this host has a batch scheduler, if it has one. */
  readonly batchScheduler?: string | undefined;
  /** By option key (`hub_url`), not by the name of the flag. */
  readonly flags?: Readonly<Record<string, unknown>>;
}

/** Settings and where each came from. */
export interface ResolvedAgentConfig {
  readonly config: AgentConfig;
  /** Every option of config.yaml: its value as in the file, and `file:line`, a variable, a flag or a kind of default. */
  readonly origins: readonly OptionOrigin[];
}

/** Resolves settings. @throws ConfigError with every problem there is. */
export function resolveAgentConfig(sources: AgentConfigSources): ResolvedAgentConfig {
  const problems: ConfigProblem[] = [...(sources.file?.problems ?? [])];
  problems.push(...unknownKeys(sources));
  const values = new Map<string, OptionValue>();
  const origins: OptionOrigin[] = [];
  for (const option of FILE_OPTIONS) {
    const sourced = lookUp(option, sources);
    const { value: standard, source } = defaultOf(option, sources.batchScheduler);
    const value = sourced === undefined ? standard : read(option, sourced, problems);
    if (value !== undefined) {
      values.set(option.key, value);
    }
    const isDefault = sourced === undefined;
    origins.push({ key: option.key, value, source: sourced?.source ?? source, isDefault });
  }
  const ca = readAuthorities(values, origins, sources.directory, problems);
  const plain = toAgentConfig(values, sources, ca);
  const config = Object.freeze({ ...plain, notices: noticesOf(plain, origins, sources.directory) });
  problems.push(...crossCheck(config, origins));
  if (problems.length > 0) {
    throw settingsError(problems);
  }
  const known = new Map<string, OptionValue>([...values, ['reserve', config.reserve]]);
  return {
    config,
    origins: origins.map((origin) => ({ ...origin, value: known.get(origin.key) })),
  };
}

function defaultOf(
  { default: value, schedulerDefault }: OptionRow,
  batchScheduler: string | undefined,
): { value: OptionValue | undefined; source: string } {
  return batchScheduler === undefined || schedulerDefault === undefined
    ? { value, source: 'default' }
    : {
        value: schedulerDefault,
        source: `default of hosts with a batch scheduler (${batchScheduler})`,
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

function toAgentConfig(
  values: ReadonlyMap<string, OptionValue>,
  { directory, environment = {}, batchScheduler }: AgentConfigSources,
  ca: string | undefined,
): Omit<AgentConfig, 'notices'> {
  const number = (key: string): number => values.get(key) as number;
  const text = (key: string): string => values.get(key) as string;
  const optionalText = (key: string): string | undefined => values.get(key) as string | undefined;
  const milliseconds = (key: string): number => Math.round(number(key) * 1000);
  const slots = number('javascript_threads') + number('python_interpreters');
  const workingDir = withHome(text('working_dir'));
  return {
    displayName: optionalText('display_name'),
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
    environments: environmentSettings(values),
    workerStartTimeoutMs: milliseconds('worker_start_timeout_s'),
    workerNice: number('worker_nice'),
    workerMemoryMb: number('worker_memory_mb'),
    workerHost: text('worker_host') as AgentConfig['workerHost'],
    allowedSerializers: Object.freeze(values.get('allowed_serializers')) as
      readonly string[] | undefined,
    allowedFunctions: Object.freeze(values.get('allowed_functions')) as
      readonly string[] | undefined,
    shareWithoutIsolation: values.get('share_without_isolation') === true,
    reserve:
      (values.get('reserve') as number | undefined) ?? Math.min(1024, Math.max(512, 2 * slots)),
    taskTimeoutMs: milliseconds('task_timeout_s'),
    maxRetries: number('max_retries'),
    killGraceMs: milliseconds('kill_grace_s'),
    resultCharsMax: number('result_chars_max'),
    outputBytesMax: number('output_bytes_max'),
    heartbeatPeriodMs: milliseconds('heartbeat_period_s'),
    drainGraceMs: milliseconds('drain_grace_s'),
    idleHeartbeatsSoft: number('idle_heartbeats_soft'),
    idleHeartbeatsHard: number('idle_heartbeats_hard'),
    cleanupSchedule: text('cleanup_schedule'),
    drainAt: optionalText('drain_at'),
    resumeAt: optionalText('resume_at'),
    metricsListen: optionalText('metrics_listen'),
    journalBytesMax: number('journal_bytes_max'),
    logLevel: text('log_level') as LogLevel,
    logBytesMax: number('log_bytes_max'),
    taskLogsDays: number('task_logs_days'),
    taskLogsBytesMax: number('task_logs_bytes_max'),
    batchScheduler,
  };
}

function environmentSettings(values: ReadonlyMap<string, OptionValue>): EnvironmentSettings {
  return {
    rules: (values.get('environments') as EnvironmentRules | undefined) ?? NO_ENVIRONMENTS,
    warmMax: values.get('environments_warm_max') as number,
    startTimeoutMs: Math.round((values.get('environment_start_timeout_s') as number) * 1000),
  };
}

function withHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path;
}

// A URL with a password in it is refused, and must not be repeated by the refusal.
function shown(raw: unknown): string {
  const text = typeof raw === 'string' ? raw : JSON.stringify(raw);
  return text.replaceAll(/\/\/[^/@\s]*@/g, '//[secret]@').slice(0, 200);
}

/**
 * The hub's settings: defaults < dotenv file < environment.
 *
 * All problems are reported at once, each with its variable, source, value and what was expected; a value that may hold a
 * password is shown without it. The result is frozen, with numbers as numbers and files already read.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createSecureContext } from 'node:tls';

import { parse as parseDotenv } from 'dotenv';

import { readAuthorityFile } from '../base/authority-file.ts';
import { ConfigError, errorText } from '../base/errors.ts';
import type { ConfigProblem } from '../base/errors.ts';
import { redactUrl } from '../base/redact-url.ts';
import {
  FUNCTION_BYTES_MAX,
  LOST_AFTER_MS,
  RETENTION_MS,
  SUBMISSION_BYTES_MAX,
  TASK_TTL_MS,
} from '../protocol/limits.ts';
import { readTextFile } from './config-sources.ts';
import type { Environment } from './config-sources.ts';
import { readDotenvFile } from './dotenv-file.ts';
import { outpostHome } from './endpoint-directory.ts';
import { LIMIT_VARIABLES, readBlobConfig, readRequestLimits } from './hub-limits.ts';
import type { BlobConfig } from './hub-limits.ts';
import { parseOidcIssuers } from './oidc-issuers.ts';
import type { OidcIssuer } from './oidc-issuers.ts';
import { LOG_LEVELS } from './options.ts';
import type { LogLevel } from './options.ts';

/** One variable, for reading and for the documentation. */
interface Variable {
  readonly name: string;
  readonly summary: string;
  readonly defaultText?: string;
}

/** Every variable that the hub reads. */
export const HUB_VARIABLES = {
  databaseUrl: {
    name: 'OUTPOST_DATABASE_URL',
    summary: 'PostgreSQL database of the hub, such as postgresql://user:password@host:5432/outpost',
  },
  amqpUrl: {
    name: 'OUTPOST_AMQP_URL',
    summary: 'RabbitMQ as the hub dials it, such as amqps://user:password@host:5671/vhost',
  },
  amqpPublicUrl: {
    name: 'OUTPOST_AMQP_PUBLIC_URL',
    summary: 'RabbitMQ as endpoints and SDKs dial it; credentials in it are ignored',
    defaultText: 'OUTPOST_AMQP_URL',
  },
  managementUrl: {
    name: 'OUTPOST_AMQP_MANAGEMENT_URL',
    summary: "RabbitMQ's management API, such as https://user:password@host:15671",
  },
  caFile: {
    name: 'OUTPOST_CA_FILE',
    summary:
      'PEM file with authorities to trust beside those that Node brings, for RabbitMQ, its management API and PostgreSQL',
  },
  host: {
    name: 'OUTPOST_HUB_HOST',
    summary: 'Address to listen on; localhost is 127.0.0.1 and ::1',
    defaultText: 'localhost',
  },
  port: { name: 'OUTPOST_HUB_PORT', summary: 'Port to listen on', defaultText: '5000' },
  publicUrl: {
    name: 'OUTPOST_HUB_URL',
    summary: 'Where others reach the hub',
    defaultText: 'made of host and port',
  },
  tlsCertFile: {
    name: 'OUTPOST_HUB_TLS_CERT_FILE',
    summary: 'PEM file with the certificate chain of the hub; with it the hub speaks https',
  },
  tlsKeyFile: {
    name: 'OUTPOST_HUB_TLS_KEY_FILE',
    summary: 'PEM file with the key of that certificate',
  },
  oidcIssuers: {
    name: 'OUTPOST_OIDC_ISSUERS',
    summary:
      'Issuers (OpenID Connect) whose signed tokens sign people in: a JSON list, or the path of a file with one; docs/sign-in.md has the fields',
    defaultText: 'none',
  },
  submissionBytesMax: {
    name: 'OUTPOST_HUB_SUBMISSION_BYTES_MAX',
    summary: 'Largest request body, in bytes',
    defaultText: String(SUBMISSION_BYTES_MAX),
  },
  functionBytesMax: {
    name: 'OUTPOST_HUB_FUNCTION_BYTES_MAX',
    summary: 'Largest function, in bytes',
    defaultText: String(FUNCTION_BYTES_MAX),
  },
  submissionTasksMax: {
    name: 'OUTPOST_HUB_SUBMISSION_TASKS_MAX',
    summary: 'Most tasks in one submission',
    defaultText: '20000',
  },
  ...LIMIT_VARIABLES,
  retentionDays: {
    name: 'OUTPOST_HUB_RETENTION_DAYS',
    summary: 'How long results stay readable, in days',
    defaultText: '14',
  },
  taskTtlDays: {
    name: 'OUTPOST_HUB_TASK_TTL_DAYS',
    summary: 'How long a task may wait for its endpoint, in days',
    defaultText: '14',
  },
  lostAfterS: {
    name: 'OUTPOST_HUB_LOST_AFTER_S',
    summary:
      'How long an endpoint may be gone before the tasks that it received count as lost, in seconds',
    defaultText: '86400',
  },
  logLevel: {
    name: 'OUTPOST_HUB_LOG_LEVEL',
    summary: `One of ${LOG_LEVELS.join(', ')}`,
    defaultText: 'info',
  },
} as const satisfies Record<string, Variable>;

/** Broker and database. */
export interface HubServiceUrls {
  readonly databaseUrl: string;
  readonly amqpUrl: string;
  readonly amqpPublicUrl: string;
  readonly managementUrl: string;
}

/** Certificate chain and key of the hub, PEM, and how to look whether they were renewed. */
export interface RenewableIdentity {
  readonly cert: string;
  readonly key: string;
  /** Reads both files again. @throws ConfigError when they do not hold a certificate and its key. */
  readonly reload: () => { readonly cert: string; readonly key: string };
}

/** Settings of a hub, wherever its broker and database are. */
export interface HubConfig {
  /** State directory of the user. */
  readonly home: string;
  readonly host: string;
  readonly port: number;
  /** Without a slash at the end. */
  readonly publicUrl: string | undefined;
  /** Authorities that are trusted beside the system's, PEM. */
  readonly ca: string | undefined;
  readonly tls: RenewableIdentity | undefined;
  /** Issuers whose tokens are taken beside the hub's own. */
  readonly issuers: readonly OidcIssuer[] | undefined;
  readonly limits: {
    readonly submissionBytesMax: number;
    readonly functionBytesMax: number;
    readonly submissionTasksMax: number;
  } & ReturnType<typeof readRequestLimits>;
  /** Where results go that are too large for a message. */
  readonly blobs: BlobConfig;
  readonly retentionMs: number;
  readonly taskTtlMs: number;
  readonly lostAfterMs: number;
  readonly logLevel: LogLevel;
}

/** Settings with the services of a hub that does not start its own. */
export interface HubStartConfig extends HubConfig {
  readonly services: HubServiceUrls;
}

const AMQP_SCHEMES = ['amqp:', 'amqps:'];
const HTTP_SCHEMES = ['http:', 'https:'];
const DATABASE_SCHEMES = ['postgresql:', 'postgres:'];
const DAY_MS = 24 * 3600 * 1000;

/**
 * The variables that count: the environment over the dotenv file.
 *
 * Without a path `./.env` is taken when there is one; it is somebody else's unless it holds a variable of ours.
 */
export async function hubEnvironment(
  environment: Environment,
  envFile?: string,
): Promise<Environment> {
  const path = resolve(envFile ?? '.env');
  if (envFile === undefined) {
    const text = readTextFile(path);
    if (text === undefined || !Object.keys(parseDotenv(text)).some(isOurs)) {
      return environment;
    }
  }
  const values = await readDotenvFile(path);
  if (values === undefined) {
    throw new ConfigError('the settings file does not exist', [
      { key: '--env-file', source: 'command line', value: path, expected: 'a file that exists' },
    ]);
  }
  const set = Object.entries(environment).filter(
    ([, value]) => value !== undefined && value !== '',
  );
  return { ...values, ...Object.fromEntries(set) };
}

function isOurs(name: string): boolean {
  return name.startsWith('OUTPOST_');
}

/** Reads the settings that do not concern broker and database. @throws ConfigError with every problem. */
export function readHubConfig(environment: Environment): HubConfig {
  const reader = new VariableReader(environment);
  const config = commonSettings(reader, environment);
  reader.finish();
  return Object.freeze(config);
}

/** Reads all settings of a hub that runs on services of its own. @throws ConfigError with every problem. */
export function readHubStartConfig(environment: Environment): HubStartConfig {
  const reader = new VariableReader(environment);
  const amqpUrl = reader.requiredUrl(HUB_VARIABLES.amqpUrl, AMQP_SCHEMES);
  const services: HubServiceUrls = {
    databaseUrl: reader.requiredUrl(HUB_VARIABLES.databaseUrl, DATABASE_SCHEMES),
    amqpUrl,
    amqpPublicUrl: reader.url(HUB_VARIABLES.amqpPublicUrl, AMQP_SCHEMES) ?? amqpUrl,
    managementUrl: reader.requiredUrl(HUB_VARIABLES.managementUrl, HTTP_SCHEMES),
  };
  const config = commonSettings(reader, environment);
  reader.finish();
  return Object.freeze({ ...config, services });
}

/** The database alone, for commands that need nothing else. `url` is undefined when it is not set. @throws ConfigError. */
export function readDatabaseSettings(
  environment: Environment,
): Pick<HubConfig, 'ca'> & { readonly url: string | undefined } {
  const reader = new VariableReader(environment);
  const url = reader.url(HUB_VARIABLES.databaseUrl, DATABASE_SCHEMES);
  const ca = readAuthorities(reader);
  reader.finish();
  return { url, ca };
}

function readAuthorities(reader: VariableReader): string | undefined {
  reader.refuseOldName('OUTPOST_AMQP_CA_FILE', HUB_VARIABLES.caFile);
  const path = reader.text(HUB_VARIABLES.caFile);
  if (path === undefined) {
    return undefined;
  }
  const reading = readAuthorityFile(path);
  if ('pem' in reading) {
    return reading.pem;
  }
  reader.refuse(HUB_VARIABLES.caFile, path, reading.expected);
  return undefined;
}

/** Certificate and key of the hub: both or none, and belonging together. */
function readIdentity(reader: VariableReader): { cert: string; key: string } | undefined {
  const { tlsCertFile, tlsKeyFile } = HUB_VARIABLES;
  const isSet = [tlsCertFile, tlsKeyFile].map((variable) => reader.text(variable) !== undefined);
  const cert = reader.file(tlsCertFile);
  const key = reader.file(tlsKeyFile);
  if (isSet[0] !== isSet[1]) {
    const missing = isSet[0] === true ? tlsKeyFile : tlsCertFile;
    reader.refuse(missing, undefined, 'to be set too: https needs a certificate and its key');
  }
  if (cert === undefined || key === undefined) {
    return undefined;
  }
  try {
    createSecureContext({ cert, key });
    return { cert, key };
  } catch (error) {
    const expected = `a certificate chain as PEM that belongs to the key of ${tlsKeyFile.name}; ${errorText(error)}`;
    reader.refuse(tlsCertFile, reader.text(tlsCertFile), expected);
    return undefined;
  }
}

function readIssuers(reader: VariableReader): readonly OidcIssuer[] | undefined {
  const variable = HUB_VARIABLES.oidcIssuers;
  const value = reader.text(variable);
  const text = value?.startsWith('[') === true ? value : reader.file(variable);
  const reading = text === undefined ? undefined : parseOidcIssuers(text);
  if (reading !== undefined && 'expected' in reading) {
    reader.refuse(variable, undefined, reading.expected);
    return undefined;
  }
  return reading?.issuers;
}

function commonSettings(reader: VariableReader, environment: Environment): HubConfig {
  const identity = readIdentity(reader);
  const home = reader.attempt(() => outpostHome(environment)) ?? '';
  return {
    home,
    host: reader.text(HUB_VARIABLES.host) ?? 'localhost',
    port: reader.integer(HUB_VARIABLES.port, 0, 65_535) ?? 5000,
    publicUrl: reader.url(HUB_VARIABLES.publicUrl, HTTP_SCHEMES)?.replace(/\/+$/, ''),
    ca: readAuthorities(reader),
    tls: identity && {
      ...identity,
      reload: () => {
        const again = new VariableReader(environment);
        const renewed = readIdentity(again);
        again.finish();
        return renewed ?? identity;
      },
    },
    issuers: readIssuers(reader),
    limits: {
      submissionBytesMax:
        reader.integer(HUB_VARIABLES.submissionBytesMax, 1024, 256 * 1024 * 1024) ??
        SUBMISSION_BYTES_MAX,
      functionBytesMax:
        reader.integer(HUB_VARIABLES.functionBytesMax, 1024, 256 * 1024 * 1024) ??
        FUNCTION_BYTES_MAX,
      submissionTasksMax: reader.integer(HUB_VARIABLES.submissionTasksMax, 1, 1_000_000) ?? 20_000,
      ...readRequestLimits(reader),
    },
    blobs: readBlobConfig(reader, home),
    retentionMs:
      (reader.integer(HUB_VARIABLES.retentionDays, 1, 3650) ?? RETENTION_MS / DAY_MS) * DAY_MS,
    taskTtlMs:
      (reader.integer(HUB_VARIABLES.taskTtlDays, 1, 3650) ?? TASK_TTL_MS / DAY_MS) * DAY_MS,
    lostAfterMs:
      (reader.integer(HUB_VARIABLES.lostAfterS, 60, 3650 * 86_400) ?? LOST_AFTER_MS / 1000) * 1000,
    logLevel: reader.choice(HUB_VARIABLES.logLevel, LOG_LEVELS) ?? 'info',
  };
}

/** Reads variables and collects what is wrong with them. */
class VariableReader {
  readonly #environment: Environment;
  readonly #problems: ConfigProblem[] = [];

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  refuse(variable: Variable, value: string | undefined, expected: string): void {
    this.#problems.push({
      key: variable.name,
      source: 'environment',
      ...(value === undefined ? {} : { value }),
      expected: `expected ${expected}`,
    });
  }

  text(variable: Variable): string | undefined {
    const value = this.#environment[variable.name]?.trim();
    return value === '' ? undefined : value;
  }

  integer(variable: Variable, min: number, max: number): number | undefined {
    const text = this.text(variable);
    if (text === undefined) {
      return undefined;
    }
    const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
    if (!(value >= min && value <= max)) {
      this.refuse(variable, text, `a whole number from ${min} to ${max}`);
      return undefined;
    }
    return value;
  }

  choice<T extends string>(variable: Variable, choices: readonly T[]): T | undefined {
    const text = this.text(variable);
    const choice = choices.find((candidate) => candidate === text);
    if (text !== undefined && choice === undefined) {
      this.refuse(variable, text, `one of ${choices.join(', ')}`);
    }
    return choice;
  }

  url(variable: Variable, schemes: readonly string[]): string | undefined {
    const text = this.text(variable);
    if (text === undefined) {
      return undefined;
    }
    if (!URL.canParse(text) || !schemes.includes(new URL(text).protocol)) {
      const wanted = schemes.map((scheme) => `${scheme}//`).join(' or ');
      // What cannot be taken apart is not shown: a password may stand anywhere in it.
      this.refuse(variable, redactUrl(text), `a URL that starts with ${wanted}`);
      return undefined;
    }
    return text;
  }

  requiredUrl(variable: Variable, schemes: readonly string[]): string {
    if (this.text(variable) === undefined) {
      this.refuse(variable, undefined, `to be set: ${variable.summary}`);
    }
    return this.url(variable, schemes) ?? '';
  }

  file(variable: Variable): string | undefined {
    const path = this.text(variable);
    if (path === undefined) {
      return undefined;
    }
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      this.refuse(variable, path, `a file that can be read; ${errorText(error)}`);
      return undefined;
    }
  }

  /** A variable that nobody reads any more would be ignored without a word. */
  refuseOldName(name: string, variable: Variable): void {
    if ((this.#environment[name] ?? '') !== '') {
      this.refuse({ ...variable, name }, undefined, `to be called ${variable.name} by now`);
    }
  }

  /** Takes over the problems of another reader. */
  attempt<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (error instanceof ConfigError) {
        this.#problems.push(...error.problems);
        return undefined;
      }
      throw error;
    }
  }

  finish(): void {
    if (this.#problems.length > 0) {
      throw new ConfigError('the settings of the hub are not right:', this.#problems);
    }
  }
}

/**
 * The hub's settings: defaults < dotenv file < environment.
 *
 * hub-variables.ts lists the variables. All problems are reported at once, each with its variable, source, value and what was
 * expected. The result is frozen, with numbers as numbers and files already read.
 */
import { resolve } from 'node:path';
import { createSecureContext } from 'node:tls';

import { parse as parseDotenv } from 'dotenv';

import { readAuthorityFile } from '../base/authority-file.ts';
import { ConfigError, errorText } from '../base/errors.ts';
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
import { readBlobConfig, readRequestLimits } from './hub-limits.ts';
import type { BlobConfig } from './hub-limits.ts';
import { HUB_VARIABLES } from './hub-variables.ts';
import { LOG_LEVELS } from './log-levels.ts';
import type { LogLevel } from './log-levels.ts';
import { parseOidcIssuers } from './oidc-issuers.ts';
import type { OidcIssuer } from './oidc-issuers.ts';
import { VariableReader } from './variable-reader.ts';

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

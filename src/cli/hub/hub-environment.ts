/** What the commands of `hub` have in common: the settings file, and the way from settings to a hub. */
import type { Argv } from 'yargs';

import type { HubConfig, HubServiceUrls } from '../../config/hub-config.ts';
import type { HubSettings } from '../../hub/hub.ts';
import type { CommonArguments } from '../command-line.ts';

/** Arguments of {@link withEnvFile}. */
export interface EnvFileArguments extends CommonArguments {
  readonly envFile: string | undefined;
}

/** Adds `--env-file`. */
export function withEnvFile(parser: Argv<CommonArguments>): Argv<EnvFileArguments> {
  return parser.option('env-file', {
    type: 'string',
    requiresArg: true,
    describe: 'File with settings as NAME=value lines; ./.env when it exists',
  }) as unknown as Argv<EnvFileArguments>;
}

/** Puts settings and services together. */
export function hubSettings(config: HubConfig, services: HubServiceUrls): HubSettings {
  return {
    databaseUrl: services.databaseUrl,
    amqpUrl: services.amqpUrl,
    amqpPublicUrl: services.amqpPublicUrl,
    managementUrl: services.managementUrl,
    ...(config.ca === undefined ? {} : { ca: config.ca }),
    host: config.host,
    port: config.port,
    ...(config.publicUrl === undefined ? {} : { publicUrl: config.publicUrl }),
    ...(config.tls === undefined ? {} : { tls: config.tls }),
    ...(config.issuers === undefined ? {} : { issuers: config.issuers }),
    limits: config.limits,
    blobs: config.blobs,
    retentionMs: config.retentionMs,
    taskTtlMs: config.taskTtlMs,
    lostAfterMs: config.lostAfterMs,
  };
}

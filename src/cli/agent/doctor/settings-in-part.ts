/**
 * Settings of which some may be wrong: for looking at all that does not depend on those. Wrong ones are left out, so that their defaults
 * stand in; whoever uses one of them has to ask first.
 */
import type { ConfigError } from '../../../base/errors.ts';
import { ConfigError as SettingsError } from '../../../base/errors.ts';
import { resolveAgentConfig } from '../../../config/agent-config.ts';
import type { ResolvedAgentConfig } from '../../../config/agent-config.ts';
import { findBatchScheduler } from '../../../config/batch-scheduler.ts';
import { readConfigFile } from '../../../config/config-file.ts';
import type { Environment } from '../../../config/config-sources.ts';
import { readDotenvFile } from '../../../config/dotenv-file.ts';
import type { EndpointDirectory } from '../../../config/endpoint-directory.ts';
import { loadAgentConfig } from '../../../config/load-agent-config.ts';
import { AGENT_OPTIONS } from '../../../config/options.ts';

/** Settings as far as they are right. */
export interface SettingsInPart extends ResolvedAgentConfig {
  /** Every problem that there is; undefined when all is right. */
  readonly error: ConfigError | undefined;
  /** Whether a setting cannot be relied upon. */
  readonly isWrong: (key: string) => boolean;
}

/** Reads the settings of an endpoint. */
export async function settingsInPart(
  directory: EndpointDirectory,
  environment: Environment,
): Promise<SettingsInPart> {
  try {
    const resolved = await loadAgentConfig(directory, environment);
    return { ...resolved, error: undefined, isWrong: () => false };
  } catch (error) {
    if (!(error instanceof SettingsError)) {
      throw error;
    }
    const wrong = new Set(error.problems.map(({ key }) => key));
    const rest = await withoutWrong(directory, environment, wrong);
    const isWrong = (key: string): boolean => rest === undefined || wrong.has(key);
    const { config, origins } = rest ?? resolveAgentConfig({ directory: directory.path });
    return { config, origins, error, isWrong };
  }
}

/** Undefined when there is nothing left to go by: a file that cannot be read may hold any setting. */
async function withoutWrong(
  directory: EndpointDirectory,
  environment: Environment,
  wrong: ReadonlySet<string>,
): Promise<ResolvedAgentConfig | undefined> {
  const variables = new Set(
    AGENT_OPTIONS.filter(({ key }) => wrong.has(key)).map((option) => option.environment),
  );
  const kept = (values: Environment): Environment =>
    Object.fromEntries(
      Object.entries(values).filter(([name]) => !variables.has(name) && !wrong.has(name)),
    );
  try {
    const file = readConfigFile(directory.configPath);
    const dotenv = await readDotenvFile(directory.dotenvPath).catch(() => undefined);
    const values = new Map([...(file?.values ?? [])].filter(([key]) => !wrong.has(key)));
    return resolveAgentConfig({
      directory: directory.path,
      ...(file !== undefined && { file: { values, problems: file.problems } }),
      ...(dotenv !== undefined && { dotenv: { path: directory.dotenvPath, values: kept(dotenv) } }),
      environment: kept(environment),
      batchScheduler: findBatchScheduler(environment),
    });
  } catch (error) {
    if (error instanceof SettingsError) {
      return undefined;
    }
    throw error;
  }
}

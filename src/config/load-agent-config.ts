/** Reads the files of an endpoint and the environment, and resolves the settings of its agent from them. */
import { resolveAgentConfig } from './agent-config.ts';
import type { ResolvedAgentConfig } from './agent-config.ts';
import { readConfigFile, readDotenvFile } from './config-sources.ts';
import type { Environment } from './config-sources.ts';
import type { EndpointDirectory } from './endpoint-directory.ts';

/** Settings of the agent of an endpoint. @throws ConfigError with every problem there is. */
export async function loadAgentConfig(
  directory: EndpointDirectory,
  environment: Environment,
  flags: Readonly<Record<string, unknown>> = {},
): Promise<ResolvedAgentConfig> {
  const dotenv = await readDotenvFile(directory.dotenvPath);
  return resolveAgentConfig({
    directory: directory.path,
    file: readConfigFile(directory.configPath),
    dotenv: dotenv && { path: directory.dotenvPath, values: dotenv },
    environment,
    flags,
  });
}

/** Reads the files of an endpoint and the environment, and resolves the settings of its agent from them. */
import { resolveAgentConfig } from './agent-config.ts';
import type { ResolvedAgentConfig } from './agent-config.ts';
import { findBatchScheduler } from './batch-scheduler.ts';
import { readConfigFile } from './config-file.ts';
import type { Environment } from './config-sources.ts';
import { readDotenvFile } from './dotenv-file.ts';
import type { EndpointDirectory } from './endpoint-directory.ts';
import { problemsTogether } from './problems-together.ts';

/** Settings of the agent of an endpoint. @throws ConfigError with every problem there is. */
export async function loadAgentConfig(
  directory: EndpointDirectory,
  environment: Environment,
  flags: Readonly<Record<string, unknown>> = {},
): Promise<ResolvedAgentConfig> {
  const { dotenvPath } = directory;
  const dotenv = readDotenvFile(dotenvPath);
  const [, resolved] = await problemsTogether([
    async () => await dotenv,
    async () => {
      const values = await dotenv.catch(() => undefined);
      return resolveAgentConfig({
        directory: directory.path,
        file: readConfigFile(directory.configPath),
        dotenv: values && { path: dotenvPath, values },
        environment,
        batchScheduler: findBatchScheduler(environment),
        flags,
      });
    },
  ]);
  return resolved;
}

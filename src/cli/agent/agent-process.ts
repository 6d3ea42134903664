/**
 * Runs an agent in this process: settings and credentials become the agent's options, its life the exit code.
 */
import { hostname, release } from 'node:os';

import type { AgentOptions } from '../../agent/agent-options.ts';
import { runAgent } from '../../agent/main.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { packageVersion } from '../../base/package-root.ts';
import type { AgentConfig } from '../../config/agent-config.ts';
import type { Credentials } from '../../config/credentials.ts';
import { readRegistration, writeRegistration } from '../../config/endpoint-directory.ts';
import { workerBaseEnvironment } from '../../config/process-context.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { tokenSource } from './hub-access.ts';
import { controlPath, holdLock } from './presence.ts';

/** How far an agent that starts has come. */
export type StartProgress =
  | { readonly state: 'registering'; readonly pid: number }
  | { readonly state: 'connecting'; readonly pid: number; readonly endpointId: string }
  | { readonly state: 'online'; readonly pid: number; readonly endpointId: string };

/** What an agent process needs. */
export interface AgentProcessOptions {
  readonly context: EndpointContext;
  readonly config: AgentConfig;
  readonly credentials: Credentials;
  readonly takeover: boolean;
  readonly logger: Logger;
  readonly onProgress: (progress: StartProgress) => void;
}

const EXIT_SOFTWARE = 70;

/** Runs the agent until it is stopped. @throws ComputeError when it cannot run. */
export async function runAgentProcess(run: AgentProcessOptions): Promise<number> {
  const { context, credentials, logger, onProgress } = run;
  const lock = await holdLock(context.directory);
  try {
    crashOnUnforeseen(logger);
    for (const warning of credentials.warnings) {
      logger.warn({ warning }, 'credentials');
    }
    onProgress({ state: 'registering', pid: process.pid });
    return await runAgent({
      options: agentOptions(run),
      logger,
      onOnline: ({ endpointId, pid }) => {
        onProgress({ state: 'online', endpointId, pid });
      },
      exit: (code) => {
        process.exit(code);
      },
    });
  } catch (error) {
    logger.fatal({ err: error }, 'the agent cannot run');
    throw error;
  } finally {
    await lock.release();
  }
}

function agentOptions({
  context,
  config,
  credentials,
  takeover,
  onProgress,
}: AgentProcessOptions): AgentOptions {
  const { directory, environment } = context;
  const stored = readRegistration(directory);
  const { displayName, allowedFunctions, allowedSerializers, amqpPort, ca, ...same } = config;
  return {
    ...same,
    name: directory.name,
    directory: directory.path,
    controlSocketPath: controlPath(context),
    ...(stored !== undefined && {
      endpointId: stored.endpointId,
      previousEpoch: stored.leaseEpoch,
    }),
    takeover,
    saveRegistration: async ({ endpointId, epoch }) => {
      await writeRegistration(directory, { endpointId, leaseEpoch: epoch });
      onProgress({ state: 'connecting', endpointId, pid: process.pid });
    },
    tokens: tokenSource(config, credentials),
    ...(ca !== undefined && { ca }),
    ...(displayName !== undefined && { displayName }),
    ...(allowedFunctions !== undefined && { allowedFunctions }),
    ...(allowedSerializers !== undefined && { allowedSerializers }),
    ...(amqpPort !== undefined && { amqpPort }),
    metadata: {
      agent_version: packageVersion(),
      node_version: process.versions.node,
      hostname: hostname(),
      // Where the Python SDK's get_endpoint_metadata looks for the version.
      endpoint_version: packageVersion(),
      platform: `${process.platform} ${release()} ${process.arch}`,
    },
    baseEnvironment: workerBaseEnvironment(environment),
  };
}

// A bug must not leave half an agent behind: the journal is intact at any moment, so ending at once is safe.
function crashOnUnforeseen(logger: Logger): void {
  process.on('uncaughtException', (error: unknown) => {
    logger.fatal({ err: error }, 'internal error, exiting');
    process.stderr.write(
      `Internal error, please report it: ${error instanceof Error ? (error.stack ?? errorText(error)) : errorText(error)}\n`,
    );
    process.exit(EXIT_SOFTWARE);
  });
}

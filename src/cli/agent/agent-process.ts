/**
 * Runs an agent in this process: settings and credentials become the agent's options, its life the exit code.
 */
import { hostname, release } from 'node:os';

import type { AgentOptions } from '../../agent/agent-options.ts';
import { runAgent } from '../../agent/main.ts';
import { blankSecrets } from '../../base/blank-secrets.ts';
import { errorText } from '../../base/errors.ts';
import type { LogControl, Logger } from '../../base/logger.ts';
import { packageVersion } from '../../base/package-root.ts';
import type { ResolvedAgentConfig } from '../../config/agent-config.ts';
import { readRegistration, writeRegistration } from '../../config/endpoint-directory.ts';
import { parseListenAddress } from '../../config/listen-address.ts';
import { workerBaseEnvironment } from '../../config/process-context.ts';
import { workerSocketDirectory } from '../../config/service-environment.ts';
import { offeredTypes } from '../../protocol/environments.ts';
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { watchTerminal } from './lost-terminal.ts';
import { readMode, writeMode } from './mode-file.ts';
import { controlPath, holdLock } from './presence.ts';
import { settingsReader } from './reread-settings.ts';
import { ServiceWatch } from './service-watch.ts';
import type { SignIn } from './sign-in.ts';

/** How far an agent that starts has come. */
export type StartProgress =
  | { readonly state: 'registering'; readonly pid: number }
  | { readonly state: 'connecting'; readonly pid: number; readonly endpointId: string }
  | { readonly state: 'online'; readonly pid: number; readonly endpointId: string };

/** What an agent process needs. */
export interface AgentProcessOptions {
  readonly context: EndpointContext;
  readonly resolved: ResolvedAgentConfig;
  /** Settings of the command line, by option key. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly signIn: SignIn;
  readonly tokens: TokenSource;
  readonly takeover: boolean;
  readonly logger: Logger;
  readonly logControl: LogControl;
  readonly onProgress: (progress: StartProgress) => void;
}

const EXIT_SOFTWARE = 70;

/** Runs the agent until it is stopped. @throws ComputeError when it cannot run. */
export async function runAgentProcess(run: AgentProcessOptions): Promise<number> {
  const { context, signIn, logger, onProgress } = run;
  const isTerminalLost = watchTerminal();
  const service = await ServiceWatch.open(context.environment, logger);
  const lock = await holdLock(context.directory);
  let wasGranted = false;
  try {
    crashOnUnforeseen(logger);
    for (const warning of signIn.warnings) {
      logger.warn({ warning }, 'credentials');
    }
    logger.info({ source: signIn.source }, 'credentials found');
    for (const notice of run.resolved.config.notices) {
      logger.warn({ notice }, 'about the settings');
    }
    onProgress({ state: 'registering', pid: process.pid });
    return await runAgent({
      options: agentOptions(run, () => {
        wasGranted = true;
      }),
      logger,
      watch: (agent) => service.watch(agent),
      onOnline: ({ endpointId, pid }) => {
        onProgress({ state: 'online', endpointId, pid });
      },
      isTerminalLost,
      exit: (code) => {
        process.exit(code);
      },
    });
  } catch (error) {
    logger.fatal({ err: error }, 'the agent cannot run');
    service.failed(error);
    throw error;
  } finally {
    service.close();
    await lock.release({ toForeign: !wasGranted });
  }
}

function agentOptions(run: AgentProcessOptions, onGranted: () => void): AgentOptions {
  const { context, signIn, tokens, takeover, logControl, onProgress } = run;
  const { config } = run.resolved;
  const { directory, environment } = context;
  const stored = readRegistration(directory);
  const {
    displayName,
    allowedFunctions,
    allowedSerializers,
    amqpPort,
    ca,
    batchScheduler,
    ...rest
  } = config;
  const types = offeredTypes(config.environments.rules);
  const { metricsListen, taskLogsDays, taskLogsBytesMax, shareWithoutIsolation, ...same } = rest;
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
      onGranted();
      await writeRegistration(directory, { endpointId, leaseEpoch: epoch });
      onProgress({ state: 'connecting', endpointId, pid: process.pid });
    },
    tokens,
    watchesSignIn: signIn.kind === 'person',
    taskLogs: { days: taskLogsDays, bytesMax: taskLogsBytesMax },
    ...(metricsListen !== undefined && { metricsListen: parseListenAddress(metricsListen) }),
    logControl,
    mode: readMode(directory),
    saveMode: async (record) => {
      await writeMode(directory, record);
    },
    readSettings: settingsReader(run),
    ...(ca !== undefined && { ca }),
    ...(batchScheduler !== undefined && { batchScheduler }),
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
      // The hub lets an endpoint be shared only when functions are kept apart from its credentials, or its operator says so.
      isolation: config.workerHost === 'unit' ? 'unit' : 'user',
      ...(shareWithoutIsolation && { share_without_isolation: true }),
      ...(types.length > 0 && { environment_types: types }),
    },
    baseEnvironment: workerBaseEnvironment(environment),
    workerSocketDirectory: workerSocketDirectory(environment),
  };
}

// A bug must not leave half an agent behind: the journal is intact at any moment, so ending at once is safe.
function crashOnUnforeseen(logger: Logger): void {
  process.on('uncaughtException', (error: unknown) => {
    logger.fatal({ err: error }, 'internal error, exiting');
    const text = error instanceof Error ? (error.stack ?? errorText(error)) : errorText(error);
    process.stderr.write(`Internal error, please report it: ${blankSecrets(text)}\n`);
    process.exit(EXIT_SOFTWARE);
  });
}

/** The background process of `agent start`: as the foreground, but told by its parent and reporting to it. */
import { detach } from '../../base/logger.ts';
import { handedOverCredentials } from '../../config/credentials.ts';
import { ensureLogsDirectory } from '../../config/endpoint-directory.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import { openLog } from '../../config/logging.ts';
import type { StartProgress } from './agent-process.ts';
import { openReporter, receiveHandover } from './daemon-channel.ts';
import { openEndpoint } from './endpoint-argument.ts';
import { commandHubClient } from './hub-access.ts';
import { CONFIRM_LIMITS, hubView } from './hub-view.ts';
import { clientSignIn, findSignIn } from './sign-in.ts';

/** Runs the agent of an endpoint as `agent start` told it, and reports to it. Returns the exit code. */
export async function runDaemon(nameOrId: string): Promise<number> {
  // While the parent gets its words together.
  const agentProcess = import('./agent-process.ts');
  const context = await openEndpoint(nameOrId);
  const handover = await receiveHandover();
  if (handover === undefined) {
    return 0;
  }
  const reporter = openReporter();
  const { directory, environment } = context;
  try {
    const resolved = await loadAgentConfig(directory, environment, handover.flags);
    const { config } = resolved;
    const signIn =
      handover.credentials === undefined
        ? await findSignIn(() => config, { environment, dotenvPath: directory.dotenvPath })
        : clientSignIn(handedOverCredentials(handover.credentials));
    await ensureLogsDirectory(directory);
    const destination = {
      kind: 'file',
      path: directory.logPath,
      bytesMax: config.logBytesMax,
    } as const;
    const log = await openLog({ level: config.logLevel, destination });
    const tokens = signIn.tokens(config);
    const report = (progress: StartProgress): void => {
      reporter.progress(progress);
      if (progress.state === 'online') {
        const { pid, endpointId } = progress;
        const hub = commandHubClient(config, signIn, CONFIRM_LIMITS, tokens);
        const confirmed = hubView(hub, endpointId).then((view) => {
          reporter.progress({ state: 'confirmed', pid, endpointId, hub: view });
        });
        detach(log.logger, 'asking the hub for its view', confirmed);
      }
    };
    const { runAgentProcess } = await agentProcess;
    return await runAgentProcess({
      context,
      resolved,
      flags: handover.flags,
      signIn,
      tokens,
      takeover: handover.takeover,
      logger: log.logger,
      logControl: log.control,
      onProgress: report,
    });
  } catch (error) {
    reporter.failed(error);
    throw error;
  }
}

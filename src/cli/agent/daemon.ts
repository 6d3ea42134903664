/** The background process of `agent start`: as the foreground, but told by its parent and reporting to it. */
import { findCredentials, handedOverCredentials } from '../../config/credentials.ts';
import { ensureLogsDirectory } from '../../config/endpoint-directory.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import { openLog } from '../../config/logging.ts';
import { openReporter, receiveHandover } from './daemon-channel.ts';
import { openEndpoint } from './endpoint-argument.ts';

/** Runs the agent of an endpoint as `agent start` told it, and reports to it. Returns the exit code. */
export async function runDaemon(nameOrId: string): Promise<number> {
  // While the parent gets its words together.
  const agentProcess = import('./agent-process.ts');
  const context = await openEndpoint(nameOrId);
  const handover = await receiveHandover();
  const reporter = openReporter();
  const { directory, environment } = context;
  try {
    const resolved = await loadAgentConfig(directory, environment, handover.flags);
    const { config } = resolved;
    const credentials =
      handover.credentials === undefined
        ? await findCredentials({ environment, dotenvPath: directory.dotenvPath })
        : handedOverCredentials(handover.credentials);
    await ensureLogsDirectory(directory);
    const destination = {
      kind: 'file',
      path: directory.logPath,
      bytesMax: config.logBytesMax,
    } as const;
    const log = await openLog({ level: config.logLevel, destination });
    const { runAgentProcess } = await agentProcess;
    return await runAgentProcess({
      context,
      resolved,
      flags: handover.flags,
      credentials,
      takeover: handover.takeover,
      logger: log.logger,
      logControl: log.control,
      onProgress: reporter.progress,
    });
  } catch (error) {
    reporter.failed(error);
    throw error;
  }
}

/** `hub dev`: a hub with a broker and a database of its own, in the foreground or in the background. */
import { join } from 'node:path';

import { systemClock } from '../../base/clock.ts';
import { UnavailableError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { ReleaseStack } from '../../base/release-stack.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import { hubEnvironment, readHubConfig } from '../../config/hub-config.ts';
import type { HubConfig } from '../../config/hub-config.ts';
import { openLog } from '../../config/logging.ts';
import { startPrivateServers } from '../../hub/dev/private-servers.ts';
import type { PrivateServers } from '../../hub/dev/private-servers.ts';
import { Hub } from '../../hub/hub.ts';
import { defineCommand } from '../command-line.ts';
import { printFields, printJson, printNote } from '../output.ts';
import { startInBackground } from './dev-background.ts';
import { DevRecord, hubDirectory } from './dev-record.ts';
import type { DevAddresses } from './dev-record.ts';
import { hubSettings, withEnvFile } from './hub-environment.ts';
import { StopSignals } from './stop-signals.ts';

/** The command. */
export const dev = defineCommand(
  (parser) =>
    withEnvFile(parser)
      .option('port', { type: 'string', requiresArg: true, describe: 'Port to listen on [5000]' })
      .option('detach', {
        type: 'boolean',
        default: false,
        describe: 'Run in the background; return when the hub is ready',
      })
      .option('log-file', { type: 'string', requiresArg: true, hidden: true }),
  async (argv) => {
    const environment = await hubEnvironment(processEnvironment(), argv.envFile);
    const config = readHubConfig(
      argv.port === undefined ? environment : { ...environment, OUTPOST_HUB_PORT: argv.port },
    );
    if (argv.detach) {
      const addresses = await startInBackground(config.home, [
        ...(argv.envFile === undefined ? [] : ['--env-file', argv.envFile]),
        ...(argv.port === undefined ? [] : ['--port', argv.port]),
      ]);
      announce(addresses, argv.json);
      return 0;
    }
    return await runInForeground(config, argv.json, argv.logFile);
  },
);

function announce(addresses: DevAddresses, asJson: boolean): void {
  if (asJson) {
    printJson({
      hub_url: addresses.hubUrl,
      port: addresses.port,
      database_url: addresses.databaseUrl,
      amqp_url: addresses.amqpUrl,
      amqp_management_url: addresses.managementUrl,
    });
  } else {
    printFields([['hub is ready at', addresses.hubUrl]]);
    printNote('Make a client with: hub client create NAME');
  }
}

async function runInForeground(
  config: HubConfig,
  asJson: boolean,
  logFile: string | undefined,
): Promise<number> {
  const stack = new ReleaseStack();
  let servers: PrivateServers | undefined;
  const record = DevRecord.take(config.home);
  stack.push('the record of the hub', () => {
    record.release();
  });
  const signals = new StopSignals(() => {
    killNow(servers);
    record.release();
  });
  stack.push('signal listeners', () => {
    signals.dispose();
  });
  try {
    // With --json, stdout belongs to the one document.
    const file = logFile ?? (asJson ? join(hubDirectory(config.home), 'hub.log') : undefined);
    const log = await openLog({
      level: config.logLevel,
      destination:
        file === undefined
          ? { kind: process.stdout.isTTY ? 'terminal' : 'stdout' }
          : { kind: 'file', path: file },
    });
    stack.push('log', log.close);
    servers = await startServers(config, log.logger, signals);
    stack.push('private servers', async () => {
      await servers?.stop();
    });
    const addresses = await startHub(config, servers, log.logger, stack);
    record.ready(addresses);
    announce(addresses, asJson);
    const reason = await signals.requested;
    if (reason.kind === 'failure') {
      throw new UnavailableError('START_FAILED', `the hub stops: ${reason.message}`);
    }
    printNote(`stopping on ${reason.signal}`);
    return 0;
  } catch (error) {
    if (signals.signal.aborted && (await signals.requested).kind === 'signal') {
      printNote('stopped before it was ready');
      return 0;
    }
    throw error;
  } finally {
    await stack.release();
  }
}

async function startServers(
  config: HubConfig,
  logger: Logger,
  signals: StopSignals,
): Promise<PrivateServers> {
  return await startPrivateServers({
    dataDir: join(hubDirectory(config.home), 'services'),
    clock: systemClock,
    logger: logger.child({ component: 'private servers' }),
    signal: signals.signal,
    onProgress: printNote,
    onExit: (_which, why) => {
      signals.fail(why);
    },
  });
}

async function startHub(
  config: HubConfig,
  servers: PrivateServers,
  logger: Logger,
  stack: ReleaseStack,
): Promise<DevAddresses> {
  const { amqpUrl, databaseUrl, managementUrl } = servers;
  const services = { amqpUrl, amqpPublicUrl: amqpUrl, databaseUrl, managementUrl };
  const hub = new Hub(hubSettings(config, services), { clock: systemClock, logger });
  stack.push('hub', async () => {
    await hub.stop();
  });
  const { url, port } = await hub.start();
  return { hubUrl: url, port, databaseUrl, amqpUrl, managementUrl };
}

function killNow(servers: PrivateServers | undefined): void {
  for (const pid of servers?.pids ?? []) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      printNote(`could not kill process ${pid}: ${String(error)}`);
    }
  }
}

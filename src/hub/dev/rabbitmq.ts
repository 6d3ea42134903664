/**
 * A private RabbitMQ node in the foreground, with its management plugin and with an epmd of its own.
 *
 * epmd is a child of ours on a port of its own, so that nothing of the broker turns into a daemon. The packaged start script execs
 * the Erlang VM instead of waiting for it when it believes in systemd, so the child that we hold is the broker itself.
 */
import { connect } from 'node:net';
import { totalmem } from 'node:os';
import { join } from 'node:path';

import { sleep } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { BoundedLog } from './bounded-log.ts';
import type { InstalledBroker, ServerUser } from './installed-servers.ts';
import type { RunningRecord } from './running-record.ts';
import { ownDirectory, writeFor } from './server-directory.ts';
import type { ServerSecrets } from './server-directory.ts';
import { KILL_LIMIT_MS, ServerProcess } from './server-process.ts';
import type { StopRung } from './server-process.ts';

/** Startup takes 5 to 7 s on a quiet machine. */
const READY_LIMIT_MS = 90_000;
const EPMD_LIMIT_MS = 30_000;
const MEBIBYTE = 1024 * 1024;

/** What a server of this directory is started with. */
export interface ServerContext {
  readonly root: string;
  readonly secrets: ServerSecrets;
  readonly record: RunningRecord;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal | undefined;
  /** Further lines of rabbitmq.conf. */
  readonly brokerSettings: readonly string[];
}

/** The running broker. */
export interface PrivateBroker {
  readonly amqpUrl: string;
  readonly managementUrl: string;
  readonly broker: ServerProcess;
  readonly epmd: ServerProcess;
}

/** With its management plugin the broker takes 6 s to end in order. */
export const BROKER_STOP: readonly StopRung[] = [
  { signal: 'SIGTERM', waitMs: 8_000 },
  { signal: 'SIGKILL', waitMs: KILL_LIMIT_MS },
];
/** Ends at once; confirmed messages of durable classic queues survive it. */
export const KILL_NOW: readonly StopRung[] = [{ signal: 'SIGKILL', waitMs: KILL_LIMIT_MS }];

function configuration({ secrets, brokerSettings }: ServerContext): string {
  // A quarter of the machine, because a development machine has other things to do; never less than Erlang needs to breathe.
  const watermarkMiB = Math.round(Math.min(2048, Math.max(256, totalmem() / 4 / MEBIBYTE)));
  return [
    `listeners.tcp.1 = 127.0.0.1:${secrets.ports.amqp}`,
    'management.tcp.ip = 127.0.0.1',
    `management.tcp.port = ${secrets.ports.management}`,
    'default_user = outpost',
    `default_pass = ${secrets.password}`,
    `vm_memory_high_watermark.absolute = ${watermarkMiB}MiB`,
    'disk_free_limit.absolute = 200MB',
    // Our pipe bounds the log; the broker's own files would not be.
    'log.console = true',
    'log.console.level = info',
    'log.file = false',
    ...brokerSettings,
    '',
  ].join('\n');
}

async function startEpmd(
  installed: InstalledBroker,
  context: ServerContext,
  directory: string,
): Promise<ServerProcess> {
  const port = context.secrets.ports.epmd;
  const epmd = await ServerProcess.spawn(
    {
      title: 'epmd',
      command: installed.epmd,
      args: ['-port', `${port}`, '-address', '127.0.0.1'],
      env: {},
      directory,
      user: installed.user,
      parentDeathSignal: 'KILL',
      log: new BoundedLog(join(context.root, 'epmd.log')),
    },
    context.clock,
  );
  context.record.add('epmd', epmd.identity);
  try {
    await accepts(epmd, port, context);
  } catch (error) {
    await epmd.stop(KILL_NOW);
    throw error;
  }
  return epmd;
}

/** Waits until a port accepts connections: epmd prints nothing when it is ready. */
async function accepts(server: ServerProcess, port: number, context: ServerContext): Promise<void> {
  const until = context.clock.monotonicMs() + EPMD_LIMIT_MS;
  while (!(await connects(port))) {
    if (server.hasEnded || context.clock.monotonicMs() > until) {
      await server.outputDone();
      throw server.failure('does not accept connections');
    }
    await sleep(context.clock, 10, context.signal);
  }
}

async function connects(port: number): Promise<boolean> {
  return await new Promise((answer) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.destroy();
      answer(true);
    });
    socket.once('error', () => {
      answer(false);
    });
  });
}

function brokerEnvironment(
  directory: string,
  secrets: ServerSecrets,
): Readonly<Record<string, string>> {
  return {
    // The Erlang cookie is made here, not in the caller's home.
    HOME: join(directory, 'home'),
    RABBITMQ_NODENAME: 'outpost@localhost',
    RABBITMQ_MNESIA_BASE: join(directory, 'mnesia'),
    RABBITMQ_LOG_BASE: join(directory, 'log'),
    RABBITMQ_CONF_ENV_FILE: '/dev/null',
    RABBITMQ_CONFIG_FILE: join(directory, 'rabbitmq.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(directory, 'advanced.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
    RABBITMQ_PID_FILE: join(directory, 'pid'),
    RABBITMQ_GENERATED_CONFIG_DIR: join(directory, 'generated'),
    RABBITMQ_FEATURE_FLAGS_FILE: join(directory, 'feature_flags'),
    RABBITMQ_DIST_PORT: `${secrets.ports.distribution}`,
    ERL_EPMD_PORT: `${secrets.ports.epmd}`,
    ERL_EPMD_ADDRESS: '127.0.0.1',
    ERL_CRASH_DUMP: '/dev/null',
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
    // The start script then execs the VM instead of staying between it and us (there is no NOTIFY_SOCKET to notify).
    RUNNING_UNDER_SYSTEMD: 'true',
  };
}

function prepare(directory: string, user: ServerUser | undefined, context: ServerContext): void {
  ownDirectory(directory, user);
  for (const name of ['home', 'mnesia', 'log', 'generated']) {
    ownDirectory(join(directory, name), user);
  }
  writeFor(user, join(directory, 'rabbitmq.conf'), configuration(context));
  writeFor(user, join(directory, 'advanced.config'), '[].\n');
  writeFor(user, join(directory, 'enabled_plugins'), '[rabbitmq_management].\n');
}

/** Starts epmd and the broker; resolves when the broker accepts clients. @throws UnavailableError START_FAILED. */
export async function startBroker(
  installed: InstalledBroker,
  context: ServerContext,
): Promise<PrivateBroker> {
  const { secrets, clock } = context;
  const directory = join(context.root, 'rabbitmq');
  prepare(directory, installed.user, context);
  const epmd = await startEpmd(installed, context, directory);
  let broker: ServerProcess | undefined;
  try {
    broker = await ServerProcess.spawn(
      {
        title: 'RabbitMQ',
        command: installed.serverScript,
        args: [],
        env: brokerEnvironment(directory, secrets),
        directory,
        user: installed.user,
        parentDeathSignal: 'KILL',
        log: new BoundedLog(join(context.root, 'rabbitmq.log')),
      },
      clock,
    );
    context.record.add('RabbitMQ', broker.identity);
    await broker.printed('Server startup complete', READY_LIMIT_MS, context.signal);
  } catch (error) {
    await broker?.stop(KILL_NOW);
    await epmd.stop(KILL_NOW);
    throw error;
  }
  const credentials = `outpost:${secrets.password}@127.0.0.1`;
  return {
    amqpUrl: `amqp://${credentials}:${secrets.ports.amqp}/%2F`,
    managementUrl: `http://${credentials}:${secrets.ports.management}`,
    broker,
    epmd,
  };
}

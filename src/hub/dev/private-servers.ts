/**
 * A private RabbitMQ and a private PostgreSQL for `hub dev` and for the test suites: Debian's packages, run as children of the calling
 * process, on loopback, with their data in one directory.
 *
 * Nothing of ours outlives the caller: `stop()` waits for every server, and when the caller is killed the kernel ends them. A second
 * start on the same directory finds the same data and, unless somebody took them, the same ports.
 */
import { rmSync } from 'node:fs';

import type { Clock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { detach } from '../../base/logger.ts';
import { ReleaseStack } from '../../base/release-stack.ts';
import { findBroker, findDatabase } from './installed-servers.ts';
import { DATABASE_STOP, DATABASE_STOP_NOW, startDatabase } from './postgresql.ts';
import { BROKER_STOP, KILL_NOW, startBroker } from './rabbitmq.ts';
import { RunningRecord } from './running-record.ts';
import { loadSecrets, prepareRoot } from './server-directory.ts';
import type { ServerProcess } from './server-process.ts';

/** Which of the two servers. */
export type PrivateServerKind = 'broker' | 'database';

/** What to start, and where. */
export interface PrivateServersOptions {
  /** Directory for data, ports, password and logs; made when it is not there. */
  readonly dataDir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once per server that ends although nobody asked it to. */
  readonly onExit?: (which: PrivateServerKind, reason: string) => void;
  /** @defaultValue true */
  readonly broker?: boolean;
  /** @defaultValue true */
  readonly database?: boolean;
  /** Further lines of rabbitmq.conf, such as a listener for TLS. */
  readonly brokerSettings?: readonly string[];
  /** Called with a short sentence at each step of the start. */
  readonly onProgress?: (step: string) => void;
  /** Ends a start that is under way. */
  readonly signal?: AbortSignal;
}

/** Running servers. */
export interface PrivateServers {
  /** Address of the broker with its administrator's credentials; empty when it was not started. */
  readonly amqpUrl: string;
  /** Address of the broker's management API with credentials; empty when it was not started. */
  readonly managementUrl: string;
  /** Address of the database `outpost`; empty when it was not started. */
  readonly databaseUrl: string;
  /** Where data and logs really lie: see server-directory.ts for when that is not `dataDir`. */
  readonly dataDirectory: string;
  readonly pids: readonly number[];
  /** Stops both and waits for their end. `fast` kills the broker and deletes the data: for tests. Idempotent. */
  stop(options?: { readonly fast?: boolean }): Promise<void>;
}

interface Started {
  readonly kind: PrivateServerKind;
  readonly urls: Partial<Pick<PrivateServers, 'amqpUrl' | 'managementUrl' | 'databaseUrl'>>;
  /** In the order in which they are to be stopped; the first one is the server itself. */
  readonly processes: readonly [ServerProcess, ...ServerProcess[]];
}

/**
 * Starts the servers and waits until both accept clients.
 *
 * @throws UnavailableError NOT_INSTALLED, START_FAILED; ConflictError ALREADY_RUNNING when another process has the directory.
 */
export async function startPrivateServers(options: PrivateServersOptions): Promise<PrivateServers> {
  const { clock, logger } = options;
  const progress = options.onProgress ?? ((): void => undefined);
  const installedBroker = options.broker === false ? undefined : findBroker();
  const installedDatabase = options.database === false ? undefined : findDatabase();
  const root = prepareRoot(
    options.dataDir,
    [installedBroker?.user, installedDatabase?.user],
    logger,
  );
  const record = await RunningRecord.take(root, clock, logger);

  const startOnce = async (forgetPorts: boolean): Promise<Started[]> => {
    const secrets = await loadSecrets(root, forgetPorts);
    const { brokerSettings = [], signal } = options;
    const context = { root, secrets, record, clock, logger, signal, brokerSettings };
    const begun = clock.monotonicMs();
    const ready = (title: string): void => {
      progress(`${title} is ready (${((clock.monotonicMs() - begun) / 1000).toFixed(1)} s)`);
    };
    const starts: Promise<Started>[] = [];
    if (installedDatabase !== undefined) {
      progress('starting PostgreSQL');
      starts.push(
        startDatabase(installedDatabase, context).then(({ databaseUrl, database }) => {
          ready('PostgreSQL');
          return { kind: 'database', urls: { databaseUrl }, processes: [database] };
        }),
      );
    }
    if (installedBroker !== undefined) {
      progress('starting RabbitMQ');
      starts.push(
        startBroker(installedBroker, context).then(({ amqpUrl, managementUrl, broker, epmd }) => {
          ready('RabbitMQ');
          return { kind: 'broker', urls: { amqpUrl, managementUrl }, processes: [broker, epmd] };
        }),
      );
    }
    return await allOrNone(starts);
  };

  let started: Started[];
  try {
    options.signal?.throwIfAborted();
    started = await startOnce(false).catch(async (error: unknown) => {
      // Between choosing a port and listening on it somebody else may have taken it.
      if (
        options.signal?.aborted === true ||
        !/address.*in use|eaddrinuse/i.test(errorText(error))
      ) {
        throw error;
      }
      logger.warn({ err: error }, 'a chosen port was taken meanwhile; choosing again');
      return await startOnce(true);
    });
  } catch (error) {
    record.release();
    throw error;
  }
  return running(started, root, record, options);
}

/** Waits for all; when one fails the others are stopped and the first failure is thrown. */
async function allOrNone(starts: readonly Promise<Started>[]): Promise<Started[]> {
  const outcomes = await Promise.allSettled(starts);
  const started = outcomes.flatMap((outcome) =>
    outcome.status === 'fulfilled' ? [outcome.value] : [],
  );
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failure !== undefined) {
    await stopAll(started, false);
    throw failure.reason as Error;
  }
  return started;
}

async function stopAll(started: readonly Started[], fast: boolean): Promise<void> {
  await Promise.all(
    started.map(async ({ kind, processes }) => {
      const [server, ...attendants] = processes;
      if (kind === 'broker') {
        await server.stop(fast ? KILL_NOW : BROKER_STOP);
      } else {
        await server.stop(fast ? DATABASE_STOP_NOW : DATABASE_STOP);
      }
      for (const attendant of attendants) {
        await attendant.stop(KILL_NOW);
      }
    }),
  );
}

function running(
  started: readonly Started[],
  root: string,
  record: RunningRecord,
  options: PrivateServersOptions,
): PrivateServers {
  let stopping: Promise<void> | undefined;
  for (const { kind, processes } of started) {
    const watch = async (): Promise<void> => {
      const reason = await processes[0].exited;
      if (stopping === undefined) {
        options.logger.error({ server: kind, reason }, 'a private server ended by itself');
        options.onExit?.(
          kind,
          `${processes[0].title} ${reason}; its log: ${processes[0].log.path}`,
        );
      }
    };
    detach(options.logger, 'watching a private server', watch());
  }
  const stop = async (fast: boolean): Promise<void> => {
    const stack = new ReleaseStack();
    if (fast) {
      stack.push('the data of the private servers', () => {
        rmSync(root, { recursive: true, force: true });
      });
    }
    stack.push('the record of the private servers', () => {
      record.release();
    });
    stack.push('the private servers', async () => {
      await stopAll(started, fast);
    });
    await stack.release();
  };
  const urls = Object.assign({}, ...started.map((server) => server.urls)) as Started['urls'];
  return {
    amqpUrl: urls.amqpUrl ?? '',
    managementUrl: urls.managementUrl ?? '',
    databaseUrl: urls.databaseUrl ?? '',
    dataDirectory: root,
    pids: started.flatMap(({ processes }) => processes.map((server) => server.pid)),
    stop: async (how): Promise<void> => {
      stopping ??= stop(how?.fast === true);
      await stopping;
    },
  };
}

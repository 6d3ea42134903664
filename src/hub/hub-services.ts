/**
 * The data plane of the hub: topology, task service, and the two connections to the broker behind them.
 *
 *   consuming    results, heartbeats ─▶ database
 *   publishing   tasks ─▶ endpoints, results ─▶ task groups
 *
 * Two connections, because a broker under alarm stops reading from those that publish, and must not stall the acks.
 * Nothing is kept in memory that the database or the broker does not have too: any number of processes may run this.
 */
import { setMaxListeners } from 'node:events';

import type { Kysely } from 'kysely';

import { backoffDelayMs } from '../base/backoff.ts';
import { sleep } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { ConfigError, UnavailableError, errorText } from '../base/errors.ts';
import { detach } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import type { EndpointCommandMessage } from '../protocol/endpoint-commands.ts';
import { LOST_AFTER_MS, TASK_TTL_MS } from '../protocol/limits.ts';
import { dialAmqp } from '../transport/amqp/connection.ts';
import type { AmqpConnection } from '../transport/amqp/connection.ts';
import type { AmqpConsumer } from '../transport/amqp/consumer.ts';
import { AmqpSession } from '../transport/amqp/session.ts';
import type { SessionState } from '../transport/amqp/session.ts';
import { parseBrokerLocation } from './broker/connection-url.ts';
import { ManagementClient } from './broker/management-client.ts';
import { taskQueueName } from './broker/topology-table.ts';
import type { EndpointQueues } from './broker/topology-table.ts';
import { RabbitTopology } from './broker/topology.ts';
import type { BrokerTopology } from './broker/topology.ts';
import { sendCommand } from './commands/command-sender.ts';
import type { HubDatabase } from './db/schema.ts';
import { HeartbeatIntake } from './tasks/heartbeat-intake.ts';
import { storeEndpointReports, storeTaskProgress } from './tasks/heartbeat-store.ts';
import { ResultIntake } from './tasks/result-intake.ts';
import { storeResults } from './tasks/result-store.ts';
import { ResultStream } from './tasks/result-stream.ts';
import { TaskPublisher } from './tasks/task-publisher.ts';
import { relayUnpublished } from './tasks/task-relay.ts';
import { markPublished, markStreamed, republishUnreceived } from './tasks/task-rows.ts';
import { StoredTaskService } from './tasks/task-service.ts';
import type { TaskService } from './tasks/task-service.ts';
import { TaskUpkeep } from './tasks/task-upkeep.ts';

/** Settings of the data plane. */
export interface TaskPlaneOptions {
  readonly db: Kysely<HubDatabase>;
  /** What the hub dials. */
  readonly amqpUrl: string;
  /** What endpoints and persons are told to dial; credentials and path in it are ignored. */
  readonly amqpPublicUrl: string;
  readonly managementUrl: string;
  /** Authorities of the broker that are trusted beside the system's (PEM). */
  readonly ca?: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long results stay readable. */
  readonly retentionMs: number;
  /** How long a task may wait for its endpoint. Default: two weeks. */
  readonly taskTtlMs?: number;
  /** How long an endpoint may be gone before the tasks that it received count as lost. Default: a day. */
  readonly lostAfterMs?: number;
  /** How long `start` waits for the broker. Default 60 s. */
  readonly startTimeoutMs?: number;
}

/** How the data plane is. */
export interface TaskPlaneHealth {
  readonly consuming: SessionState;
  readonly publishing: SessionState;
  /** Why the broker takes nothing at present, such as "low on disk". */
  readonly blocked: string | undefined;
  /** Tasks that are being published. */
  readonly tasksHeld: number;
  /** Results that are being stored or streamed. */
  readonly resultsHeld: number;
}

/** The data plane. */
export interface TaskPlane {
  readonly topology: BrokerTopology;
  readonly tasks: TaskService;
  /** An endpoint of ours has registered: what its queue has lost, if it is empty, is handed out again. */
  endpointRegistered: (endpoint: EndpointQueues) => void;
  /** Puts a command on the queue of an endpoint; false when nobody listens. @throws UnavailableError without a broker. */
  sendCommand: (queue: string, message: EndpointCommandMessage) => Promise<boolean>;
  /** Resolves when the topology stands and both connections are there. @throws ConfigError, UnavailableError. */
  start: () => Promise<void>;
  /** Lets what is in flight settle, for 5 s at most, and closes the connections. Idempotent, never rejects. */
  stop: () => Promise<void>;
  health: () => TaskPlaneHealth;
}

const START_TIMEOUT_MS = 60_000;
const START_RETRY = { baseMs: 100, maxMs: 1_000 };
const REDIAL = { baseMs: 100, maxMs: 2_000 };
const DRAIN_MS_MAX = 5_000;
/** Within which the broker has put back what an ended connection held. */
const REQUEUE_MS = 1_000;

/** Makes the data plane of a hub. @throws ConfigError when a URL is not acceptable. */
export function createTaskPlane(options: TaskPlaneOptions): TaskPlane {
  return new RabbitTaskPlane(options);
}

class RabbitTaskPlane implements TaskPlane {
  readonly topology: RabbitTopology;
  readonly tasks: TaskService;
  readonly #options: TaskPlaneOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #publisher: TaskPublisher;
  readonly #stream: ResultStream;
  readonly #results: ResultIntake;
  readonly #heartbeats: HeartbeatIntake;
  readonly #upkeep: TaskUpkeep;
  readonly #consuming: AmqpSession;
  readonly #publishing: AmqpSession;
  #consumers: readonly AmqpConsumer[] = [];
  #blocked: string | undefined;
  #isTopologyFresh = false;
  #publishingConnection: AmqpConnection | undefined;
  readonly #stopping = new AbortController();
  #stopped: Promise<void> | undefined;

  constructor(options: TaskPlaneOptions) {
    // One listener for each registration that waits a moment; there may be many at a time.
    setMaxListeners(0, this.#stopping.signal);
    const { db, clock, retentionMs } = options;
    const logger = options.logger.child({ component: 'task-plane' });
    this.#options = options;
    this.#clock = clock;
    this.#logger = logger;
    const { vhost } = parseBrokerLocation(options.amqpUrl, 'OUTPOST_AMQP_URL');
    this.topology = new RabbitTopology({
      db,
      management: new ManagementClient({
        url: options.managementUrl,
        vhost,
        clock,
        ...(options.ca === undefined ? {} : { ca: options.ca }),
      }),
      publicLocation: {
        ...parseBrokerLocation(options.amqpPublicUrl, 'OUTPOST_AMQP_PUBLIC_URL'),
        vhost,
      },
      retentionMs,
      clock,
      logger,
      onTaskQueueCreated: async (endpointId) => {
        await this.#republish(endpointId);
      },
      onEndpointDeleted: async (endpointId) => {
        await this.#upkeep.failTasks(endpointId);
      },
    });
    this.#publisher = new TaskPublisher({
      clock,
      logger,
      markPublished: async (ids) => {
        await markPublished(db, ids);
      },
      relay: async (since, publishPage) => await relayUnpublished(db, since, publishPage),
      repairEndpoint: async (endpointId) => {
        await this.#repair(endpointId);
      },
      failTask: async ({ id, endpointId }, reason) => {
        await this.#upkeep.failTask(id, endpointId, {
          code: 'SEMANTICALLY_INVALID',
          message: `The task cannot be sent to its endpoint: ${reason}. Submit it with a smaller resource_specification`,
        });
      },
    });
    this.tasks = new StoredTaskService({
      db,
      clock,
      topology: this.topology,
      publish: (tasks) => {
        this.#publisher.offer(tasks);
      },
      relay: () => {
        this.#publisher.relayAll();
      },
    });
    this.#stream = new ResultStream(clock, logger);
    this.#results = new ResultIntake({
      clock,
      logger,
      store: async (batch) => await storeResults(db, batch),
      stream: async (result) => {
        await this.#stream.publish(result);
      },
      markStreamed: async (ids) => {
        await markStreamed(db, ids);
      },
    });
    this.#heartbeats = new HeartbeatIntake({
      clock,
      logger,
      store: async (reports, progress) => {
        await storeEndpointReports(db, reports);
        await storeTaskProgress(db, progress);
      },
    });
    this.#upkeep = new TaskUpkeep({
      db,
      clock,
      logger,
      retentionMs,
      taskTtlMs: options.taskTtlMs ?? TASK_TTL_MS,
      lostAfterMs: options.lostAfterMs ?? LOST_AFTER_MS,
      isOnline: () => this.#publishing.state.phase === 'online',
      consumingSinceMs: () => {
        const { state } = this.#consuming;
        return state.phase === 'online' ? state.since : undefined;
      },
      revokeClient: async (clientId) => {
        await this.#revokeClient(clientId);
      },
      revokeEpoch: async (endpointId, epoch) => {
        await this.topology.revokeEpoch(endpointId, epoch);
      },
      stream: async (result) => {
        await this.#stream.publish(result);
      },
    });
    this.#consuming = this.#session(
      'hub-consuming',
      async (connection) => await this.#setUpConsuming(connection),
    );
    this.#publishing = this.#session(
      'hub-publishing',
      async (connection) => await this.#setUpPublishing(connection),
    );
  }

  async start(): Promise<void> {
    const limitMs = this.#options.startTimeoutMs ?? START_TIMEOUT_MS;
    let lastFailure = 'it did not answer';
    const started = this.#start((failure) => {
      lastFailure = failure;
    });
    try {
      await withDeadline(
        this.#clock,
        limitMs,
        started,
        () =>
          new UnavailableError(
            'BROKER_UNREACHABLE',
            `the broker was not ready within ${limitMs / 1000} s: ${this.#offlineReason() ?? lastFailure}. ` +
              'Start RabbitMQ with its management plugin, or set OUTPOST_AMQP_URL and OUTPOST_AMQP_MANAGEMENT_URL to one that runs.',
          ),
      );
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.#upkeep.start();
  }

  async stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    await this.#stopped;
  }

  endpointRegistered(endpoint: EndpointQueues): void {
    detach(
      this.#logger,
      'looking for tasks that a queue has lost',
      this.#republishIfEmpty(endpoint),
    );
  }

  async sendCommand(queue: string, message: EndpointCommandMessage): Promise<boolean> {
    const connection = this.#publishingConnection;
    if (connection === undefined) {
      throw new UnavailableError('BROKER_UNREACHABLE', 'the hub has lost its broker; try again');
    }
    return await sendCommand(connection, queue, message);
  }

  health(): TaskPlaneHealth {
    return {
      consuming: this.#consuming.state,
      publishing: this.#publishing.state,
      blocked: this.#blocked,
      tasksHeld: this.#publisher.heldCount,
      resultsHeld: this.#results.heldCount,
    };
  }

  async #start(onFailure: (failure: string) => void): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await this.topology.declareHub();
        break;
      } catch (error) {
        // What the operator must repair does not repair itself while we wait.
        if (error instanceof ConfigError) {
          throw error;
        }
        onFailure(errorText(error));
        await sleep(this.#clock, backoffDelayMs(attempt, START_RETRY), this.#stopping.signal);
      }
    }
    this.#isTopologyFresh = true;
    const online = [this.#consuming, this.#publishing].map(async (session) => {
      session.start();
      while (session.state.phase !== 'online') {
        await sleep(this.#clock, 10, this.#stopping.signal);
      }
    });
    await Promise.all(online);
  }

  #offlineReason(): string | undefined {
    return [this.#consuming.state, this.#publishing.state]
      .flatMap((state) => (state.phase === 'offline' ? [state.reason] : []))
      .at(0);
  }

  #session(
    name: string,
    setUp: (connection: AmqpConnection) => Promise<{ broken: Promise<{ reason: string }> }>,
  ): AmqpSession {
    const { amqpUrl, ca } = this.#options;
    return new AmqpSession({
      clock: this.#clock,
      logger: this.#logger,
      name,
      dial: async ({ signal }) =>
        await dialAmqp({
          url: amqpUrl,
          connectionName: `outpost ${name}`,
          signal,
          ...(ca !== undefined && { ca }),
        }),
      setUp,
      // A handful of hubs do not storm a broker that comes back, and everybody waits for them.
      backoff: REDIAL,
    });
  }

  async #setUpConsuming(
    connection: AmqpConnection,
  ): Promise<{ broken: Promise<{ reason: string }> }> {
    await this.#refreshTopology();
    const consumers = [
      await this.#results.consume(connection),
      await this.#heartbeats.consume(connection),
    ];
    this.#consumers = consumers;
    return { broken: firstOf(consumers.map(async (consumer) => await consumer.ended)) };
  }

  /** After a loss another broker may have come up, or the same one without its data. */
  async #refreshTopology(): Promise<void> {
    if (this.#isTopologyFresh) {
      this.#isTopologyFresh = false;
      return;
    }
    this.topology.forget();
    try {
      await this.topology.declareHub();
    } catch (error) {
      // Not needed when nothing was lost; if something was, consuming fails next and says so.
      this.#logger.warn({ err: error }, 'cannot declare the topology again');
    }
  }

  async #setUpPublishing(
    connection: AmqpConnection,
  ): Promise<{ broken: Promise<{ reason: string }> }> {
    const tasks = await connection.openPublisher();
    const results = await connection.openPublisher();
    this.#blocked = undefined;
    connection.onBlocked((isBlocked, reason) => {
      this.#blocked = isBlocked ? reason : undefined;
      this.#logger.warn({ isBlocked, reason }, 'the broker changed its mind about taking messages');
    });
    this.#publishingConnection = connection;
    this.#publisher.online(tasks);
    this.#stream.online(results);
    const broken = firstOf([tasks.closed, results.closed]).then((end) => {
      this.#publishingConnection = undefined;
      this.#publisher.offline();
      this.#stream.offline();
      return end;
    });
    return { broken };
  }

  /** The former holder's deliveries go back to the queue when its connection ends, which takes a moment. */
  async #republishIfEmpty(endpoint: EndpointQueues): Promise<void> {
    try {
      await sleep(this.#clock, REQUEUE_MS, this.#stopping.signal);
    } catch {
      return; // Stopping.
    }
    const { messageCount } = (await this.#publishingConnection?.withChannel(
      async (channel) => await channel.checkQueue(taskQueueName(endpoint)),
    )) ?? { messageCount: undefined };
    if (messageCount === 0) {
      await this.#republish(endpoint.id);
    }
  }

  async #republish(endpointId: string): Promise<void> {
    const taskCount = await republishUnreceived(this.#options.db, endpointId);
    if (taskCount > 0) {
      this.#logger.warn(
        { endpointId, taskCount },
        'handing out tasks again that a lost queue had held',
      );
      this.#publisher.relayAll();
    }
  }

  async #revokeClient(ownerId: string): Promise<void> {
    const endpoints = await this.#options.db
      .updateTable('endpoints')
      .set({ active: false, lease_expires_at: null })
      .where('owner_id', '=', ownerId)
      .where('deleted_at', 'is', null)
      .returning('id')
      .execute();
    for (const { id } of endpoints) {
      await this.topology.revokeEndpoint(id);
    }
    await this.topology.revokePerson(ownerId);
  }

  async #repair(endpointId: string): Promise<void> {
    const endpoint = await this.#options.db
      .selectFrom('endpoints')
      .select('queue_suffix')
      .where('id', '=', endpointId)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (endpoint === undefined) {
      await this.#upkeep.failTasks(endpointId);
    } else {
      await this.topology.declareEndpoint({ id: endpointId, queueSuffix: endpoint.queue_suffix });
    }
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(new UnavailableError('BROKER_UNREACHABLE', 'the hub is stopping'));
    const upkeep = this.#upkeep.stop();
    await this.#bounded(this.#drain());
    this.#stream.stop();
    await Promise.all([this.#consuming.stop(), this.#publishing.stop()]);
    // What was in flight has been rejected with its channels; statements that run come to their end.
    await this.#bounded(
      Promise.all([upkeep, this.#publisher.stop(), this.#results.stop(), this.#heartbeats.stop()]),
    );
  }

  async #bounded(work: Promise<unknown>): Promise<void> {
    try {
      await withDeadline(
        this.#clock,
        DRAIN_MS_MAX,
        work,
        () => new UnavailableError('TIMED_OUT', 'results or tasks were still in flight'),
      );
    } catch (error) {
      // Nothing is lost: results stay at the broker, tasks in the database.
      this.#logger.warn({ err: error, ...this.health() }, 'stopping with work in flight');
    }
  }

  async #drain(): Promise<void> {
    await Promise.all(
      this.#consumers.map(async (consumer) => {
        await consumer.cancel();
      }),
    );
    await Promise.all([this.#results.drain(), this.#publisher.stop()]);
  }
}

/** The first end of several, none of which rejects. */
async function firstOf(
  ends: readonly Promise<{ readonly reason: string }>[],
): Promise<{ reason: string }> {
  return await new Promise((resolve, reject) => {
    for (const end of ends) {
      end.then(resolve, reject);
    }
  });
}

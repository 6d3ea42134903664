/**
 * The data plane of the hub: topology, task service, and what moves between the database and the broker
 * (broker/broker-sessions.ts has the connections).
 *
 *   consuming    results, heartbeats ─▶ database
 *   publishing   tasks ─▶ endpoints, results ─▶ task groups
 *
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
import { BrokerSessions } from './broker/broker-sessions.ts';
import type { BrokerSessionsHealth } from './broker/broker-sessions.ts';
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
export interface TaskPlaneHealth extends BrokerSessionsHealth {
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
  readonly #sessions: BrokerSessions;
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
      markPublished: async (tasks) => {
        await markPublished(db, tasks);
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
      isOnline: () => this.#sessions.health().publishing.phase === 'online',
      consumingSinceMs: () => {
        const { consuming } = this.#sessions.health();
        return consuming.phase === 'online' ? consuming.since : undefined;
      },
      revoke: async (identityId, sessions) => {
        await this.#revoke(identityId, sessions);
      },
      revokeEpoch: async (endpointId, epoch) => {
        await this.topology.revokeEpoch(endpointId, epoch);
      },
      stream: async (result) => {
        await this.#stream.publish(result);
      },
    });
    this.#sessions = new BrokerSessions({
      amqpUrl: options.amqpUrl,
      ...(options.ca !== undefined && { ca: options.ca }),
      topology: this.topology,
      consumers: [this.#results, this.#heartbeats],
      publishers: [this.#publisher, this.#stream],
      clock,
      logger,
    });
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
            `the broker was not ready within ${limitMs / 1000} s: ${this.#sessions.offlineReason ?? lastFailure}. ` +
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
    const connection = this.#sessions.publishingConnection;
    if (connection === undefined) {
      throw new UnavailableError('BROKER_UNREACHABLE', 'the hub has lost its broker; try again');
    }
    return await sendCommand(connection, queue, message);
  }

  health(): TaskPlaneHealth {
    return {
      ...this.#sessions.health(),
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
    await this.#sessions.start(this.#stopping.signal);
  }

  /** The former holder's deliveries go back to the queue when its connection ends, which takes a moment. */
  async #republishIfEmpty(endpoint: EndpointQueues): Promise<void> {
    try {
      await sleep(this.#clock, REQUEUE_MS, this.#stopping.signal);
    } catch {
      return; // Stopping.
    }
    const { messageCount } = (await this.#sessions.publishingConnection?.withChannel(
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

  /** Takes from an identity what it holds at the broker and must not any more. */
  async #revoke(ownerId: string, sessions: boolean): Promise<void> {
    if (sessions) {
      await this.#revokeEndpointsOf(ownerId);
    }
    await this.topology.revokePerson(ownerId);
  }

  async #revokeEndpointsOf(ownerId: string): Promise<void> {
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
    await this.#sessions.stop();
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
    await this.#sessions.cancelConsumers();
    await Promise.all([this.#results.drain(), this.#publisher.stop()]);
  }
}

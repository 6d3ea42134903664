/**
 * Makes the broker look like the table in topology-table.ts, through the management API.
 *
 * T1 Queues are bound before anybody gets credentials to publish: a result that no queue takes would be lost by an
 *    endpoint that does not look at returned messages.
 * T2 Revoking deletes the user first and then closes its connections: it cannot come back in between. Fencing leaves the user with
 *    the right to publish results, since an agent that was taken over still owes those of what it runs.
 * T3 No password is stored: an endpoint's is random and handed out once, a person's is derived from a key of the hub and from the
 *    epoch of the person, so that every hub process gives the same answer, running result streams go on, and all of it can be ended.
 *
 * Everything here can be repeated. What this process has declared already is remembered for a while (bounded) and
 * forgotten when the connection to the broker was lost, because another broker may have come up.
 */
import { createHmac, randomBytes } from 'node:crypto';

import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import { detach } from '../../base/logger.ts';
import type { Logger } from '../../base/logger.ts';
import type { ResultConnection } from '../../protocol/rest.ts';
import { BoundedCache } from '../bounded-cache.ts';
import type { HubDatabase } from '../db/schema.ts';
import { HubError } from '../hub-error.ts';
import { brokerEpoch } from './broker-epochs.ts';
import { connectionUrl } from './connection-url.ts';
import type { BrokerLocation } from './connection-url.ts';
import { hubSecret } from './hub-secret.ts';
import type { ManagementClient } from './management-client.ts';
import {
  EXCHANGES,
  HUB_QUEUES,
  commandQueueName,
  endpointQueues,
  endpointUser,
  endpointUserPrefix,
  fencedEndpointUser,
  personQueuePrefix,
  personUser,
  personUserPrefix,
  taskGroupQueue,
  taskGroupQueueName,
  taskQueueName,
} from './topology-table.ts';
import type { EndpointQueues } from './topology-table.ts';

const PASSWORD_BYTES = 32;
const PERSON_KEY = 'broker-person';
/** Declarations that are remembered, each kind. */
const REMEMBERED_MAX = 10_000;
/** A remembered declaration is repeated after this time, so that what was deleted by hand comes back. */
const REMEMBERED_MS = 10 * 60_000;

/** Users of an endpoint that are not deleted, by their epochs. */
export interface RevokeOptions {
  /** Left as it is. */
  readonly exceptEpoch?: number;
  /** Left the right to publish results, and nothing else. */
  readonly fencedEpoch?: number;
  /** Fenced before, and left as they are. */
  readonly keptEpochs?: readonly number[];
}

/** The broker's side of endpoints, task groups and persons. */
export interface BrokerTopology {
  /** Declares queues and bindings of an endpoint. */
  declareEndpoint: (endpoint: EndpointQueues) => Promise<void>;
  /** Makes the endpoint's user of one lease epoch and returns where it dials, with its credentials. */
  grantEndpoint: (
    endpoint: EndpointQueues & { readonly epoch: number },
  ) => Promise<{ connectionUrl: string }>;
  /** Deletes the endpoint's users and closes their connections, except where the options say otherwise. */
  revokeEndpoint: (endpointId: string, options?: RevokeOptions) => Promise<void>;
  /** Deletes the user of one epoch. */
  revokeEpoch: (endpointId: string, epoch: number) => Promise<void>;
  /** Deletes the users that read a person's results, but for the one of the epoch that counts now. */
  revokePerson: (ownerId: string) => Promise<void>;
  /** Revokes, and deletes the queues with what is in them. */
  deleteEndpoint: (endpoint: EndpointQueues) => Promise<void>;
  /** Declares the result queue of a task group. */
  declareTaskGroupQueue: (ownerId: string, groupId: string) => Promise<void>;
  /** Where a person reads the results of task groups. @throws HubError 401 when the person may not any more. */
  resultConnection: (ownerId: string) => Promise<ResultConnection>;
  taskQueueName: (endpoint: EndpointQueues) => string;
  commandQueueName: (endpoint: EndpointQueues) => string;
}

/** Settings of a {@link RabbitTopology}. */
export interface TopologyOptions {
  readonly db: Kysely<HubDatabase>;
  readonly management: ManagementClient;
  /** What endpoints and persons are told to dial. */
  readonly publicLocation: BrokerLocation;
  readonly retentionMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called when the task queue of an endpoint turned out to be new: what had been in it before is gone. */
  readonly onTaskQueueCreated: (endpointId: string) => Promise<void>;
  /** Called when an endpoint and its queues are gone. */
  readonly onEndpointDeleted: (endpointId: string) => Promise<void>;
}

/** Topology of a RabbitMQ broker. */
export class RabbitTopology implements BrokerTopology {
  readonly taskQueueName = taskQueueName;
  readonly commandQueueName = commandQueueName;
  readonly #options: TopologyOptions;
  readonly #management: ManagementClient;
  readonly #groups: BoundedCache<true>;
  readonly #persons: BoundedCache<ResultConnection>;
  #personKey: Buffer | undefined;

  constructor(options: TopologyOptions) {
    this.#options = options;
    this.#management = options.management;
    const bounds = { clock: options.clock, ttlMs: REMEMBERED_MS, weightMax: REMEMBERED_MAX };
    this.#groups = new BoundedCache(bounds);
    this.#persons = new BoundedCache(bounds);
  }

  /** Declares what does not belong to an endpoint or a person. */
  async declareHub(): Promise<void> {
    for (const exchange of EXCHANGES) {
      await this.#management.putExchange(exchange);
    }
    for (const queue of HUB_QUEUES) {
      await this.#management.putQueue(queue);
    }
  }

  /** Forgets what was declared; the next use declares it again. */
  forget(): void {
    this.#groups.clear();
    this.#persons.clear();
  }

  async declareEndpoint(endpoint: EndpointQueues): Promise<void> {
    const [tasks, commands] = endpointQueues(endpoint);
    const declareTasks = async (): Promise<void> => {
      if (await this.#management.putQueue(tasks)) {
        detach(
          this.#options.logger,
          'handing out again what a new task queue has lost',
          this.#options.onTaskQueueCreated(endpoint.id),
        );
      }
    };
    await Promise.all([this.#management.putQueue(commands), declareTasks()]);
  }

  async grantEndpoint(
    endpoint: EndpointQueues & { readonly epoch: number },
  ): Promise<{ connectionUrl: string }> {
    const user = endpointUser(endpoint, endpoint.epoch);
    const password = randomBytes(PASSWORD_BYTES).toString('base64url');
    await this.#management.putUser(user, password);
    return {
      connectionUrl: connectionUrl(this.#options.publicLocation, { user: user.name, password }),
    };
  }

  async revokeEndpoint(endpointId: string, options: RevokeOptions = {}): Promise<void> {
    const { exceptEpoch, fencedEpoch, keptEpochs = [] } = options;
    const prefix = endpointUserPrefix(endpointId);
    const kept = new Set([...keptEpochs, exceptEpoch ?? ''].map((epoch) => `${prefix}${epoch}`));
    const fenced =
      fencedEpoch === undefined ? undefined : fencedEndpointUser(endpointId, fencedEpoch);
    const users = await this.#management.usersWithPrefix(prefix);
    await Promise.all(
      users
        .filter((user) => !kept.has(user))
        .map(async (user) => {
          await (user === fenced?.name
            ? this.#management.restrictUser(fenced)
            : this.#management.deleteUser(user));
        }),
    );
  }

  async revokeEpoch(endpointId: string, epoch: number): Promise<void> {
    await this.#management.deleteUser(`${endpointUserPrefix(endpointId)}${epoch}`);
  }

  async revokePerson(ownerId: string): Promise<void> {
    // What is remembered of all of them: this is rare.
    this.#persons.clear();
    const epoch = await brokerEpoch(this.#options.db, ownerId);
    const current = epoch === undefined ? undefined : personUser(ownerId, epoch).name;
    for (const user of await this.#management.usersWithPrefix(personUserPrefix(ownerId))) {
      if (user !== current) {
        await this.#management.deleteUser(user);
      }
    }
  }

  async deleteEndpoint(endpoint: EndpointQueues): Promise<void> {
    await this.revokeEndpoint(endpoint.id);
    for (const queue of endpointQueues(endpoint)) {
      await this.#management.deleteQueue(queue.name);
    }
    detach(
      this.#options.logger,
      'failing the tasks of a deleted endpoint',
      this.#options.onEndpointDeleted(endpoint.id),
    );
  }

  async declareTaskGroupQueue(ownerId: string, groupId: string): Promise<void> {
    const name = taskGroupQueueName(ownerId, groupId);
    if (this.#groups.get(name) === undefined) {
      await this.#management.putQueue(taskGroupQueue(ownerId, groupId, this.#options.retentionMs));
      this.#groups.set(name, true);
    }
  }

  async resultConnection(ownerId: string): Promise<ResultConnection> {
    for (let epoch = await this.#epoch(ownerId); ;) {
      const user = personUser(ownerId, epoch);
      const known = this.#persons.get(user.name);
      if (known !== undefined) {
        return known;
      }
      this.#personKey ??= await hubSecret(this.#options.db, PERSON_KEY);
      const derivedFrom = epoch === 0 ? ownerId : `${ownerId}.${epoch}`;
      const password = createHmac('sha256', this.#personKey)
        .update(derivedFrom)
        .digest('base64url');
      await this.#management.putUser(user, password);
      const connection: ResultConnection = {
        queue_prefix: personQueuePrefix(ownerId),
        connection_url: connectionUrl(this.#options.publicLocation, { user: user.name, password }),
      };
      // Ended meanwhile, it may have been made after the others were deleted.
      const now = await brokerEpoch(this.#options.db, ownerId);
      if (now === epoch) {
        this.#persons.set(user.name, connection);
        return connection;
      }
      await this.#management.deleteUser(user.name);
      epoch = await this.#epoch(ownerId);
    }
  }

  async #epoch(ownerId: string): Promise<number> {
    const epoch = await brokerEpoch(this.#options.db, ownerId);
    if (epoch === undefined) {
      throw new HubError(
        401,
        'USER_UNAUTHENTICATED',
        'this identity was shut out or deleted at the hub; ask whoever runs it',
      );
    }
    return epoch;
  }
}

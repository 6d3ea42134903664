/**
 * Registration of endpoints: the lease, and with it the broker credentials (protocol.md 5.1, 5.2).
 *
 * The row is locked from the decision to the end, and the broker is provisioned before the transaction commits, so
 * that a lease exists exactly when its holder could get credentials: a failure half-way leaves the lease as it
 * was, and the next attempt provisions the same epoch again. The new user is made before the older ones are
 * revoked; that closes their connections, which fences whoever held the endpoint. A former holder that may still be alive keeps
 * the right to publish results, until it says that it has ended or the retention is over.
 */
import { randomBytes, randomUUID } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely, Selectable, Transaction } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { EndpointRegistered, EndpointRegistration } from '../../protocol/rest.ts';
import type { Caller } from '../auth/caller.ts';
import type { EndpointQueues } from '../broker/topology-table.ts';
import type { BrokerTopology } from '../broker/topology.ts';
import type { EndpointsTable, HubDatabase } from '../db/schema.ts';
import { storableJson } from '../db/storable-json.ts';
import { notIsolated } from '../groups/sharing.ts';
import { HubError } from '../hub-error.ts';
import { checkAllowedSerializers } from './endpoint-allowlists.ts';
import type { EndpointCatalogue } from './endpoint-catalogue.ts';
import { endpointNotFound } from './endpoint-catalogue.ts';
import { registeredDocument } from './endpoint-documents.ts';
import { decideLease, isSuccessor, LEASE_TTL_MS } from './lease.ts';
import type { StoredHolder } from './lease.ts';

/** Registrations at a time: each holds a connection to the database for as long as the broker takes, and others need some too. */
const REGISTRATIONS_MAX = 4;

/** Former holders that are kept the right to publish results; the oldest goes for a new one, so that restarts on ever new hosts do not pile up. */
const FENCED_MAX = 16;

/** Told to an agent whose endpoint is shared and must not be any more. */
const SUSPENDED =
  'the sharing of this endpoint is suspended: this agent runs functions as its own user; set share_without_isolation: true if you trust everybody it is shared with, or unshare it';

/** How long a lock keeps an endpoint from registering again, in seconds: longer than a reconnect takes. */
const LOCK_S = 60;

/** What the id of a registration refers to. */
export type RegistrationTarget =
  /** A new endpoint with an id of the hub's. */
  | { readonly kind: 'new' }
  /** An endpoint that must exist. */
  | { readonly kind: 'existing'; readonly id: string }
  /** An id of the caller's choosing, as endpoints did before the v3 routes. */
  | { readonly kind: 'chosen'; readonly id: string };

/** What the registrar works with. */
export interface EndpointRegistrarOptions {
  readonly db: Kysely<HubDatabase>;
  readonly topology: BrokerTopology;
  readonly endpoints: EndpointCatalogue;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called after an endpoint of ours was registered. */
  readonly onRegistered?: (endpoint: EndpointQueues) => void;
}

/** Grants and ends leases. */
export class EndpointRegistrar {
  readonly #options: EndpointRegistrarOptions;
  #registrationCount = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(options: EndpointRegistrarOptions) {
    this.#options = options;
  }

  /** Registers and grants the lease. @throws HubError 403, 404, 409 or 423. */
  async register(
    ownerId: string,
    target: RegistrationTarget,
    registration: EndpointRegistration,
  ): Promise<EndpointRegistered> {
    const { db, endpoints, logger, onRegistered } = this.#options;
    checkAllowedSerializers(registration.metadata);
    const id = target.kind === 'new' ? randomUUID() : target.id;
    await this.#enter();
    try {
      const { document, queueSuffix } = await db.transaction().execute(async (transaction) => {
        if (target.kind !== 'existing') {
          await insertEndpoint(transaction, id, ownerId, registration.endpoint_name);
        }
        const row = await lockRow(transaction, id);
        checkMayRegister(row, ownerId, registration);
        return {
          document: await this.#grant(transaction, row, registration),
          queueSuffix: row.queue_suffix,
        };
      });
      logger.info(
        { endpointId: id, ownerId, host: registration.lease?.holder.host },
        'endpoint registered',
      );
      if (registration.lease !== undefined) {
        onRegistered?.({ id, queueSuffix });
      }
      return document;
    } finally {
      this.#leave();
      endpoints.forget(id);
    }
  }

  async #enter(): Promise<void> {
    if (this.#registrationCount >= REGISTRATIONS_MAX) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
      return; // With the place of whoever has left.
    }
    this.#registrationCount += 1;
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) {
      this.#registrationCount -= 1;
    } else {
      next();
    }
  }

  /** Keeps an endpoint from registering for a while, and cuts off who holds it. Returns the end in Unix seconds. */
  async lock(owner: Caller, id: string): Promise<number> {
    const { db, topology, endpoints, logger } = this.#options;
    await endpoints.owned(owner, id);
    const row = await db
      .updateTable('endpoints')
      .set({
        locked_until: sql<Date>`now() + ${LOCK_S} * interval '1 second'`,
        active: false,
        // No time at all rather than now: a heartbeat that is still under way renews only what has one.
        lease_expires_at: null,
      })
      .where('id', '=', id)
      .returning('locked_until')
      .executeTakeFirstOrThrow();
    await topology.revokeEndpoint(id);
    logger.info({ endpointId: id, ownerId: owner.id }, 'endpoint locked');
    return (row.locked_until ?? new Date(0)).getTime() / 1000;
  }

  /** Ends a lease at its holder's wish; false when somebody else holds it by now. */
  async release(owner: Caller, id: string, epoch: number): Promise<boolean> {
    const { db, endpoints, topology } = this.#options;
    await endpoints.owned(owner, id);
    const result = await db
      .updateTable('endpoints')
      // The holder stays: it tells that the endpoint is one of ours, whose lost queue may be handed out again.
      .set({ active: false, lease_expires_at: null, last_heartbeat_at: sql<Date>`now()` })
      .where('id', '=', id)
      .where('lease_epoch', '=', epoch)
      .executeTakeFirst();
    if (result.numUpdatedRows > 0n) {
      return true;
    }
    // A fenced agent that has ended: nobody publishes with its credentials any more.
    const fenced = await db
      .deleteFrom('fenced_leases')
      .where('endpoint_id', '=', id)
      .where('epoch', '=', epoch)
      .executeTakeFirst();
    if (fenced.numDeletedRows > 0n) {
      await topology.revokeEpoch(id, epoch);
    }
    return false;
  }

  /**
   * Deletes an endpoint with its queues and credentials. May be repeated by its owner: what the broker failed to do the first
   * time is done then.
   *
   * @throws HubError 403 or 404.
   */
  async delete(owner: Caller, id: string): Promise<void> {
    const { db, topology, endpoints, logger } = this.#options;
    const row = await endpoints.ownedOrDeleted(owner, id);
    await db
      .updateTable('endpoints')
      .set({
        deleted_at: sql<Date>`coalesce(deleted_at, now())`,
        active: false,
        lease_expires_at: null,
      })
      .where('id', '=', id)
      .execute();
    endpoints.forget(id);
    await topology.deleteEndpoint({ id, queueSuffix: row.queue_suffix });
    logger.info({ endpointId: id, ownerId: owner.id }, 'endpoint deleted');
  }

  async #grant(
    transaction: Transaction<HubDatabase>,
    row: Selectable<EndpointsTable>,
    registration: EndpointRegistration,
  ): Promise<EndpointRegistered> {
    const { topology, clock } = this.#options;
    const { lease } = registration;
    const epoch = row.lease_epoch + 1;
    const holder: StoredHolder | undefined =
      lease === undefined
        ? undefined
        : { ...lease.holder, granted_at: new Date(clock.now()).toISOString() };
    const {
      may_be_shared: mayBeShared,
      shared_with: sharedWith,
      public: isPublic,
    } = await transaction
      .updateTable('endpoints')
      .set({
        name: registration.endpoint_name,
        display_name: registration.display_name ?? null,
        metadata: storableJson(registration.metadata ?? {}, 'body/metadata'),
        allowed_functions: registration.allowed_functions?.slice() ?? null,
        // Our agent says nothing about it: it is shared and unshared while it runs.
        ...(registration.public === undefined ? {} : { public: registration.public }),
        lease_epoch: epoch,
        lease_holder: holder === undefined ? null : storableJson(holder, 'body/lease/holder'),
        lease_expires_at: sql<Date>`now() + ${LEASE_TTL_MS} * interval '1 millisecond'`,
        // What an earlier holder reported says nothing about this one: online is who sent a heartbeat.
        active: false,
        last_heartbeat_at: null,
        status_report: null,
      })
      .where('id', '=', row.id)
      .returning(['may_be_shared', 'shared_with', 'public'])
      .executeTakeFirstOrThrow();
    if (registration.public === true && !mayBeShared) {
      throw notIsolated(row.id);
    }
    const endpoint = { id: row.id, queueSuffix: row.queue_suffix };
    // At once: an agent waits. But none is left under way: a late password would replace that of whoever is granted this epoch next.
    const [declared, granted] = await Promise.allSettled([
      topology.declareEndpoint(endpoint),
      topology.grantEndpoint({ ...endpoint, epoch }),
    ]);
    if (declared.status === 'rejected') {
      throw declared.reason;
    }
    if (granted.status === 'rejected') {
      throw granted.reason;
    }
    const { connectionUrl } = granted.value;
    await topology.revokeEndpoint(row.id, {
      exceptEpoch: epoch,
      ...(await fence(transaction, row, lease)),
    });
    const isSuspended = !mayBeShared && (isPublic || sharedWith.length > 0);
    const document = registeredDocument(
      {
        endpointId: row.id,
        connectionUrl,
        taskQueue: topology.taskQueueName(endpoint),
        commandQueue: topology.commandQueueName(endpoint),
      },
      lease === undefined ? undefined : { epoch, ttl_ms: LEASE_TTL_MS },
    );
    return isSuspended ? { ...document, warnings: [...document.warnings, SUSPENDED] } : document;
  }
}

/**
 * Former holders that may still be alive, and so owe results: the one that is fenced now, and those that were before, whose
 * connections stay as they are. A successor knows that its predecessor is gone.
 */
async function fence(
  transaction: Transaction<HubDatabase>,
  row: Selectable<EndpointsTable>,
  lease: EndpointRegistration['lease'],
): Promise<{ readonly fencedEpoch?: number; readonly keptEpochs: readonly number[] }> {
  const former = { epoch: row.lease_epoch, holder: row.lease_holder };
  const isFenced = former.holder !== null && !isSuccessor(former, lease);
  const earlier = await transaction
    .selectFrom('fenced_leases')
    .select('epoch')
    .where('endpoint_id', '=', row.id)
    .orderBy('epoch', 'desc')
    .execute();
  const keptEpochs = earlier
    .map(({ epoch }) => epoch)
    .slice(0, isFenced ? FENCED_MAX - 1 : FENCED_MAX);
  if (keptEpochs.length < earlier.length) {
    await transaction
      .deleteFrom('fenced_leases')
      .where('endpoint_id', '=', row.id)
      .where('epoch', 'not in', keptEpochs)
      .execute();
  }
  if (!isFenced) {
    return { keptEpochs };
  }
  await transaction
    .insertInto('fenced_leases')
    .values({ endpoint_id: row.id, epoch: former.epoch })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return { fencedEpoch: former.epoch, keptEpochs };
}

type LockedRow = Selectable<EndpointsTable> & { is_held: boolean; is_locked: boolean };

async function insertEndpoint(
  transaction: Transaction<HubDatabase>,
  id: string,
  ownerId: string,
  name: string,
): Promise<void> {
  await transaction
    .insertInto('endpoints')
    .values({
      id,
      owner_id: ownerId,
      name,
      metadata: '{}',
      queue_suffix: randomBytes(12).toString('hex'),
    })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .execute();
}

async function lockRow(transaction: Transaction<HubDatabase>, id: string): Promise<LockedRow> {
  const row = await transaction
    .selectFrom('endpoints')
    .selectAll()
    .select([
      sql<boolean>`coalesce(lease_expires_at > now(), false)`.as('is_held'),
      sql<boolean>`coalesce(locked_until > now(), false)`.as('is_locked'),
    ])
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .forUpdate()
    .executeTakeFirst();
  if (row === undefined) {
    throw endpointNotFound(id);
  }
  return row;
}

function checkMayRegister(
  row: LockedRow,
  ownerId: string,
  registration: EndpointRegistration,
): void {
  if (row.owner_id !== ownerId) {
    throw new HubError(
      403,
      'ENDPOINT_ALREADY_REGISTERED',
      `Endpoint ${row.id} is registered by somebody else; register a new one without an id`,
    );
  }
  if (row.is_locked) {
    const until = row.locked_until?.toISOString() ?? 'later';
    throw new HubError(
      423,
      'RESOURCE_LOCKED',
      `Endpoint ${row.id} was stopped remotely and is locked until ${until}; start it again after that`,
    );
  }
  const decision = decideLease(
    { epoch: row.lease_epoch, isHeld: row.is_held, holder: row.lease_holder },
    registration.lease,
  );
  if (!decision.isGranted) {
    throw new HubError(
      409,
      'RESOURCE_CONFLICT',
      `endpoint ${row.name} is held by ${decision.heldBy}; stop it there, or start with --takeover`,
    );
  }
}

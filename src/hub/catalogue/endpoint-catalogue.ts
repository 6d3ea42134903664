/**
 * Endpoints as the hub knows them: documents, access, status. Registration and lease stand in endpoint-registrar.ts.
 */
import { sql } from 'kysely';
import type { Kysely, Selectable } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import type { EndpointStatus } from '../../protocol/rest.ts';
import { BoundedCache } from '../bounded-cache.ts';
import type { EndpointsTable, HubDatabase } from '../db/schema.ts';
import { storableJson } from '../db/storable-json.ts';
import { HubError } from '../hub-error.ts';
import { allowedSerializersOf, keptMetadata } from './endpoint-allowlists.ts';
import { endpointDocument, statusDocument } from './endpoint-documents.ts';

/** An access decision may be this old: what another hub process changed counts at once afterwards. */
const ACCESS_TTL_MS = 5000;
const ACCESS_MAX = 1000;

/** What deciding about a submission needs. */
export interface EndpointAccess {
  readonly id: string;
  readonly ownerId: string;
  readonly isPublic: boolean;
  /** null: every function. */
  readonly allowedFunctions: ReadonlySet<string> | null;
  /** Identifiers; null: every serializer. */
  readonly allowedSerializers: ReadonlySet<string> | null;
}

/** Fields that an owner may change without registering again. */
export interface EndpointChanges {
  readonly name?: string;
  readonly displayName?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly allowedFunctions?: readonly string[];
  readonly isPublic?: boolean;
}

/** Which endpoints to list. */
export type EndpointRole = 'owner' | 'any';

/** In SQL, so that it is decided in database time. Offline after three missed heartbeats, but never before 5 s. */
const IS_ONLINE = sql<boolean>`(
  active
  and last_heartbeat_at is not null
  and last_heartbeat_at > now() - greatest(3 * heartbeat_period_s, 5) * interval '1 second'
  and lease_expires_at is not null
  and lease_expires_at > now()
)`;

/** The answer for an id that nobody knows, or that was deleted. */
export function endpointNotFound(id: string): HubError {
  return new HubError(404, 'ENDPOINT_NOT_FOUND', `Endpoint ${id} could not be found`);
}

/** The answer for somebody else's endpoint. */
export function endpointForbidden(id: string): HubError {
  return new HubError(
    403,
    'ENDPOINT_ACCESS_FORBIDDEN',
    `Unauthorized access to endpoint ${id}: it belongs to somebody else and is not public`,
  );
}

/** The table of endpoints, for reading and for changes that need no broker. */
export class EndpointCatalogue {
  readonly #db: Kysely<HubDatabase>;
  readonly #access: BoundedCache<EndpointAccess>;

  constructor(db: Kysely<HubDatabase>, clock: Clock) {
    this.#db = db;
    this.#access = new BoundedCache({ clock, ttlMs: ACCESS_TTL_MS, weightMax: ACCESS_MAX });
  }

  /** The endpoint when the caller may use it. @throws HubError 403 or 404. */
  async usable(callerId: string, id: string): Promise<EndpointAccess> {
    let access = this.#access.get(id);
    if (access === undefined) {
      const row = await this.#read(id);
      access = {
        id: row.id,
        ownerId: row.owner_id,
        isPublic: row.public,
        allowedFunctions:
          row.allowed_functions === null ? null : new Set<string>(row.allowed_functions),
        allowedSerializers: allowedSerializersOf(row.metadata),
      };
      this.#access.set(id, access);
    }
    if (access.ownerId !== callerId && !access.isPublic) {
      throw endpointForbidden(id);
    }
    return access;
  }

  /** Forgets what is remembered about an endpoint, after a change. */
  forget(id: string): void {
    this.#access.delete(id);
  }

  /** Document of an endpoint. @throws HubError 403 or 404. */
  async document(callerId: string, id: string): Promise<Record<string, unknown>> {
    const row = await this.#readable(callerId, id);
    return endpointDocument(row, row.owner_id === callerId);
  }

  /** Whether functions are restricted, and to which. @throws HubError 403 or 404. */
  async allowedFunctions(callerId: string, id: string): Promise<Record<string, unknown>> {
    const row = await this.#readable(callerId, id);
    return row.allowed_functions === null
      ? { endpoint_id: id, restricted: false }
      : { endpoint_id: id, restricted: true, functions: row.allowed_functions };
  }

  /** Status of an endpoint. @throws HubError 403 or 404. */
  async status(callerId: string, id: string): Promise<EndpointStatus> {
    const row = await this.#db
      .selectFrom('endpoints')
      .select(['owner_id', 'public', 'status_report', IS_ONLINE.as('is_online')])
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) {
      throw endpointNotFound(id);
    }
    if (row.owner_id !== callerId && !row.public) {
      throw endpointForbidden(id);
    }
    return statusDocument(row.is_online, row.status_report);
  }

  /** The caller's endpoints, or with `any` also the public ones. */
  async list(callerId: string, role: EndpointRole): Promise<Record<string, unknown>[]> {
    const rows = await this.#db
      .selectFrom('endpoints')
      .select(['id', 'name', 'display_name', 'owner_id'])
      .where('deleted_at', 'is', null)
      .where((eb) =>
        role === 'owner'
          ? eb('owner_id', '=', callerId)
          : eb.or([eb('owner_id', '=', callerId), eb('public', '=', true)]),
      )
      .orderBy('created_at')
      .execute();
    return rows.map((row) => ({
      uuid: row.id,
      name: row.name,
      display_name: row.display_name ?? row.name,
      owner: row.owner_id,
    }));
  }

  /** Changes fields of an endpoint of the caller's. @throws HubError 403 or 404. */
  async change(callerId: string, id: string, changes: EndpointChanges): Promise<void> {
    const { metadata: current } = await this.owned(callerId, id);
    const set = {
      ...(changes.name === undefined ? {} : { name: changes.name }),
      ...(changes.displayName === undefined ? {} : { display_name: changes.displayName }),
      ...(changes.metadata === undefined
        ? {}
        : {
            metadata: storableJson(
              { ...keptMetadata(current), ...changes.metadata },
              'body/metadata',
            ),
          }),
      ...(changes.allowedFunctions === undefined
        ? {}
        : { allowed_functions: [...changes.allowedFunctions] }),
      ...(changes.isPublic === undefined ? {} : { public: changes.isPublic }),
    };
    if (Object.keys(set).length > 0) {
      await this.#db.updateTable('endpoints').set(set).where('id', '=', id).execute();
      this.forget(id);
    }
  }

  /** The row when the caller owns the endpoint. @throws HubError 403 or 404. */
  async owned(callerId: string, id: string): Promise<Selectable<EndpointsTable>> {
    const row = await this.#read(id);
    if (row.owner_id !== callerId) {
      throw endpointForbidden(id);
    }
    return row;
  }

  /** The same for one that may be deleted already: a deletion that broke off half-way is asked for again. */
  async ownedOrDeleted(callerId: string, id: string): Promise<Selectable<EndpointsTable>> {
    const row = await this.#db
      .selectFrom('endpoints')
      .selectAll()
      .where('id', '=', id)
      .executeTakeFirst();
    const isOwner = row?.owner_id === callerId;
    if (row === undefined || (row.deleted_at !== null && !isOwner)) {
      throw endpointNotFound(id);
    }
    if (!isOwner) {
      throw endpointForbidden(id);
    }
    return row;
  }

  async #readable(callerId: string, id: string): Promise<Selectable<EndpointsTable>> {
    const row = await this.#read(id);
    if (row.owner_id !== callerId && !row.public) {
      throw endpointForbidden(id);
    }
    return row;
  }

  async #read(id: string): Promise<Selectable<EndpointsTable>> {
    const row = await this.#db
      .selectFrom('endpoints')
      .selectAll()
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) {
      throw endpointNotFound(id);
    }
    return row;
  }
}

/**
 * Endpoints as the hub knows them: documents, access, status. Registration and lease stand in endpoint-registrar.ts.
 */
import { sql } from 'kysely';
import type { Kysely, Selectable } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import type { EndpointStatus } from '../../protocol/rest.ts';
import type { Caller } from '../auth/caller.ts';
import { BoundedCache } from '../bounded-cache.ts';
import type { EndpointsTable, HubDatabase } from '../db/schema.ts';
import { storableJson } from '../db/storable-json.ts';
import type { AccessControl, Thing } from '../groups/access-control.ts';
import { notIsolated, SHARING_SUSPENDED } from '../groups/sharing.ts';
import { HubError } from '../hub-error.ts';
import { KEPT_METADATA, allowedSerializersOf } from './endpoint-allowlists.ts';
import { endpointDocument, statusDocument } from './endpoint-documents.ts';

/** A permission may be this old: what another hub process changed counts at once afterwards. Before a refusal the database is asked. */
const ACCESS_TTL_MS = 5000;
const ACCESS_MAX = 1000;

/** What deciding about a submission needs. */
export interface EndpointAccess extends Thing {
  readonly kind: 'endpoint';
  /** null: every function. */
  readonly allowedFunctions: ReadonlySet<string> | null;
  /** Identifiers; null: every serializer. */
  readonly allowedSerializers: ReadonlySet<string> | null;
  /** Kinds of environments that its agent can start workers in. */
  readonly environmentTypes: ReadonlySet<string>;
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
export const IS_ONLINE = sql<boolean>`(
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

/** The table of endpoints, for reading and for changes that need no broker. */
export class EndpointCatalogue {
  readonly #db: Kysely<HubDatabase>;
  readonly #access: BoundedCache<EndpointAccess>;

  readonly #control: AccessControl;

  constructor(db: Kysely<HubDatabase>, clock: Clock, control: AccessControl) {
    this.#db = db;
    this.#control = control;
    this.#access = new BoundedCache({ clock, ttlMs: ACCESS_TTL_MS, weightMax: ACCESS_MAX });
  }

  /** The endpoint when the caller may use it. @throws HubError 403 or 404. */
  async usable(caller: Caller, id: string): Promise<EndpointAccess> {
    const remembered = this.#access.get(id);
    if (remembered !== undefined && (await this.#control.allows(caller, remembered))) {
      return remembered;
    }
    const access = await this.#access.read(id, async () => toAccess(await this.#read(id)));
    if (!(await this.#control.admits(caller, access))) {
      throw await this.#control.refusal(caller, access);
    }
    return access;
  }

  /** Forgets what is remembered about an endpoint, after a change. */
  forget(id: string): void {
    this.#access.delete(id);
  }

  /** Forgets everything. */
  forgetAll(): void {
    this.#access.clear();
  }

  /** Document of an endpoint. @throws HubError 403 or 404. */
  async document(caller: Caller, id: string): Promise<Record<string, unknown>> {
    const row = await this.#readable(caller, id);
    return endpointDocument(row, row.owner_id === caller.id);
  }

  /** Whether functions are restricted, and to which. @throws HubError 403 or 404. */
  async allowedFunctions(caller: Caller, id: string): Promise<Record<string, unknown>> {
    const row = await this.#readable(caller, id);
    return row.allowed_functions === null
      ? { endpoint_id: id, restricted: false }
      : { endpoint_id: id, restricted: true, functions: row.allowed_functions };
  }

  /** Status of an endpoint. @throws HubError 403 or 404. */
  async status(caller: Caller, id: string): Promise<EndpointStatus> {
    const row = await this.#db
      .selectFrom('endpoints')
      .select(['id', 'owner_id', 'public', 'shared_with', 'may_be_shared'])
      .select(['status_report', IS_ONLINE.as('is_online')])
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) {
      throw endpointNotFound(id);
    }
    await this.#requireAccess(caller, toThing(row));
    return statusDocument(row.is_online, row.status_report);
  }

  /** The caller's endpoints, or with `any` also those that are public or shared with a group of the caller's. */
  async list(caller: Caller, role: EndpointRole): Promise<Record<string, unknown>[]> {
    const groups = role === 'owner' ? [] : [...(await this.#control.memberships.of(caller, 'now'))];
    const rows = await this.#db
      .selectFrom('endpoints')
      .select(['id', 'name', 'display_name', 'owner_id'])
      .where('deleted_at', 'is', null)
      .where((eb) =>
        role === 'owner'
          ? eb('owner_id', '=', caller.id)
          : eb.or([
              eb('owner_id', '=', caller.id),
              eb.and([
                eb('may_be_shared', '=', true),
                eb.or([eb('public', '=', true), sql<boolean>`shared_with && ${groups}::uuid[]`]),
              ]),
            ]),
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
  async change(caller: Caller, id: string, changes: EndpointChanges): Promise<void> {
    await this.owned(caller, id);
    const set = {
      ...(changes.name === undefined ? {} : { name: changes.name }),
      ...(changes.displayName === undefined ? {} : { display_name: changes.displayName }),
      ...(changes.metadata === undefined
        ? {}
        : {
            // Of what stands there when it is written: the agent may be registering.
            metadata: sql<string>`coalesce((
                select jsonb_object_agg(key, value) from jsonb_each(metadata)
                where key = any(${[...KEPT_METADATA]}::text[])
              ), '{}') || ${storableJson(changes.metadata, 'body/metadata')}::jsonb`,
          }),
      ...(changes.allowedFunctions === undefined
        ? {}
        : { allowed_functions: [...changes.allowedFunctions] }),
      ...(changes.isPublic === undefined ? {} : { public: changes.isPublic }),
    };
    if (Object.keys(set).length > 0) {
      await this.#db.transaction().execute(async (transaction) => {
        const row = await transaction
          .updateTable('endpoints')
          .set(set)
          .where('id', '=', id)
          .returning('may_be_shared')
          .executeTakeFirst();
        if (changes.isPublic === true && row?.may_be_shared === false) {
          throw notIsolated(id);
        }
      });
      this.forget(id);
    }
  }

  /**
   * Allows more functions, or one less, and returns the list; undefined when that one was not allowed. An endpoint without a list is
   * restricted by the first one that is added, and one whose last one goes allows none.
   *
   * @throws HubError 403, 404, or 422 when there would be more than `countMax`.
   */
  async changeAllowedFunctions(
    caller: Caller,
    id: string,
    change:
      | { readonly added: readonly string[]; readonly countMax: number }
      | { readonly removed: string },
  ): Promise<readonly string[] | undefined> {
    await this.owned(caller, id);
    const allowed = await this.#db.transaction().execute(async (transaction) => {
      const row = await transaction
        .selectFrom('endpoints')
        .select('allowed_functions')
        .where('id', '=', id)
        .where('deleted_at', 'is', null)
        .forUpdate()
        .executeTakeFirst();
      if (row === undefined) {
        throw endpointNotFound(id);
      }
      const before = row.allowed_functions ?? [];
      if ('removed' in change && !before.includes(change.removed)) {
        return undefined;
      }
      const after =
        'removed' in change
          ? before.filter((one) => one !== change.removed)
          : [...new Set([...before, ...change.added])];
      if ('countMax' in change && after.length > change.countMax) {
        throw new HubError(
          422,
          'SEMANTICALLY_INVALID',
          `Endpoint ${id} would allow ${after.length} functions, and ${change.countMax} is the most; remove some first`,
        );
      }
      await transaction
        .updateTable('endpoints')
        .set({ allowed_functions: after })
        .where('id', '=', id)
        .execute();
      return after;
    });
    this.forget(id);
    return allowed;
  }

  /** The row when the caller owns the endpoint. @throws HubError 403 or 404. */
  async owned(caller: Caller, id: string): Promise<Selectable<EndpointsTable>> {
    const row = await this.#read(id);
    if (row.owner_id !== caller.id) {
      throw await this.#ownersOnly(caller, row);
    }
    return row;
  }

  /** The same for one that may be deleted already: a deletion that broke off half-way is asked for again. */
  async ownedOrDeleted(caller: Caller, id: string): Promise<Selectable<EndpointsTable>> {
    const row = await this.#db
      .selectFrom('endpoints')
      .selectAll()
      .where('id', '=', id)
      .executeTakeFirst();
    const isOwner = row?.owner_id === caller.id;
    if (row === undefined || (row.deleted_at !== null && !isOwner)) {
      throw endpointNotFound(id);
    }
    if (!isOwner) {
      throw await this.#ownersOnly(caller, row);
    }
    return row;
  }

  async #readable(caller: Caller, id: string): Promise<Selectable<EndpointsTable>> {
    const row = await this.#read(id);
    await this.#requireAccess(caller, toThing(row));
    return row;
  }

  async #requireAccess(caller: Caller, thing: Thing): Promise<void> {
    if (!(await this.#control.allows(caller, thing, 'now'))) {
      throw await this.#control.refusal(caller, thing);
    }
  }

  async #ownersOnly(caller: Caller, row: { id: string; owner_id: string }): Promise<HubError> {
    return await this.#control.ownersOnly(caller, {
      kind: 'endpoint',
      id: row.id,
      ownerId: row.owner_id,
    });
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

type SharingColumns = Pick<
  Selectable<EndpointsTable>,
  'id' | 'owner_id' | 'public' | 'shared_with' | 'may_be_shared'
>;

/** What a decision needs; sharing that must not be counts for nothing. */
function toThing(row: SharingColumns): Thing & { readonly kind: 'endpoint' } {
  const isShared = row.public || row.shared_with.length > 0;
  return {
    kind: 'endpoint',
    id: row.id,
    ownerId: row.owner_id,
    isPublic: row.public && row.may_be_shared,
    sharedWith: row.may_be_shared ? row.shared_with : [],
    ...(isShared && !row.may_be_shared ? { suspended: SHARING_SUSPENDED } : {}),
  };
}

function toAccess(row: Selectable<EndpointsTable>): EndpointAccess {
  const types = row.metadata['environment_types'];
  return {
    ...toThing(row),
    allowedFunctions:
      row.allowed_functions === null ? null : new Set<string>(row.allowed_functions),
    allowedSerializers: allowedSerializersOf(row.metadata),
    environmentTypes: new Set(Array.isArray(types) ? types.map(String) : []),
  };
}

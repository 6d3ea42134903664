/**
 * Sharing and unsharing of functions, endpoints and environments, which is the same for all three: a list of groups and a flag in the row.
 *
 * Only the owner shares, and only with groups that the owner is in. An endpoint is shared only when its agent keeps functions away from
 * its own files (`isolation` in its registration), or its operator has said that it may be shared nevertheless.
 */
import { sql } from 'kysely';
import type { Kysely, RawBuilder, Transaction } from 'kysely';

import type { Logger } from '../../base/logger.ts';
import type { SharedKind, SharingDocument } from '../../protocol/sharing.ts';
import type { Caller } from '../auth/caller.ts';
import type { HubDatabase } from '../db/schema.ts';
import { HubError } from '../hub-error.ts';
import { groupNotFound } from './access-control.ts';
import type { AccessControl, Thing } from './access-control.ts';
import { auditSharing } from './audit.ts';

/** Groups that one thing may be shared with: every decision looks at them. */
const GROUPS_MAX = 100;

/** What is asked for. */
export interface SharingRequest {
  /** Canonical ids. */
  readonly groups: readonly string[];
  /** With everybody. */
  readonly isPublic: boolean;
}

/** What {@link SharingRegistry} works with. */
export interface SharingRegistryOptions {
  readonly db: Kysely<HubDatabase>;
  readonly access: AccessControl;
  readonly logger: Logger;
  /** Called after a change: whatever is remembered of a thing no longer holds. */
  readonly onChanged: (kind: SharedKind, id: string) => void;
}

const KINDS: Readonly<
  Record<
    SharedKind,
    { readonly kind: Thing['kind']; readonly notFound: string; readonly isolation: boolean }
  >
> = {
  functions: { kind: 'function', notFound: 'FUNCTION_NOT_FOUND', isolation: false },
  endpoints: { kind: 'endpoint', notFound: 'ENDPOINT_NOT_FOUND', isolation: true },
  environments: { kind: 'environment', notFound: 'CONTAINER_NOT_FOUND', isolation: false },
};

const NAMES = { function: 'Function', endpoint: 'Endpoint', environment: 'Environment' } as const;

interface Row {
  readonly owner_id: string;
  readonly public: boolean;
  readonly shared_with: string[];
  readonly may_be_shared: boolean;
}

/** Why an endpoint cannot be shared, and what to set; told by a refusal after "it is owned by … and". */
export const SHARING_SUSPENDED =
  'its sharing is suspended, because its agent runs functions as its own user and its operator has not set share_without_isolation';

/** The answer to who wants to share an endpoint whose agent runs functions as its own user. */
export function notIsolated(id: string): HubError {
  return new HubError(
    409,
    'ENDPOINT_NOT_ISOLATED',
    `Endpoint ${id} cannot be shared: its agent runs functions as its own user, who could read its credentials and files. ` +
      'Run it as a system service with workers of their own or with a sandbox, or set share_without_isolation: true in its config.yaml if you trust everybody you share it with; then restart the agent and share it again',
  );
}

/** Changes and shows who may use things. */
export class SharingRegistry {
  readonly #options: SharingRegistryOptions;

  constructor(options: SharingRegistryOptions) {
    this.#options = options;
  }

  /** Who may use a thing of the caller's. @throws HubError 403 or 404. */
  async read(caller: Caller, kind: SharedKind, id: string): Promise<SharingDocument> {
    return await this.#document(id, await this.#owned(caller, kind, id));
  }

  /** Shares a thing of the caller's with more. @throws HubError 403, 404, 409 or 422. */
  async share(
    caller: Caller,
    kind: SharedKind,
    id: string,
    { groups, isPublic }: SharingRequest,
  ): Promise<SharingDocument> {
    for (const group of groups) {
      await this.#options.access.requireMember(caller, group);
    }
    return await this.#change(caller, kind, id, groups, (row) => {
      if (!row.may_be_shared && (groups.length > 0 || isPublic)) {
        throw notIsolated(id);
      }
      const sharedWith = [...new Set([...row.shared_with, ...groups])];
      if (sharedWith.length > GROUPS_MAX) {
        throw new HubError(
          422,
          'SEMANTICALLY_INVALID',
          `${NAMES[KINDS[kind].kind]} ${id} would be shared with ${sharedWith.length} groups, and ${GROUPS_MAX} is the most; make a group of those groups' members, or make it public`,
        );
      }
      return { isPublic: row.public || isPublic, sharedWith };
    });
  }

  /** Takes a thing of the caller's back from some. @throws HubError 403 or 404. */
  async unshare(
    caller: Caller,
    kind: SharedKind,
    id: string,
    { groups, isPublic }: SharingRequest,
  ): Promise<SharingDocument> {
    return await this.#change(caller, kind, id, [], (row) => ({
      isPublic: row.public && !isPublic,
      sharedWith: row.shared_with.filter((group) => !groups.includes(group)),
    }));
  }

  async #change(
    caller: Caller,
    kind: SharedKind,
    id: string,
    groups: readonly string[],
    next: (row: Row) => { readonly isPublic: boolean; readonly sharedWith: readonly string[] },
  ): Promise<SharingDocument> {
    const { db, logger, onChanged } = this.#options;
    await this.#owned(caller, kind, id);
    const { before, after } = await db.transaction().execute(async (transaction) => {
      await holdGroups(transaction, caller, groups);
      const row = await readRow(transaction, kind, id, sql`for update`);
      const { isPublic, sharedWith } = next(row);
      await sql`update ${sql.table(kind)} set public = ${isPublic}, shared_with = ${[...sharedWith]}::uuid[]
        where id = ${id}::uuid`.execute(transaction);
      return { before: row, after: { ...row, public: isPublic, shared_with: [...sharedWith] } };
    });
    onChanged(kind, id);
    auditSharing(logger, caller, {
      kind: KINDS[kind].kind,
      id,
      isPublic: after.public,
      sharedWith: after.shared_with,
      before: { isPublic: before.public, sharedWith: before.shared_with },
    });
    return await this.#document(id, after);
  }

  async #owned(caller: Caller, kind: SharedKind, id: string): Promise<Row> {
    const { db, access } = this.#options;
    const row = await readRow(db, kind, id);
    if (row.owner_id !== caller.id) {
      throw await access.ownersOnly(caller, {
        kind: KINDS[kind].kind,
        id,
        ownerId: row.owner_id,
      });
    }
    return row;
  }

  async #document(id: string, row: Row): Promise<SharingDocument> {
    return {
      id,
      owner: row.owner_id,
      public: row.public,
      groups: await this.#options.access.groupNames(row.shared_with),
    };
  }
}

/** Keeps groups from being deleted until the transaction ends: their deletion then sees what was shared with them. */
async function holdGroups(
  transaction: Transaction<HubDatabase>,
  caller: Caller,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) {
    return;
  }
  const rows = await transaction
    .selectFrom('groups')
    .select('id')
    .where('id', 'in', ids)
    .orderBy('id')
    .forKeyShare()
    .execute();
  const gone = ids.find((id) => !rows.some((row) => row.id === id));
  if (gone !== undefined) {
    throw groupNotFound(gone, caller);
  }
}

async function readRow(
  db: Kysely<HubDatabase>,
  kind: SharedKind,
  id: string,
  lock: RawBuilder<unknown> = sql``,
): Promise<Row> {
  const { kind: thing, notFound, isolation } = KINDS[kind];
  const { rows } = await sql<Row>`
    select owner_id, public, shared_with, ${isolation ? sql.ref('may_be_shared') : sql`true`} as may_be_shared
    from ${sql.table(kind)} where id = ${id}::uuid and deleted_at is null ${lock}`.execute(db);
  const [row] = rows;
  if (row === undefined) {
    throw new HubError(404, notFound, `${NAMES[thing]} ${id} could not be found`);
  }
  return row;
}

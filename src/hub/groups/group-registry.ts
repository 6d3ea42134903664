/**
 * Groups and their members. Who may do what is decided here and in membership-changes.ts, within the transaction that does it.
 *
 *   member    sees the group and its members, uses what is shared with it, and may leave
 *   manager   also adds and removes members
 *   admin     also renames and deletes the group, and says who is a manager or an admin
 *
 * G1 A group always has an admin, unless only an operator (`hub group`) made or emptied it.
 * G2 Who is not in a group does not learn that it exists.
 */
import { randomUUID } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely, Selectable, Transaction } from 'kysely';

import type { GroupRole } from '../../protocol/sharing.ts';
import type { Caller } from '../auth/caller.ts';
import { isUniqueViolation } from '../db/postgres-errors.ts';
import type { GroupsTable, HubDatabase } from '../db/schema.ts';
import { HubError } from '../hub-error.ts';
import { groupNotFound } from './access-control.ts';
import type { Memberships } from './memberships.ts';

/** Groups that one identity may be in: each submission may have to look at them. */
export const GROUPS_PER_IDENTITY_MAX = 1_000;

/** A group. */
export interface Group {
  readonly id: string;
  readonly name: string;
  readonly description: string | null;
  /** Whose tokens name it, and how; null for a group that only has members of its own. */
  readonly claim: { readonly issuer: string; readonly name: string } | null;
  readonly createdAt: Date;
}

/** A member of a group. */
export interface Member {
  readonly identityId: string;
  readonly role: GroupRole;
  readonly since: Date;
}

/** A group to be made. */
export interface NewGroup {
  readonly name: string;
  readonly description: string | null;
  readonly claim?: { readonly issuer: string; readonly name: string };
}

/** The tables of groups. */
export class GroupRegistry {
  readonly #db: Kysely<HubDatabase>;
  readonly #memberships: Pick<Memberships, 'of' | 'forget'>;

  constructor(db: Kysely<HubDatabase>, memberships: Pick<Memberships, 'of' | 'forget'>) {
    this.#db = db;
    this.#memberships = memberships;
  }

  /** Makes a group, whose creator becomes its admin; null when that is the operator. @throws HubError 409 or 422. */
  async create(creatorId: string | null, group: NewGroup): Promise<Group> {
    try {
      return await this.#db.transaction().execute(async (transaction) => {
        const row = await transaction
          .insertInto('groups')
          .values({
            id: randomUUID(),
            name: group.name,
            description: group.description,
            created_by: creatorId,
            claim_issuer: group.claim?.issuer ?? null,
            claim_name: group.claim?.name ?? null,
          })
          .returningAll()
          .executeTakeFirstOrThrow();
        if (creatorId !== null) {
          await checkGroupCount(transaction, creatorId);
          await transaction
            .insertInto('group_members')
            .values({ group_id: row.id, identity_id: creatorId, role: 'admin' })
            .execute();
        }
        return toGroup(row);
      });
    } catch (error) {
      if (isUniqueViolation(error)) {
        throw new HubError(
          409,
          'RESOURCE_CONFLICT',
          `another group stands for ${group.claim?.name ?? ''} of ${group.claim?.issuer ?? ''} already; see \`hub group list\``,
          { cause: error },
        );
      }
      throw error;
    } finally {
      this.#memberships.forget();
    }
  }

  /** Every group, by name. */
  async list(): Promise<(Group & { readonly memberCount: number })[]> {
    const rows = await this.#db
      .selectFrom('groups')
      .selectAll()
      .select((eb) =>
        eb
          .selectFrom('group_members')
          .whereRef('group_id', '=', 'groups.id')
          .select(sql<number>`count(*)::int`.as('count'))
          .as('member_count'),
      )
      .orderBy('name')
      .orderBy('id')
      .execute();
    return rows.map((row) => ({ ...toGroup(row), memberCount: row.member_count ?? 0 }));
  }

  /** Groups with this id or this name, which need not be unique. */
  async find(idOrName: string): Promise<Group[]> {
    const rows = await this.#db
      .selectFrom('groups')
      .selectAll()
      .where((eb) =>
        eb.or([eb(eb.cast('id', 'text'), '=', idOrName.toLowerCase()), eb('name', '=', idOrName)]),
      )
      .execute();
    return rows.map(toGroup);
  }

  /** The caller's groups with the role in each, by name. */
  async mine(caller: Caller): Promise<{ group: Group; role: GroupRole }[]> {
    const ids = [...(await this.#memberships.of(caller, 'now'))];
    if (ids.length === 0) {
      return [];
    }
    const rows = await this.#db
      .selectFrom('groups')
      .leftJoin('group_members', (join) =>
        join
          .onRef('group_members.group_id', '=', 'groups.id')
          .on('group_members.identity_id', '=', caller.id),
      )
      .selectAll('groups')
      .select('group_members.role')
      .where('groups.id', 'in', ids)
      .orderBy('groups.name')
      .orderBy('groups.id')
      .execute();
    // Without a row of its own the caller is a member because a token says so.
    return rows.map((row) => ({ group: toGroup(row), role: row.role ?? 'member' }));
  }

  /** A group of the caller's, and the role in it. @throws HubError 404. */
  async read(caller: Caller, id: string): Promise<{ group: Group; role: GroupRole }> {
    const found = (await this.mine(caller)).find(({ group }) => group.id === id);
    if (found === undefined) {
      throw groupNotFound(id, caller);
    }
    return found;
  }

  /** The same for what only an admin may do. @throws HubError 403 or 404. */
  async administered(caller: Caller, id: string): Promise<Group> {
    const { group, role } = await this.read(caller, id);
    if (role !== 'admin') {
      throw new HubError(
        403,
        'GROUP_ACCESS_FORBIDDEN',
        `you are a ${role} of group "${group.name}"; only its admins may change or delete it`,
      );
    }
    return group;
  }

  /** Members, admins first and then by how long they are in. */
  async members(groupId: string): Promise<Member[]> {
    const rows = await this.#db
      .selectFrom('group_members')
      .select(['identity_id', 'role', 'since'])
      .where('group_id', '=', groupId)
      // In the order of the alphabet, which happens to be that of the rights.
      .orderBy('role')
      .orderBy('since')
      .orderBy('identity_id')
      .execute();
    return rows.map((row) => ({ identityId: row.identity_id, role: row.role, since: row.since }));
  }

  /** Changes name or description. @throws HubError 404. */
  async update(
    caller: Caller,
    id: string,
    changes: { readonly name?: string; readonly description?: string | null },
  ): Promise<Group> {
    const row = await this.#db
      .updateTable('groups')
      // Something must be set for the row to come back.
      .set({ id, ...changes })
      .where('id', '=', id)
      .returningAll()
      .executeTakeFirst();
    if (row === undefined) {
      // Deleted since the caller's role was looked up.
      throw groupNotFound(id, caller);
    }
    return toGroup(row);
  }

  /** Deletes a group; nothing is shared with it any more. */
  async delete(id: string): Promise<void> {
    await this.#db.transaction().execute(async (transaction) => {
      await transaction.deleteFrom('groups').where('id', '=', id).execute();
      for (const table of ['functions', 'endpoints', 'environments'] as const) {
        await sql`update ${sql.table(table)} set shared_with = array_remove(shared_with, ${id}::uuid)
          where shared_with <> '{}' and shared_with @> array[${id}::uuid]`.execute(transaction);
      }
    });
    this.#memberships.forget();
  }
}

/** @throws HubError 422 when an identity would be in too many groups. */
export async function checkGroupCount(
  transaction: Transaction<HubDatabase>,
  identityId: string,
): Promise<void> {
  const { count } = await transaction
    .selectFrom('group_members')
    .select(sql<number>`count(*)::int`.as('count'))
    .where('identity_id', '=', identityId)
    .executeTakeFirstOrThrow();
  if (count >= GROUPS_PER_IDENTITY_MAX) {
    throw new HubError(
      422,
      'SEMANTICALLY_INVALID',
      `${identityId} is in ${count} groups already, and ${GROUPS_PER_IDENTITY_MAX} is the most; leave or delete some`,
    );
  }
}

function toGroup(row: Selectable<GroupsTable>): Group {
  return {
    id: row.id,
    name: row.name,
    description: row.description,
    claim:
      row.claim_issuer === null || row.claim_name === null
        ? null
        : { issuer: row.claim_issuer, name: row.claim_name },
    createdAt: row.created_at,
  };
}

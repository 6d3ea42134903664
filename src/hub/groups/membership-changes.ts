/**
 * Changes of who is in a group, as many at once as a request holds: each is done or refused by itself, with a reason (that is how
 * clients of Globus Groups expect it). The group's row is locked meanwhile, so that two admins cannot leave at the same time.
 */
import type { Kysely, Transaction } from 'kysely';

import { canonicalUuid } from '../../protocol/messages.ts';
import type { GroupRole } from '../../protocol/sharing.ts';
import { IdentityDirectory } from '../auth/identities.ts';
import type { HubDatabase } from '../db/schema.ts';
import { HubError } from '../hub-error.ts';
import { checkGroupCount } from './group-registry.ts';

/** What can be done about one membership. */
export type MembershipAction = 'add' | 'remove' | 'change_role' | 'leave';

/** One change. */
export interface MembershipChange {
  readonly action: MembershipAction;
  readonly identityId: string;
  /** For `add` (default: member); `change_role` needs it. */
  readonly role?: GroupRole;
}

/** What became of it. */
export type MembershipOutcome = MembershipChange &
  (
    | { readonly role: GroupRole }
    | { readonly refusal: { readonly code: string; readonly detail: string } }
  );

/** Who asks: a member, or an operator at the hub's own command line, who may do everything. */
export type Actor = { readonly id: string } | 'operator';

const MEMBERS_MAX = 10_000;

interface Scene {
  readonly transaction: Transaction<HubDatabase>;
  readonly groupId: string;
  readonly actor: Actor;
  /** As they are within the transaction. */
  readonly roles: Map<string, GroupRole>;
  /** Of those who are to be added. */
  readonly known: ReadonlySet<string>;
}

class Refused extends HubError {}

/** Applies changes in their order. @throws HubError 404 when the group is gone. */
export async function changeMemberships(
  db: Kysely<HubDatabase>,
  groupId: string,
  actor: Actor,
  changes: readonly MembershipChange[],
): Promise<MembershipOutcome[]> {
  const added = changes.filter(({ action }) => action === 'add').map((change) => change.identityId);
  return await db.transaction().execute(async (transaction) => {
    const group = await transaction
      .selectFrom('groups')
      .select('id')
      .where('id', '=', groupId)
      .forUpdate()
      .executeTakeFirst();
    if (group === undefined) {
      throw new HubError(404, 'AUTH_GROUP_NOT_FOUND', `Group ${groupId} could not be found`);
    }
    const rows = await transaction
      .selectFrom('group_members')
      .select(['identity_id', 'role'])
      .where('group_id', '=', groupId)
      .execute();
    const roles = new Map(rows.map((row) => [row.identity_id, row.role]));
    // Clients are held until the end: one that is being deleted takes its memberships with it, before or after.
    const ids = added.flatMap((id) => canonicalUuid(id) ?? []);
    if (ids.length > 0) {
      await transaction
        .selectFrom('clients')
        .select('id')
        .where('id', 'in', ids)
        .orderBy('id')
        .forKeyShare()
        .execute();
    }
    const known = new Set(
      (await new IdentityDirectory(transaction).find(added)).map(({ id }) => id),
    );
    const scene: Scene = { transaction, groupId, actor, roles, known };
    const outcomes: MembershipOutcome[] = [];
    for (const change of changes) {
      outcomes.push(await settle(scene, change));
    }
    return outcomes;
  });
}

async function settle(scene: Scene, change: MembershipChange): Promise<MembershipOutcome> {
  try {
    return { ...change, role: await STEPS[change.action](scene, change) };
  } catch (error) {
    // Refused before anything was written; what the database says ends the transaction.
    if (error instanceof HubError) {
      return { ...change, refusal: { code: error.code, detail: error.detail } };
    }
    throw error;
  }
}

const STEPS: Readonly<
  Record<MembershipAction, (scene: Scene, change: MembershipChange) => Promise<GroupRole>>
> = { add, remove, change_role: changeRole, leave };

async function add(scene: Scene, change: MembershipChange): Promise<GroupRole> {
  const { identityId, role = 'member' } = change;
  requireRole(scene, role === 'member' ? ['admin', 'manager'] : ['admin'], `add a ${role}`);
  if (!scene.known.has(identityId)) {
    throw new Refused(
      404,
      'USER_NOT_FOUND',
      `nobody at this hub has the identity ${identityId}; look it up with GET /v2/api/identities?usernames=…`,
    );
  }
  const present = scene.roles.get(identityId);
  if (present === role) {
    return role;
  }
  if (present !== undefined) {
    throw new Refused(
      409,
      'RESOURCE_CONFLICT',
      `${identityId} is a ${present} already; change that with change_role`,
    );
  }
  if (scene.roles.size >= MEMBERS_MAX) {
    throw new Refused(422, 'SEMANTICALLY_INVALID', `a group has ${MEMBERS_MAX} members at most`);
  }
  await checkGroupCount(scene.transaction, identityId);
  await scene.transaction
    .insertInto('group_members')
    .values({ group_id: scene.groupId, identity_id: identityId, role })
    .execute();
  scene.roles.set(identityId, role);
  return role;
}

async function remove(scene: Scene, { identityId }: MembershipChange): Promise<GroupRole> {
  const role = requireMember(scene, identityId);
  requireRole(scene, role === 'member' ? ['admin', 'manager'] : ['admin'], `remove a ${role}`);
  return await end(scene, identityId, role);
}

async function leave(scene: Scene, { identityId }: MembershipChange): Promise<GroupRole> {
  if (scene.actor !== 'operator' && scene.actor.id !== identityId) {
    throw new Refused(
      403,
      'GROUP_ACCESS_FORBIDDEN',
      `only ${identityId} can leave for themselves; remove them instead`,
    );
  }
  return await end(scene, identityId, requireMember(scene, identityId));
}

async function changeRole(
  scene: Scene,
  { identityId, role }: MembershipChange,
): Promise<GroupRole> {
  const former = requireMember(scene, identityId);
  requireRole(scene, ['admin'], 'change roles');
  if (role === undefined) {
    throw new Refused(
      422,
      'SEMANTICALLY_INVALID',
      `change_role needs the role that ${identityId} is to have: member, manager or admin`,
    );
  }
  if (former === 'admin' && role !== 'admin') {
    requireAnotherAdmin(scene, identityId);
  }
  await scene.transaction
    .updateTable('group_members')
    .set({ role })
    .where('group_id', '=', scene.groupId)
    .where('identity_id', '=', identityId)
    .execute();
  scene.roles.set(identityId, role);
  return role;
}

async function end(scene: Scene, identityId: string, role: GroupRole): Promise<GroupRole> {
  if (role === 'admin') {
    requireAnotherAdmin(scene, identityId);
  }
  await scene.transaction
    .deleteFrom('group_members')
    .where('group_id', '=', scene.groupId)
    .where('identity_id', '=', identityId)
    .execute();
  scene.roles.delete(identityId);
  return role;
}

function requireMember({ roles }: Scene, identityId: string): GroupRole {
  const role = roles.get(identityId);
  if (role === undefined) {
    throw new Refused(404, 'USER_NOT_FOUND', `${identityId} is not a member of this group`);
  }
  return role;
}

function requireRole({ actor, roles }: Scene, needed: readonly GroupRole[], what: string): void {
  const role = actor === 'operator' ? 'admin' : roles.get(actor.id);
  if (role === undefined || !needed.includes(role)) {
    throw new Refused(
      403,
      'GROUP_ACCESS_FORBIDDEN',
      `only an ${needed.join(' or a ')} of the group may ${what}; ask one`,
    );
  }
}

/** An operator may empty a group; its admins may not leave it to itself. */
function requireAnotherAdmin({ actor, roles }: Scene, identityId: string): void {
  const others = [...roles].filter(([id, role]) => id !== identityId && role === 'admin');
  if (actor !== 'operator' && others.length === 0) {
    throw new Refused(
      409,
      'RESOURCE_CONFLICT',
      'this is the last admin of the group; make somebody else an admin first, or delete the group',
    );
  }
}

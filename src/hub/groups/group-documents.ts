/** Groups in the shape of Globus Groups v2: from rows to what `globus_sdk.GroupsClient` is used to. */
import type { Kysely } from 'kysely';

import type { GroupDocument, GroupRole, MembershipDocument } from '../../protocol/sharing.ts';
import type { Caller } from '../auth/caller.ts';
import { IdentityDirectory } from '../auth/identities.ts';
import type { HubDatabase } from '../db/schema.ts';
import type { Group, GroupRegistry } from './group-registry.ts';

/** What can be asked for beside the group itself. */
export const GROUP_INCLUDES = [
  'memberships',
  'my_memberships',
  'policies',
  'allowed_actions',
  'child_ids',
] as const;
/** One of them. */
export type GroupInclude = (typeof GROUP_INCLUDES)[number];

/** Rules that hold for every group here: nobody joins by asking, and nobody sees one from outside. */
export const GROUP_POLICIES = {
  is_high_assurance: false,
  authentication_assurance_timeout: null,
  group_visibility: 'private',
  group_members_visibility: 'members',
  join_requests: false,
  signup_fields: [],
} as const;

const ACTIONS: Readonly<Record<GroupRole, readonly string[]>> = {
  member: ['leave'],
  manager: ['leave', 'add', 'remove'],
  admin: ['leave', 'add', 'remove', 'change_role', 'update', 'delete'],
};

/** One membership as a document. */
export function membershipDocument(
  groupId: string,
  identity: { readonly id: string; readonly username: string },
  role: GroupRole,
  status: MembershipDocument['status'] = 'active',
): MembershipDocument {
  return { group_id: groupId, identity_id: identity.id, username: identity.username, role, status };
}

/** A group as its member sees it. */
export function groupDocument(group: Group, role: GroupRole, caller: Caller): GroupDocument {
  return {
    ...plainDocument(group),
    my_memberships: [membershipDocument(group.id, caller, role)],
  };
}

function plainDocument(group: Group): GroupDocument & Record<string, unknown> {
  return {
    id: group.id,
    name: group.name,
    description: group.description,
    group_type: 'regular',
    parent_id: null,
    enforce_session: false,
    session_limit: null,
    session_timeouts: {},
    ...(group.claim === null
      ? {}
      : { outpost: { claim_issuer: group.claim.issuer, claim_name: group.claim.name } }),
  };
}

/** A group with what was asked for beside it. */
export async function fullGroupDocument(
  parts: { readonly db: Kysely<HubDatabase>; readonly registry: GroupRegistry },
  { group, role }: { readonly group: Group; readonly role: GroupRole },
  caller: Caller,
  include: ReadonlySet<GroupInclude>,
): Promise<Record<string, unknown>> {
  const { my_memberships: mine, ...document } = groupDocument(group, role, caller);
  return {
    ...document,
    ...(include.has('my_memberships') && { my_memberships: mine }),
    ...(include.has('memberships') && { memberships: await memberships(parts, group.id) }),
    ...(include.has('policies') && { policies: GROUP_POLICIES }),
    ...(include.has('allowed_actions') && { allowed_actions: ACTIONS[role] }),
    ...(include.has('child_ids') && { child_ids: [] }),
  };
}

async function memberships(
  { db, registry }: { readonly db: Kysely<HubDatabase>; readonly registry: GroupRegistry },
  groupId: string,
): Promise<MembershipDocument[]> {
  const members = await registry.members(groupId);
  const usernames = await usernamesOf(
    db,
    members.map((member) => member.identityId),
  );
  return members.map(({ identityId: id, role }) =>
    membershipDocument(groupId, { id, username: usernames.get(id) ?? '' }, role),
  );
}

/** Usernames by identity; who no longer exists has none. */
export async function usernamesOf(
  db: Kysely<HubDatabase>,
  ids: readonly string[],
): Promise<Map<string, string>> {
  const identities = await new IdentityDirectory(db).find(ids);
  return new Map(identities.map((identity) => [identity.id, identity.username]));
}

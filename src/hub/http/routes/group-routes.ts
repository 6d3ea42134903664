/**
 * Groups in the shape of Globus Groups v2, which `globus_sdk.GroupsClient` speaks: my_groups, one group, create, change, delete, and
 * a batch of membership actions. Members are added, never invited: there is nobody to send the invitation.
 *
 * A token for Compute does as well as one for Groups: a program that shares a function need not ask for a second one.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';

import { canonicalUuid } from '../../../protocol/messages.ts';
import { GROUPS_SCOPE, VIEW_GROUPS_SCOPE } from '../../../protocol/oauth.ts';
import { COMPUTE_SCOPE } from '../../../protocol/rest.ts';
import type { Caller } from '../../auth/caller.ts';
import { auditGroup } from '../../groups/audit.ts';
import type { GroupAudit } from '../../groups/audit.ts';
import {
  fullGroupDocument,
  GROUP_INCLUDES,
  GROUP_POLICIES,
  groupDocument,
  membershipDocument,
  usernamesOf,
} from '../../groups/group-documents.ts';
import type { GroupInclude } from '../../groups/group-documents.ts';
import type { MembershipChange, MembershipOutcome } from '../../groups/membership-changes.ts';
import { changeMemberships } from '../../groups/membership-changes.ts';
import { HubError } from '../../hub-error.ts';
import { callerOf } from '../authentication.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import { answers, IdParams } from '../schemas.ts';
import {
  GroupBody,
  GroupQuery,
  GroupUpdateBody,
  KNOWN_ACTIONS,
  MembershipActionsBody,
  MyGroupsQuery,
  OTHER_ACTIONS,
  SharingResponses,
} from '../sharing-schemas.ts';
import { requireScope } from './require-scope.ts';

interface IdRoute {
  Params: { id: string };
}

const tags = ['groups'];
const config = { access: 'signedIn' } as const;
const ID = 'the group id';
const VIEW = [GROUPS_SCOPE, VIEW_GROUPS_SCOPE, COMPUTE_SCOPE] as const;
const CHANGE = [GROUPS_SCOPE, COMPUTE_SCOPE] as const;

/** Adds the routes. */
export function groupRoutes(app: FastifyInstance, context: RouteContext): void {
  addReadingRoutes(app, context);
  addChangingRoutes(app, context);
  addMembershipRoute(app, context);
}

function addReadingRoutes(app: FastifyInstance, context: RouteContext): void {
  const { groups, db } = context.sharing;
  app.get<{ Querystring: MyGroupsQuery }>(
    '/v2/groups/my_groups',
    {
      config,
      schema: { tags, querystring: MyGroupsQuery, response: answers(SharingResponses.groups) },
    },
    async (request) => {
      const caller = viewer(request);
      const { statuses } = request.query;
      if (statuses !== undefined && !statuses.split(',').includes('active')) {
        return [];
      }
      const mine = await groups.mine(caller);
      return mine.map(({ group, role }) => groupDocument(group, role, caller));
    },
  );
  app.get<IdRoute & { Querystring: GroupQuery }>(
    '/v2/groups/:id',
    {
      config,
      schema: {
        tags,
        params: IdParams,
        querystring: GroupQuery,
        response: answers(SharingResponses.group),
      },
    },
    async (request) => {
      const caller = viewer(request);
      const found = await groups.read(caller, pathId(request, ID));
      return await fullGroupDocument(
        { db, registry: groups },
        found,
        caller,
        includes(request.query.include),
      );
    },
  );
  app.get<IdRoute>(
    '/v2/groups/:id/policies',
    { config, schema: { tags, params: IdParams, response: answers(SharingResponses.policies) } },
    async (request) => {
      await groups.read(viewer(request), pathId(request, ID));
      return GROUP_POLICIES;
    },
  );
}

function addChangingRoutes(app: FastifyInstance, context: RouteContext): void {
  const { groups } = context.sharing;
  const response = answers(SharingResponses.group);
  app.post<{ Body: GroupBody }>(
    '/v2/groups',
    { config, schema: { tags, body: GroupBody, response } },
    async (request) => {
      const caller = changer(request);
      const { name, description } = request.body;
      const group = await groups.create(caller.id, { name, description: description ?? null });
      auditGroup(context.logger, caller, { groupId: group.id, change: 'created' });
      return groupDocument(group, 'admin', caller);
    },
  );
  app.put<IdRoute & { Body: GroupUpdateBody }>(
    '/v2/groups/:id',
    { config, schema: { tags, params: IdParams, body: GroupUpdateBody, response } },
    async (request) => {
      const caller = changer(request);
      const { id } = await groups.administered(caller, pathId(request, ID));
      const { name, description } = request.body;
      const group = await groups.update(caller, id, {
        ...(name === undefined ? {} : { name }),
        ...(description === undefined ? {} : { description }),
      });
      auditGroup(context.logger, caller, { groupId: id, change: 'changed' });
      return groupDocument(group, 'admin', caller);
    },
  );
  app.delete<IdRoute>(
    '/v2/groups/:id',
    { config, schema: { tags, params: IdParams, response } },
    async (request) => {
      const caller = changer(request);
      const group = await groups.administered(caller, pathId(request, ID));
      await groups.delete(group.id);
      context.sharing.forgetAll();
      auditGroup(context.logger, caller, { groupId: group.id, change: 'deleted' });
      return groupDocument(group, 'admin', caller);
    },
  );
}

function addMembershipRoute(app: FastifyInstance, context: RouteContext): void {
  const { groups, memberships, db } = context.sharing;
  app.post<IdRoute & { Body: MembershipActionsBody }>(
    '/v2/groups/:id',
    {
      config,
      schema: {
        tags,
        params: IdParams,
        body: MembershipActionsBody,
        response: answers(SharingResponses.membershipActions),
      },
    },
    async (request) => {
      const caller = changer(request);
      const { group } = await groups.read(caller, pathId(request, ID));
      const outcomes = await changeMemberships(db, group.id, caller, requested(request.body));
      memberships.forget();
      for (const outcome of outcomes) {
        if (!('refusal' in outcome)) {
          auditGroup(context.logger, caller, auditOf(group.id, outcome));
        }
      }
      const ids = outcomes.map(({ identityId }) => identityId);
      return actionsDocument(group.id, outcomes, await usernamesOf(db, ids), request.body);
    },
  );
}

function viewer(request: FastifyRequest): Caller {
  return requireScope(callerOf(request), VIEW);
}

function changer(request: FastifyRequest): Caller {
  return requireScope(callerOf(request), CHANGE);
}

function includes(text: string | undefined): ReadonlySet<GroupInclude> {
  const wanted = (text ?? '').split(',').filter((word) => word !== '');
  return new Set(
    wanted.map((word) => {
      const known = GROUP_INCLUDES.find((each) => each === word.trim());
      if (known === undefined) {
        throw new HubError(
          422,
          'SEMANTICALLY_INVALID',
          `Request payload failed validation: include: ${word.slice(0, 64)} is none of ${GROUP_INCLUDES.join(', ')}`,
        );
      }
      return known;
    }),
  );
}

function requested(body: MembershipActionsBody): MembershipChange[] {
  return KNOWN_ACTIONS.flatMap((action) =>
    (body[action] ?? []).map(({ identity_id: spelt, role }) => ({
      action,
      // What is no UUID is nobody's identity, and is refused as such.
      identityId: canonicalUuid(spelt) ?? spelt,
      ...(role === undefined ? {} : { role }),
    })),
  );
}

const CHANGES = {
  add: 'added',
  remove: 'removed',
  change_role: 'role changed',
  leave: 'left',
} as const;

function auditOf(
  groupId: string,
  { action, identityId, role }: MembershipOutcome & { readonly role?: string | undefined },
): GroupAudit {
  return { groupId, change: CHANGES[action], identityId, ...(role === undefined ? {} : { role }) };
}

const STATUSES = {
  add: 'active',
  remove: 'removed',
  change_role: 'active',
  leave: 'left',
} as const;

/** Done memberships by action, and what was refused under `errors`, as clients of Globus Groups read it. */
function actionsDocument(
  groupId: string,
  outcomes: readonly MembershipOutcome[],
  usernames: ReadonlyMap<string, string>,
  body: MembershipActionsBody,
): Record<string, unknown> {
  const done: Record<string, unknown[]> = {};
  const errors: Record<string, unknown[]> = {};
  for (const outcome of outcomes) {
    const { action, identityId: id } = outcome;
    if ('refusal' in outcome) {
      (errors[action] ??= []).push({ identity_id: id, ...outcome.refusal });
    } else {
      const identity = { id, username: usernames.get(id) ?? '' };
      (done[action] ??= []).push(
        membershipDocument(groupId, identity, outcome.role, STATUSES[action]),
      );
    }
  }
  for (const action of OTHER_ACTIONS) {
    for (const { identity_id: id } of body[action] ?? []) {
      (errors[action] ??= []).push({
        identity_id: id,
        code: 'SEMANTICALLY_INVALID',
        detail: `groups of this hub have no invitations and no requests; an admin or manager adds members with "add"`,
      });
    }
  }
  return { ...done, ...(Object.keys(errors).length === 0 ? {} : { errors }) };
}

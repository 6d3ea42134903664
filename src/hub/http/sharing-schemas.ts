/** Schemas of the routes about groups, sharing, search and environments; see schemas.ts for what holds for all of them. */
import { Type } from '@sinclair/typebox';
import type { Static } from '@sinclair/typebox';

import { ENVIRONMENT_TYPES, GROUP_ROLES } from '../../protocol/sharing.ts';
import {
  NAME_CHARS_MAX,
  open,
  optionalFlag,
  optionalText,
  optionalTexts,
  Uuid,
} from './schemas.ts';

const DESCRIPTION_CHARS_MAX = 4096;
const ACTIONS_MAX = 200;
const GROUPS_MAX = 100;

function oneOf<T extends string>(values: readonly T[]) {
  return Type.Unsafe<T>({ type: 'string', enum: [...values] });
}

/** A number in a query string; nothing is turned into another type for us. */
function queryNumber(digitsMax: number, description: string) {
  return Type.Optional(Type.String({ pattern: `^[0-9]{1,${digitsMax}}$`, description }));
}

const groupName = Type.String({ minLength: 1, maxLength: NAME_CHARS_MAX });
const groupDescription = optionalText({ maxLength: DESCRIPTION_CHARS_MAX });

/** `POST /v2/groups`. */
export const GroupBody = open({ name: groupName, description: groupDescription });
/** Body of a new group. */
export type GroupBody = Static<typeof GroupBody>;

/** `PUT /v2/groups/{id}`. */
export const GroupUpdateBody = open({
  name: Type.Optional(groupName),
  description: groupDescription,
});
/** Body of a changed group. */
export type GroupUpdateBody = Static<typeof GroupUpdateBody>;

/** `GET /v2/groups/my_groups`. */
export const MyGroupsQuery = Type.Object({
  statuses: Type.Optional(
    Type.String({ description: 'Comma-separated; every membership here is active.' }),
  ),
});
/** Query of the caller's groups. */
export type MyGroupsQuery = Static<typeof MyGroupsQuery>;

/** `GET /v2/groups/{id}`. */
export const GroupQuery = Type.Object({
  include: Type.Optional(
    Type.String({
      description:
        'Comma-separated: memberships, my_memberships, policies, allowed_actions, child_ids',
    }),
  ),
});
/** Query of a group. */
export type GroupQuery = Static<typeof GroupQuery>;

const subjects = Type.Optional(
  Type.Array(open({ identity_id: Type.String(), role: Type.Optional(oneOf(GROUP_ROLES)) }), {
    maxItems: ACTIONS_MAX,
  }),
);

/** Actions that a group here knows. */
export const KNOWN_ACTIONS = ['add', 'remove', 'change_role', 'leave'] as const;
/** Actions of Globus Groups that need invitations or requests, which a group here does not have. */
export const OTHER_ACTIONS = [
  'invite',
  'accept',
  'decline',
  'join',
  'request_join',
  'approve',
  'reject',
] as const;

/** `POST /v2/groups/{id}`: a batch of membership actions. */
export const MembershipActionsBody = open({
  add: subjects,
  remove: subjects,
  change_role: subjects,
  leave: subjects,
  invite: subjects,
  accept: subjects,
  decline: subjects,
  join: subjects,
  request_join: subjects,
  approve: subjects,
  reject: subjects,
});
/** Body of membership actions. */
export type MembershipActionsBody = Static<typeof MembershipActionsBody>;

/** `POST /v1/{kind}/{id}/share` and `.../unshare`. */
export const SharingBody = open({
  group: optionalText(),
  groups: optionalTexts({ maxItems: GROUPS_MAX, format: 'uuid' }),
  public: optionalFlag(),
});
/** Body of a change of sharing. */
export type SharingBody = Static<typeof SharingBody>;

/** `GET /v1/functions/search`. */
export const FunctionSearchQuery = Type.Object({
  q: Type.Optional(
    Type.String({ maxLength: 1000, description: 'Words; the last one may be just begun.' }),
  ),
  offset: queryNumber(5, 'How many of the best to skip [0].'),
  limit: queryNumber(5, 'How many to return, 100 at most [10].'),
  role: Type.Optional(oneOf(['owner', 'any'])),
});
/** Query of a search. */
export type FunctionSearchQuery = Static<typeof FunctionSearchQuery>;

/** `POST /v1/environments` and `POST /v2/containers`. */
export const EnvironmentBody = open({
  location: Type.String({ minLength: 1, maxLength: DESCRIPTION_CHARS_MAX }),
  type: Type.String({
    minLength: 1,
    maxLength: NAME_CHARS_MAX,
    description: ENVIRONMENT_TYPES.join(', '),
  }),
  name: optionalText({ maxLength: NAME_CHARS_MAX }),
  description: optionalText({ maxLength: DESCRIPTION_CHARS_MAX }),
  public: optionalFlag(),
  group: optionalText(),
});
/** Body of an environment. */
export type EnvironmentBody = Static<typeof EnvironmentBody>;

/** Path of a container in the shape of older SDKs. */
export const ContainerParams = Type.Object({ id: Uuid, type: Type.String() });

/** `GET /v1/endpoints/{id}/tasks`. */
export const EndpointTasksQuery = Type.Object({
  limit: queryNumber(4, 'How many to return, 1000 at most [100].'),
});
/** Query of an endpoint's tasks. */
export type EndpointTasksQuery = Static<typeof EndpointTasksQuery>;

const Membership = open({
  group_id: Uuid,
  identity_id: Type.String(),
  username: Type.String(),
  role: oneOf(GROUP_ROLES),
  status: Type.String(),
});

const Environment = open({
  environment_id: Uuid,
  type: oneOf(ENVIRONMENT_TYPES),
  location: Type.String(),
  name: Type.String(),
});

/** What these routes answer, by name. */
export const SharingResponses = {
  group: open({ id: Uuid, name: Type.String() }),
  groups: Type.Array(
    open({ id: Uuid, name: Type.String(), my_memberships: Type.Array(Membership) }),
  ),
  membershipActions: open({ errors: Type.Optional(open({})) }),
  policies: open({ join_requests: Type.Boolean() }),
  sharing: open({
    id: Uuid,
    owner: Uuid,
    public: Type.Boolean(),
    groups: Type.Array(open({ id: Uuid, name: Type.String() })),
  }),
  functionSearch: open({
    q: Type.String(),
    offset: Type.Integer(),
    limit: Type.Integer(),
    count: Type.Integer(),
    total: Type.Integer(),
    has_next_page: Type.Boolean(),
    results: Type.Array(open({ function_uuid: Uuid, function_name: Type.String() })),
  }),
  environmentRegistered: open({ environment_id: Uuid }),
  containerRegistered: open({ container_id: Uuid }),
  container: open({ container: open({ container_uuid: Uuid, type: Type.String() }) }),
  environment: Environment,
  environments: Type.Array(Environment),
  endpointTasks: open({
    endpoint_id: Uuid,
    tasks: Type.Array(open({ task_id: Uuid, owner: Uuid, status: Type.String() })),
  }),
};

/** The part of the hub's REST API about groups, sharing, search and environments. */
import type {
  EnvironmentDocument,
  EnvironmentRegistration,
  FunctionSearchDocument,
  GroupDocument,
  GroupRole,
  SharedKind,
  SharingChange,
  SharingDocument,
} from '../protocol/sharing.ts';
import type { JsonReply } from '../transport/http/json-client.ts';
import type { HubClient, HubRequest } from './hub-client.ts';
import { readObject, requireList, requireObject, requireText } from './hub-replies.ts';

/** What a hub takes in one request. */
const IDENTITIES_PER_CALL = 100;
const ACTIONS_PER_CALL = 200;

/** What can be asked of a search; `role: 'owner'` finds only what is yours. */
export interface FunctionSearch {
  readonly query: string;
  readonly offset?: number;
  readonly limit?: number;
  readonly role?: 'owner' | 'any';
}

/** A membership that was not changed, and why. */
export interface MembershipRefusal {
  readonly identity_id: string;
  readonly code: string;
  readonly detail: string;
}

const id = encodeURIComponent;

/** Groups, sharing, search and environments at one hub. */
export class SharingClient {
  readonly #hub: HubClient;

  constructor(hub: HubClient) {
    this.#hub = hub;
  }

  /** One page of the functions that you may use and the words describe, the best first. */
  async searchFunctions(
    { query: q, offset, limit, role }: FunctionSearch,
    signal?: AbortSignal,
  ): Promise<FunctionSearchDocument> {
    const what = 'searching for functions';
    const query = {
      q,
      offset: offset?.toString(),
      limit: limit?.toString(),
      role,
    };
    const reply = await this.#get(what, '/v1/functions/search', query, signal);
    requireField(what, reply, 'results');
    return reply.body as FunctionSearchDocument;
  }

  /** Who may use a thing of yours. */
  async sharing(kind: SharedKind, thingId: string): Promise<SharingDocument> {
    const what = `asking who may use ${kind}/${thingId}`;
    const reply = await this.#get(what, `/v1/${kind}/${id(thingId)}/sharing`);
    requireText(what, reply, 'owner');
    return reply.body as SharingDocument;
  }

  /** Shares a thing of yours with more, or takes it back from some. Returns who may use it now. */
  async changeSharing(
    action: 'share' | 'unshare',
    kind: SharedKind,
    thingId: string,
    change: SharingChange,
  ): Promise<SharingDocument> {
    const what = `${action === 'share' ? 'sharing' : 'unsharing'} ${kind}/${thingId}`;
    const path = `/v1/${kind}/${id(thingId)}/${action}`;
    const reply = await this.#send(what, 'POST', path, change);
    requireText(what, reply, 'owner');
    return reply.body as SharingDocument;
  }

  /** Groups that you are in. */
  async groups(): Promise<readonly GroupDocument[]> {
    const what = 'asking for your groups';
    return requireList(
      what,
      await this.#get(what, '/v2/groups/my_groups'),
    ) as readonly GroupDocument[];
  }

  /** A group that you are in, with its members. */
  async group(groupId: string): Promise<GroupDocument> {
    const what = `asking for group ${groupId}`;
    const query = { include: 'memberships,my_memberships' };
    const reply = await this.#get(what, `/v2/groups/${id(groupId)}`, query);
    requireText(what, reply, 'id');
    return reply.body as GroupDocument;
  }

  /** Makes a group, whose admin you are. Not retried after an ambiguous failure: it could leave a second one behind. */
  async createGroup(name: string, description?: string): Promise<GroupDocument> {
    const what = `creating group "${name}"`;
    const body = { name, ...(description === undefined ? {} : { description }) };
    const reply = await this.#hub.request({
      what,
      method: 'POST',
      path: '/v2/groups',
      body,
      idempotent: false,
    });
    requireText(what, reply, 'id');
    return reply.body as GroupDocument;
  }

  /** Deletes a group; nothing is shared with it any more. */
  async deleteGroup(groupId: string): Promise<void> {
    await this.#send(`deleting group ${groupId}`, 'DELETE', `/v2/groups/${id(groupId)}`);
  }

  /** Adds members to a group, or removes some; returns those that the hub refused. */
  async changeMembers(
    action: 'add' | 'remove' | 'change_role' | 'leave',
    groupId: string,
    identityIds: readonly string[],
    role?: GroupRole,
  ): Promise<readonly MembershipRefusal[]> {
    const what = `changing the members of group ${groupId}`;
    const members = identityIds.map((identityId) => ({
      identity_id: identityId,
      ...(role === undefined ? {} : { role }),
    }));
    const path = `/v2/groups/${id(groupId)}`;
    const refusals: MembershipRefusal[] = [];
    for (const some of portions(members, ACTIONS_PER_CALL)) {
      const reply = await this.#send(what, 'POST', path, { [action]: some });
      const { errors } = readObject(what, reply);
      const refused = errors === undefined ? [] : requireObject(what, reply, 'errors')[action];
      refusals.push(...((refused ?? []) as readonly MembershipRefusal[]));
    }
    return refusals;
  }

  /** Identities by username; those that the hub does not know are absent. */
  async identities(
    usernames: readonly string[],
  ): Promise<readonly { readonly id: string; readonly username: string }[]> {
    const what = 'asking for identities';
    const found: { id: string; username: string }[] = [];
    for (const some of portions(usernames, IDENTITIES_PER_CALL)) {
      const reply = await this.#get(what, '/v2/api/identities', { usernames: some.join(',') });
      const list = requireField(what, reply, 'identities');
      found.push(...(list as readonly { id: string; username: string }[]));
    }
    return found;
  }

  /** Registers an environment and returns its id. Retried: a second registration leaves an unused one and nothing else. */
  async registerEnvironment(environment: EnvironmentRegistration): Promise<string> {
    const what = `registering environment ${environment.location}`;
    const reply = await this.#send(what, 'POST', '/v1/environments', environment);
    return requireText(what, reply, 'environment_id');
  }

  /** Environments that you may use. */
  async environments(): Promise<readonly EnvironmentDocument[]> {
    const what = 'listing environments';
    return requireList(
      what,
      await this.#get(what, '/v1/environments'),
    ) as readonly EnvironmentDocument[];
  }

  /** An environment that you may use. */
  async environment(environmentId: string): Promise<EnvironmentDocument> {
    const what = `asking for environment ${environmentId}`;
    const reply = await this.#get(what, `/v1/environments/${id(environmentId)}`);
    requireText(what, reply, 'location');
    return reply.body as EnvironmentDocument;
  }

  /** Deletes an environment of yours; functions that name it can no longer be submitted. */
  async deleteEnvironment(environmentId: string): Promise<void> {
    const what = `deleting environment ${environmentId}`;
    await this.#send(what, 'DELETE', `/v1/environments/${id(environmentId)}`);
  }

  async #get(
    what: string,
    path: string,
    query: HubRequest['query'] = {},
    signal?: AbortSignal,
  ): Promise<JsonReply> {
    return await this.#hub.request({
      what,
      method: 'GET',
      path,
      query,
      idempotent: true,
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** For changes that may be repeated. */
  async #send(
    what: string,
    method: 'POST' | 'DELETE',
    path: string,
    body?: unknown,
  ): Promise<JsonReply> {
    const request = { what, method, path, idempotent: true };
    return await this.#hub.request(body === undefined ? request : { ...request, body });
  }
}

function portions<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );
}

/** The list at a field of the body. @throws ProtocolError RESPONSE_INVALID. */
function requireField(what: string, reply: JsonReply, field: string): readonly unknown[] {
  const list = readObject(what, reply)[field];
  return requireList(`${what}: "${field}"`, { ...reply, body: list });
}

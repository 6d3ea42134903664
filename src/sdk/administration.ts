/**
 * What is at the hub, looked at and changed: functions, endpoints, groups, environments, and whom they are shared with. The
 * part of the client that runs nothing. Documents are those of the hub, in its own spelling.
 */
import { ConflictError, UsageError } from '../base/errors.ts';
import type { EndpointListing, HubClient } from '../client/hub-client.ts';
import { SharingClient } from '../client/sharing-client.ts';
import type { EndpointStatus } from '../protocol/rest.ts';
import type {
  EnvironmentDocument,
  EnvironmentType,
  FunctionSearchDocument,
  GroupDocument,
  GroupRole,
  SharedKind,
  SharingDocument,
} from '../protocol/sharing.ts';
import type { CallOptions } from './client-options.ts';
import { RegisteredFunction } from './registered-function.ts';
import type { FunctionReference } from './registered-function.ts';

/** One page of a search. */
export interface SearchOptions extends CallOptions {
  /** How many of the best to leave out. Default 0. */
  readonly offset?: number;
  /** How many to return, 100 at most. Default 10. */
  readonly limit?: number;
}

/** With whom something is shared, or no longer. */
export interface SharingOptions {
  /** A group, or several. You must be in them. */
  readonly group?: string | readonly string[];
  /** Everybody at the hub. */
  readonly public?: boolean;
}

/** What can be changed of an endpoint from afar; the rest is its agent's to say. */
export interface EndpointUpdate {
  readonly displayName?: string;
  /** Functions that may run there; the others are refused. */
  readonly allowedFunctions?: readonly FunctionReference[];
}

/** Functions that may run on an endpoint. */
export interface AllowedFunctions {
  readonly endpoint_id: string;
  /** Whether only those listed may. */
  readonly restricted: boolean;
  readonly functions?: readonly string[];
}

/** Administration of what is at a hub. */
export abstract class Administration {
  readonly #hub: HubClient;
  readonly #sharing: SharingClient;

  protected constructor(hub: HubClient) {
    this.#hub = hub;
    this.#sharing = new SharingClient(hub);
  }

  /** Functions that you may run and the words describe, the best first: your own, those shared with you, public ones. */
  async searchFunction(
    query: string,
    { signal, ...page }: SearchOptions = {},
  ): Promise<FunctionSearchDocument> {
    return await this.#sharing.searchFunctions({ query, ...page }, signal);
  }

  /** Functions of yours, the newest first. */
  async getFunctions({ signal, ...page }: SearchOptions = {}): Promise<FunctionSearchDocument> {
    return await this.#sharing.searchFunctions({ query: '', ...page, role: 'owner' }, signal);
  }

  /** The document of a function, with its code as it was registered. */
  async getFunction(fn: FunctionReference): Promise<Record<string, unknown>> {
    return await this.#hub.getFunction(idOf(fn));
  }

  /** Removes a function. Tasks that were submitted before run all the same. */
  async deleteFunction(fn: FunctionReference): Promise<void> {
    await this.#hub.deleteFunction(idOf(fn));
  }

  /** Lets a group, or everybody, run a function of yours. Returns who may run it now. */
  async shareFunction(fn: FunctionReference, options: SharingOptions): Promise<SharingDocument> {
    return await this.#share('share', 'functions', idOf(fn), options);
  }

  /** Takes a function of yours back from a group, or from everybody. */
  async unshareFunction(fn: FunctionReference, options: SharingOptions): Promise<SharingDocument> {
    return await this.#share('unshare', 'functions', idOf(fn), options);
  }

  /** Who may run a function of yours. */
  async getFunctionSharing(fn: FunctionReference): Promise<SharingDocument> {
    return await this.#sharing.sharing('functions', idOf(fn));
  }

  /** Endpoints that are yours (`owner`, the default) or that you may use (`any`). */
  async getEndpoints(role?: 'owner' | 'any'): Promise<readonly EndpointListing[]> {
    return await this.#hub.listEndpoints(role);
  }

  /** Whether an endpoint is online, with the figures of its last heartbeat. */
  async getEndpointStatus(endpointId: string, options: CallOptions = {}): Promise<EndpointStatus> {
    return await this.#hub.endpointStatus(endpointId, options.signal);
  }

  /** What an endpoint said about itself when it registered, and its name. */
  async getEndpointMetadata(endpointId: string): Promise<Record<string, unknown>> {
    return await this.#hub.endpoint(endpointId);
  }

  /** Which functions may run on an endpoint. */
  async getAllowedFunctions(endpointId: string): Promise<AllowedFunctions> {
    const reply = await this.#hub.request({
      what: `asking which functions endpoint ${endpointId} allows`,
      method: 'GET',
      path: `/v3/endpoints/${encodeURIComponent(endpointId)}/allowed_functions`,
      idempotent: true,
    });
    return reply.body as AllowedFunctions;
  }

  /** Changes an endpoint of yours. */
  async updateEndpoint(endpointId: string, update: EndpointUpdate): Promise<void> {
    const { displayName, allowedFunctions } = update;
    await this.#hub.request({
      what: `changing endpoint ${endpointId}`,
      method: 'PUT',
      path: `/v3/endpoints/${encodeURIComponent(endpointId)}`,
      body: {
        ...(displayName === undefined ? {} : { display_name: displayName }),
        ...(allowedFunctions === undefined
          ? {}
          : { allowed_functions: allowedFunctions.map((fn) => idOf(fn)) }),
      },
      idempotent: true,
    });
  }

  /** Stops an endpoint from afar: closes its connections and refuses its registration for a moment. */
  async stopEndpoint(endpointId: string): Promise<void> {
    await this.#hub.lockEndpoint(endpointId);
  }

  /** Removes an endpoint from the hub. What it has not ended fails by name. */
  async deleteEndpoint(endpointId: string): Promise<void> {
    await this.#hub.deleteEndpoint(endpointId);
  }

  /** Lets a group, or everybody, use an endpoint of yours; its agent must keep functions away from its own files. */
  async shareEndpoint(endpointId: string, options: SharingOptions): Promise<SharingDocument> {
    return await this.#share('share', 'endpoints', endpointId, options);
  }

  /** Takes an endpoint of yours back from a group, or from everybody. */
  async unshareEndpoint(endpointId: string, options: SharingOptions): Promise<SharingDocument> {
    return await this.#share('unshare', 'endpoints', endpointId, options);
  }

  /** Who may use an endpoint of yours. */
  async getEndpointSharing(endpointId: string): Promise<SharingDocument> {
    return await this.#sharing.sharing('endpoints', endpointId);
  }

  /**
   * Registers an environment for functions to run in, and returns its id, which `registerFunction` takes as `container`. The
   * location is what the endpoint's site understands: an image, a directory, names of modules.
   */
  async registerContainer(
    location: string,
    type: EnvironmentType,
    name = '',
    description = '',
    sharing: { readonly group?: string; readonly public?: boolean } = {},
  ): Promise<string> {
    return await this.#sharing.registerEnvironment({
      location,
      type,
      ...(name === '' ? {} : { name }),
      ...(description === '' ? {} : { description }),
      ...sharing,
    });
  }

  /** Environments that you may use. */
  async getContainers(): Promise<readonly EnvironmentDocument[]> {
    return await this.#sharing.environments();
  }

  /** An environment that you may use. */
  async getContainer(containerId: string): Promise<EnvironmentDocument> {
    return await this.#sharing.environment(containerId);
  }

  /** Deletes an environment of yours; functions that name it can no longer be submitted. */
  async deleteContainer(containerId: string): Promise<void> {
    await this.#sharing.deleteEnvironment(containerId);
  }

  /** Makes a group, whose admin you are. */
  async createGroup(name: string, description?: string): Promise<GroupDocument> {
    return await this.#sharing.createGroup(name, description);
  }

  /** Groups that you are in. */
  async getGroups(): Promise<readonly GroupDocument[]> {
    return await this.#sharing.groups();
  }

  /** A group that you are in, with its members. */
  async getGroup(groupId: string): Promise<GroupDocument> {
    return await this.#sharing.group(groupId);
  }

  /** Deletes a group of yours; nothing is shared with it any more. */
  async deleteGroup(groupId: string): Promise<void> {
    await this.#sharing.deleteGroup(groupId);
  }

  /** Adds people and programs to a group, by identity id or username. @throws ConflictError when some were refused. */
  async addGroupMembers(
    groupId: string,
    members: readonly string[],
    role: GroupRole = 'member',
  ): Promise<void> {
    const ids = await this.#identityIds(members);
    refuseRefusals(groupId, await this.#sharing.changeMembers('add', groupId, ids, role));
  }

  /** Removes people and programs from a group. @throws ConflictError when some were refused. */
  async removeGroupMembers(groupId: string, members: readonly string[]): Promise<void> {
    const ids = await this.#identityIds(members);
    refuseRefusals(groupId, await this.#sharing.changeMembers('remove', groupId, ids));
  }

  async #share(
    action: 'share' | 'unshare',
    kind: SharedKind,
    id: string,
    { group = [], public: isPublic }: SharingOptions,
  ): Promise<SharingDocument> {
    const groups = typeof group === 'string' ? [group] : group;
    if (groups.length === 0 && isPublic !== true) {
      throw new UsageError(`${action} with whom? Say { group: "…" } or { public: true }`);
    }
    return await this.#sharing.changeSharing(action, kind, id, {
      groups,
      ...(isPublic === true ? { public: true } : {}),
    });
  }

  async #identityIds(members: readonly string[]): Promise<string[]> {
    const usernames = members.filter((member) => !UUID.test(member));
    const known = usernames.length === 0 ? [] : await this.#sharing.identities(usernames);
    const idByName = new Map(known.map(({ id, username }) => [username, id]));
    const unknown = usernames.filter((username) => !idByName.has(username));
    if (unknown.length > 0) {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `the hub knows nobody by the name of ${unknown.join(', ')}. \`agent whoami\` tells people their username and id.`,
      );
    }
    return members.map((member) => idByName.get(member) ?? member);
  }
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The id of a function by its handle or id. */
function idOf(fn: FunctionReference): string {
  return fn instanceof RegisteredFunction ? fn.id : fn;
}

/** @throws ConflictError when something was refused. */
function refuseRefusals(
  groupId: string,
  refusals: Awaited<ReturnType<SharingClient['changeMembers']>>,
): void {
  if (refusals.length > 0) {
    const list = refusals.map(({ identity_id: id, detail }) => `${id} (${detail})`).join('; ');
    throw new ConflictError(
      'PRECONDITION_FAILED',
      `of the changes to group ${groupId} these were refused, and the others made: ${list}`,
      { details: { refusals } },
    );
  }
}

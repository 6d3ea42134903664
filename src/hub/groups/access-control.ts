/**
 * Who may use a thing that somebody registered: its owner, the members of the groups that it is shared with, everybody when it is public.
 *
 * A refusal says who the caller is, whose the thing is and whom to ask: ids are random and travel from hand to hand, so who has one was
 * given it and is helped by an answer. Nobody finds the id of a private thing by listing or searching. Only the owner sees the list of
 * groups; a refusal names those that the thing is shared with, because joining one of them is what helps.
 */
import type { Kysely } from 'kysely';

import type { Caller } from '../auth/caller.ts';
import { IdentityDirectory } from '../auth/identities.ts';
import type { HubDatabase } from '../db/schema.ts';
import { HubError } from '../hub-error.ts';
import type { Freshness, Memberships } from './memberships.ts';

/** What a decision needs. */
export interface Sharing {
  readonly ownerId: string;
  readonly isPublic: boolean;
  /** Ids of groups. */
  readonly sharedWith: readonly string[];
}

/** A thing that somebody asked for. */
export interface Thing extends Sharing {
  readonly kind: 'endpoint' | 'function' | 'environment';
  readonly id: string;
  /** Why its sharing counts for nothing at present. */
  readonly suspended?: string;
}

const REFUSAL_CODES = {
  endpoint: 'ENDPOINT_ACCESS_FORBIDDEN',
  function: 'FUNCTION_ACCESS_FORBIDDEN',
  environment: 'CONTAINER_ACCESS_FORBIDDEN',
} as const;

/** Names in one refusal. */
const GROUPS_NAMED_MAX = 5;

/** Decides, and says why not. */
export class AccessControl {
  readonly memberships: Memberships;
  readonly #db: Kysely<HubDatabase>;
  readonly #identities: IdentityDirectory;

  constructor(db: Kysely<HubDatabase>, memberships: Memberships) {
    this.#db = db;
    this.memberships = memberships;
    this.#identities = new IdentityDirectory(db);
  }

  /** Whether the caller may use a thing. */
  async allows(
    caller: Caller,
    { ownerId, isPublic, sharedWith }: Sharing,
    freshness: Freshness = 'remembered',
  ): Promise<boolean> {
    if (ownerId === caller.id || isPublic) {
      return true;
    }
    if (sharedWith.length === 0) {
      return false;
    }
    const groups = await this.memberships.of(caller, freshness);
    return sharedWith.some((group) => groups.has(group));
  }

  /** The same for a thing that was just read: the database is asked for memberships only when those remembered do not do (M1, M2). */
  async admits(caller: Caller, sharing: Sharing): Promise<boolean> {
    return (await this.allows(caller, sharing)) || (await this.allows(caller, sharing, 'now'));
  }

  /** The answer to who may not use a thing. */
  async refusal(caller: Caller, thing: Thing): Promise<HubError> {
    const owner = await this.usernameOf(thing.ownerId);
    const shared = await this.groupNames(thing.sharedWith);
    const names = shared.slice(0, GROUPS_NAMED_MAX).map(({ name }) => `"${name}"`);
    const more = shared.length > names.length ? ` and ${shared.length - names.length} more` : '';
    const groups = `${names.length === 1 ? 'the group' : 'the groups'} ${names.join(', ')}${more}`;
    const [sharing, advice] =
      thing.suspended !== undefined
        ? [thing.suspended, `ask ${owner} to change that`]
        : names.length === 0
          ? ['shared with nobody', `ask ${owner} to share it with you`]
          : [
              `shared with ${groups}`,
              `ask ${owner}, or whoever manages such a group, to let you in`,
            ];
    return new HubError(
      403,
      REFUSAL_CODES[thing.kind],
      `Unauthorized access to ${thing.kind} ${thing.id}: you are ${callerText(caller)}; it is owned by ${owner} and ${sharing}: ${advice}`,
    );
  }

  /** The answer to who wants to change what belongs to somebody else. */
  async ownersOnly(
    caller: Caller,
    thing: Pick<Thing, 'kind' | 'id' | 'ownerId'>,
  ): Promise<HubError> {
    const owner = await this.usernameOf(thing.ownerId);
    return new HubError(
      403,
      REFUSAL_CODES[thing.kind],
      `Unauthorized access to ${thing.kind} ${thing.id}: you are ${callerText(caller)}; only its owner ${owner} may do this`,
    );
  }

  /**
   * The group, when the caller is in it: a thing is shared with groups that its owner belongs to.
   *
   * @throws HubError 404 also for a group of others, whose existence is nobody's business.
   */
  async requireMember(caller: Caller, groupId: string): Promise<void> {
    const isMember =
      (await this.memberships.of(caller)).has(groupId) ||
      (await this.memberships.of(caller, 'now')).has(groupId);
    if (!isMember) {
      throw groupNotFound(groupId, caller);
    }
  }

  /** Names of groups, in the order of their names. */
  async groupNames(ids: readonly string[]): Promise<{ id: string; name: string }[]> {
    return ids.length === 0
      ? []
      : await this.#db
          .selectFrom('groups')
          .select(['id', 'name'])
          .where('id', 'in', ids)
          .orderBy('name')
          .execute();
  }

  /** A name for people, whatever became of who had the id. */
  async usernameOf(identityId: string): Promise<string> {
    const [identity] = await this.#identities.find([identityId]);
    if (identity === undefined) {
      return `${identityId} (who no longer exists)`;
    }
    return identity.kind === 'client'
      ? `${identity.name} (client ${identityId})`
      : identity.username;
  }
}

function callerText({ id, kind, name, username }: Caller): string {
  return kind === 'client' ? `${name} (client ${id})` : username;
}

/** The answer for a group that does not exist or that the caller is not in. */
export function groupNotFound(groupId: string, caller: Caller): HubError {
  return new HubError(
    404,
    'AUTH_GROUP_NOT_FOUND',
    `Group ${groupId} could not be found among the groups of ${callerText(caller)}; see GET /v2/groups/my_groups, or ask one of its managers to add you`,
  );
}

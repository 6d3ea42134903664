/**
 * Which groups a caller is in: those that have the caller as a member, and those that an issuer's token names.
 *
 * M1 What is remembered belongs to one token and is at most MEMBERSHIP_TTL_MS old: that is how long somebody who left a group, or was
 *    removed through another hub process, may go on. A change through this process counts at once.
 * M2 Nobody is refused because of what is remembered: before a refusal the database is asked again (`now`), so that a new member
 *    need not wait.
 */
import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import type { Caller } from '../auth/caller.ts';
import { BoundedCache } from '../bounded-cache.ts';
import type { HubDatabase } from '../db/schema.ts';

/** How long a membership may be remembered, in milliseconds. */
export const MEMBERSHIP_TTL_MS = 30_000;

/** Sum of groups, and of callers, that are remembered. */
const REMEMBERED_MAX = 50_000;

/** How new an answer must be. */
export type Freshness = 'remembered' | 'now';

/** Whose memberships are asked for. */
export type GroupCaller = Pick<Caller, 'id' | 'tokenKey' | 'issuer' | 'groupsFromClaim'>;

/** Ids of groups by caller. */
export class Memberships {
  readonly #db: Kysely<HubDatabase>;
  readonly #remembered: BoundedCache<ReadonlySet<string>>;

  constructor(db: Kysely<HubDatabase>, clock: Clock) {
    this.#db = db;
    this.#remembered = new BoundedCache({
      clock,
      ttlMs: MEMBERSHIP_TTL_MS,
      weightMax: REMEMBERED_MAX,
      weigh: (groups) => groups.size + 1,
    });
  }

  /** Ids of the groups that the caller is in. */
  async of(caller: GroupCaller, freshness: Freshness = 'remembered'): Promise<ReadonlySet<string>> {
    const remembered =
      freshness === 'remembered' ? this.#remembered.get(caller.tokenKey) : undefined;
    if (remembered !== undefined) {
      return remembered;
    }
    return await this.#remembered.read(
      caller.tokenKey,
      async () => new Set(await this.#read(caller)),
    );
  }

  /** Forgets everything, after a change. */
  forget(): void {
    this.#remembered.clear();
  }

  async #read({ id, issuer, groupsFromClaim }: GroupCaller): Promise<string[]> {
    const own = this.#db
      .selectFrom('group_members')
      .select('group_id as id')
      .where('identity_id', '=', id);
    if (issuer === null || groupsFromClaim.length === 0) {
      return (await own.execute()).map((row) => row.id);
    }
    const rows = await own
      .union(
        this.#db
          .selectFrom('groups')
          .select('id')
          .where('claim_issuer', '=', issuer)
          .where('claim_name', 'in', groupsFromClaim),
      )
      .execute();
    return rows.map((row) => row.id);
  }
}

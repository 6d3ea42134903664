/**
 * Access tokens: opaque, 32 random bytes, stored as their SHA-256.
 *
 * A token that was found is remembered for 30 seconds, so that a call does not cost a query; that is also how long
 * a token that was revoked through another hub process, or whose client was deleted, may still be taken.
 */
import { createHash, randomBytes } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import { invariant } from '../../base/errors.ts';
import type { TokenResponse } from '../../protocol/rest.ts';
import { BoundedCache } from '../bounded-cache.ts';
import type { HubDatabase } from '../db/schema.ts';
import type { Caller } from './caller.ts';
import type { ScopeGroup } from './scopes.ts';

/** Life of a token, in seconds. The Globus SDK renews a minute before the end. */
export const TOKEN_LIFETIME_S = 48 * 3600;

const FOUND_TTL_MS = 30_000;
const FOUND_MAX = 10_000;

type Token = Omit<TokenResponse, 'other_tokens'>;

interface FoundToken {
  readonly caller: Caller;
  readonly expiresAtMs: number;
}

/** What introspection tells of a live token. */
export interface TokenDescription {
  readonly clientId: string;
  readonly name: string;
  readonly scope: string;
  readonly resourceServer: string;
  readonly expiresAtS: number;
}

/** Issues and recognises tokens. */
export class AccessTokens {
  readonly #db: Kysely<HubDatabase>;
  readonly #clock: Clock;
  readonly #found: BoundedCache<FoundToken>;

  constructor(db: Kysely<HubDatabase>, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
    this.#found = new BoundedCache({ clock, ttlMs: FOUND_TTL_MS, weightMax: FOUND_MAX });
  }

  /** Issues one token per group, in their order. */
  async issue(
    clientId: string,
    groups: readonly [ScopeGroup, ...ScopeGroup[]],
  ): Promise<TokenResponse> {
    const issued = groups.map((group) => ({
      token: randomBytes(32).toString('base64url'),
      scope: group.scopes.join(' '),
      resourceServer: group.resourceServer,
    }));
    await this.#db
      .insertInto('access_tokens')
      .values(
        issued.map(({ token, scope, resourceServer }) => ({
          token_hash: hashOf(token),
          client_id: clientId,
          scope,
          resource_server: resourceServer,
          expires_at: sql<Date>`now() + ${TOKEN_LIFETIME_S} * interval '1 second'`,
        })),
      )
      .execute();
    const [first, ...others] = issued.map(({ token, scope, resourceServer }): Token => ({
      access_token: token,
      scope,
      resource_server: resourceServer,
      expires_in: TOKEN_LIFETIME_S,
      token_type: 'Bearer',
    }));
    invariant(first !== undefined, 'a grant without a group of scopes');
    return { ...first, other_tokens: others };
  }

  /** Who presents this token; undefined when it is unknown, revoked or expired. */
  async callerOf(token: string): Promise<Caller | undefined> {
    const hash = hashOf(token);
    const key = hash.toString('base64');
    const known = this.#found.get(key);
    if (known !== undefined && known.expiresAtMs > this.#clock.now()) {
      return known.caller;
    }
    const row = await this.#live(hash);
    if (row === undefined) {
      return undefined;
    }
    const caller: Caller = {
      id: row.client_id,
      name: row.name,
      endpointOnly: row.endpoint_only,
      scopes: new Set(row.scope.split(' ')),
    };
    this.#found.set(key, { caller, expiresAtMs: row.expires_at.getTime() });
    return caller;
  }

  /** Tells what a live token is good for. */
  async describe(token: string): Promise<TokenDescription | undefined> {
    const row = await this.#live(hashOf(token));
    return row === undefined
      ? undefined
      : {
          clientId: row.client_id,
          name: row.name,
          scope: row.scope,
          resourceServer: row.resource_server,
          expiresAtS: Math.floor(row.expires_at.getTime() / 1000),
        };
  }

  /** Revokes a token of this client; an unknown token is none of ours to complain about (RFC 7009, 2.2). */
  async revoke(token: string, clientId: string): Promise<void> {
    const hash = hashOf(token);
    await this.#db
      .deleteFrom('access_tokens')
      .where('token_hash', '=', hash)
      .where('client_id', '=', clientId)
      .execute();
    this.#found.delete(hash.toString('base64'));
  }

  /** Deletes expired tokens and returns their number. */
  async purgeExpired(): Promise<number> {
    const result = await this.#db
      .deleteFrom('access_tokens')
      .where('expires_at', '<', sql<Date>`now()`)
      .executeTakeFirst();
    return Number(result.numDeletedRows);
  }

  async #live(hash: Buffer) {
    return await this.#db
      .selectFrom('access_tokens')
      .innerJoin('clients', 'clients.id', 'access_tokens.client_id')
      .select([
        'access_tokens.client_id',
        'access_tokens.scope',
        'access_tokens.resource_server',
        'access_tokens.expires_at',
        'clients.name',
        'clients.endpoint_only',
      ])
      .where('token_hash', '=', hash)
      .where('expires_at', '>', sql<Date>`now()`)
      .executeTakeFirst();
  }
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

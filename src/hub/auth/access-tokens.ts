/**
 * Access tokens: opaque, 32 random bytes, stored as their SHA-256. One belongs to a client or to a login of a person.
 *
 * A token that was found is remembered for 30 seconds, so that a call does not cost a query; that is also how long
 * a token that was revoked through another hub process, or whose client was deleted or person disabled, may still be taken. Not for
 * credentials at the broker: those would go on for good.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import { invariant } from '../../base/errors.ts';
import type { TokenResponse } from '../../protocol/rest.ts';
import { BoundedCache } from '../bounded-cache.ts';
import type { HubDatabase } from '../db/schema.ts';
import { clientUsername } from './caller.ts';
import type { Caller, TokenFreshness } from './caller.ts';
import { newToken, tokenHash } from './opaque-token.ts';
import type { ScopeGroup } from './scopes.ts';

/** Life of a token, in seconds. The Globus SDK renews a minute before the end. */
export const TOKEN_LIFETIME_S = 48 * 3600;

const FOUND_TTL_MS = 30_000;
const FOUND_MAX = 10_000;

/** One token as it is handed out. */
export type IssuedToken = Omit<TokenResponse, 'other_tokens'>;

/** Whom tokens are issued to. */
export type TokenHolder = { readonly clientId: string } | { readonly loginId: string };

interface FoundToken {
  readonly caller: Caller;
  readonly expiresAtMs: number;
}

/** What introspection tells of a live token. */
export interface TokenDescription {
  readonly caller: Caller;
  /** The client, or the application that the person signed in with. */
  readonly clientId: string;
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

  /** Issues one token per group, in their order; `db` is the transaction that it is part of. */
  async issue(
    holder: TokenHolder,
    groups: readonly [ScopeGroup, ...ScopeGroup[]],
    db: Kysely<HubDatabase> = this.#db,
  ): Promise<[IssuedToken, ...IssuedToken[]]> {
    const [first, ...others] = groups.map(({ scopes, resourceServer }): IssuedToken => ({
      access_token: newToken(),
      scope: scopes.join(' '),
      resource_server: resourceServer,
      expires_in: TOKEN_LIFETIME_S,
      token_type: 'Bearer',
    }));
    invariant(first !== undefined, 'a grant without a group of scopes');
    const issued: [IssuedToken, ...IssuedToken[]] = [first, ...others];
    await db
      .insertInto('access_tokens')
      .values(
        issued.map(({ access_token: token, scope, resource_server: resourceServer }) => ({
          token_hash: tokenHash(token),
          client_id: 'clientId' in holder ? holder.clientId : null,
          login_id: 'loginId' in holder ? holder.loginId : null,
          scope,
          resource_server: resourceServer,
          expires_at: sql<Date>`now() + ${TOKEN_LIFETIME_S} * interval '1 second'`,
        })),
      )
      .execute();
    return issued;
  }

  /** Who presents this token; undefined when it is unknown, revoked or expired. */
  async callerOf(
    token: string,
    freshness: TokenFreshness = 'remembered',
  ): Promise<Caller | undefined> {
    const hash = tokenHash(token);
    const key = hash.toString('base64');
    const known = freshness === 'remembered' ? this.#found.get(key) : undefined;
    if (known !== undefined && known.expiresAtMs > this.#clock.now()) {
      return known.caller;
    }
    const found = await this.#found.read(key, async () => {
      const row = await this.#live(hash);
      return row && { caller: toCaller(row, key), expiresAtMs: row.expires_at.getTime() };
    });
    return found?.caller;
  }

  /** Tells what a live token is good for. */
  async describe(token: string): Promise<TokenDescription | undefined> {
    const hash = tokenHash(token);
    const row = await this.#live(hash);
    return row === undefined
      ? undefined
      : {
          caller: toCaller(row, hash.toString('base64')),
          clientId: row.client_id ?? row.app_id ?? '',
          resourceServer: row.resource_server,
          expiresAtS: Math.floor(row.expires_at.getTime() / 1000),
        };
  }

  /** Revokes a token of this client or application; an unknown token is none of ours to complain about (RFC 7009, 2.2). */
  async revoke(token: string, clientId: string): Promise<void> {
    const hash = tokenHash(token);
    await this.#db
      .deleteFrom('access_tokens')
      .where('token_hash', '=', hash)
      .where((eb) =>
        eb.or([
          eb('client_id', '=', clientId),
          eb('login_id', 'in', (query) =>
            query.selectFrom('logins').select('id').where('app_id', '=', clientId),
          ),
        ]),
      )
      .execute();
    this.#found.delete(hash.toString('base64'));
  }

  /** Forgets what this process remembers of tokens, because some of them were revoked together. */
  forget(): void {
    this.#found.clear();
  }

  /** Deletes expired tokens and returns their number. */
  async purgeExpired(): Promise<number> {
    const result = await this.#db
      .deleteFrom('access_tokens')
      .where('expires_at', '<', sql<Date>`now()`)
      .executeTakeFirst();
    return Number(result.numDeletedRows);
  }

  async #live(hash: Buffer): Promise<LiveToken | undefined> {
    return await this.#db
      .selectFrom('access_tokens as token')
      .leftJoin('clients as client', 'client.id', 'token.client_id')
      .leftJoin('logins as login', 'login.id', 'token.login_id')
      .leftJoin('people as person', 'person.id', 'login.person_id')
      .select([
        'token.client_id',
        'token.scope',
        'token.resource_server',
        'token.expires_at',
        'client.name as client_name',
        'client.endpoint_only',
        'login.app_id',
        'person.id as person_id',
        'person.username',
        'person.name as person_name',
        'person.email',
        'person.issuer',
      ])
      .where('token.token_hash', '=', hash)
      .where('token.expires_at', '>', sql<Date>`now()`)
      .where((eb) => eb.or([eb('client.id', 'is not', null), eb('person.disabled', '=', false)]))
      .executeTakeFirst();
  }
}

interface LiveToken {
  readonly client_id: string | null;
  readonly scope: string;
  readonly resource_server: string;
  readonly expires_at: Date;
  readonly client_name: string | null;
  readonly endpoint_only: boolean | null;
  readonly app_id: string | null;
  readonly person_id: string | null;
  readonly username: string | null;
  readonly person_name: string | null;
  readonly email: string | null;
  readonly issuer: string | null;
}

function toCaller(row: LiveToken, tokenKey: string): Caller {
  const id = row.client_id ?? row.person_id;
  invariant(id !== null, 'an access token that belongs to nobody');
  const username = row.username ?? clientUsername(id);
  return {
    id,
    kind: row.client_id === null ? 'person' : 'client',
    name: row.client_name ?? row.person_name ?? username,
    username,
    email: row.email,
    issuer: row.issuer,
    groupsFromClaim: [],
    endpointOnly: row.endpoint_only ?? false,
    scopes: new Set(row.scope.split(' ')),
    tokenKey,
  };
}

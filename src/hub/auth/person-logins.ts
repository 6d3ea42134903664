/**
 * Logins of people: the tokens that a login yields, and how they are renewed.
 *
 * A login has one refresh token for each resource server. Using it yields the next one, and the old one is kept, marked as replaced.
 * Whoever presents a replaced one more than REUSE_LEEWAY_S later holds a copy, or the other side does: the login ends, with all of
 * its tokens. Within the leeway it is a client that did not get the answer, or two processes that share a store.
 */
import { randomUUID } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import { invariant } from '../../base/errors.ts';
import type { PersonTokenResponse } from '../../protocol/oauth.ts';
import type { HubDatabase } from '../db/schema.ts';
import type { AccessTokens, IssuedToken } from './access-tokens.ts';
import { OAuthError } from './oauth-error.ts';
import { newToken, tokenHash } from './opaque-token.ts';
import { groupScopes } from './scopes.ts';
import type { ScopeGroup } from './scopes.ts';

/** How long a refresh token waits to be used, in days: an application that is away for longer asks its person again. */
export const REFRESH_LIFETIME_DAYS = 90;

/** How long a refresh token that was replaced is still taken, in seconds. */
const REUSE_LEEWAY_S = 30;

type ScopeGroups = readonly [ScopeGroup, ...ScopeGroup[]];

/** The groups of scopes that a request named and that were checked when it was made. @throws OAuthError invalid_scope. */
export function grantedScopes(scope: string): ScopeGroups {
  const requested = groupScopes(scope);
  if ('unknown' in requested) {
    throw new OAuthError('invalid_scope', `unknown scope: ${requested.unknown.slice(0, 200)}`);
  }
  return requested.groups;
}

/** Begins, renews and ends logins. */
export class PersonLogins {
  readonly #db: Kysely<HubDatabase>;
  readonly #tokens: AccessTokens;

  constructor(db: Kysely<HubDatabase>, tokens: AccessTokens) {
    this.#db = db;
    this.#tokens = tokens;
  }

  /** Begins a login and returns its id; its tokens follow in the same transaction. */
  async begin(db: Kysely<HubDatabase>, personId: string, appId: string): Promise<string> {
    const id = randomUUID();
    await db.insertInto('logins').values({ id, person_id: personId, app_id: appId }).execute();
    return id;
  }

  /** The tokens of a login, one and a refresh token for each group. */
  async issue(
    db: Kysely<HubDatabase>,
    loginId: string,
    groups: ScopeGroups,
  ): Promise<PersonTokenResponse> {
    const [first, ...others] = await this.#tokens.issue({ loginId }, groups, db);
    const refresh = [first, ...others].map((token) => ({ token, secret: newToken() }));
    await db
      .insertInto('refresh_tokens')
      .values(
        refresh.map(({ token, secret }) => ({
          token_hash: tokenHash(secret),
          login_id: loginId,
          scope: token.scope,
          resource_server: token.resource_server,
          expires_at: sql<Date>`now() + ${REFRESH_LIFETIME_DAYS} * interval '1 day'`,
        })),
      )
      .execute();
    const withRefresh = (token: IssuedToken, index: number) => {
      const secret = refresh[index]?.secret;
      invariant(secret !== undefined, 'a token without its refresh token');
      return { ...token, refresh_token: secret };
    };
    return {
      ...withRefresh(first, 0),
      other_tokens: others.map((token, index) => withRefresh(token, index + 1)),
    };
  }

  /** Renews one token of a login. @throws OAuthError invalid_grant, also when the token was used before: then the login is over. */
  async refresh(refreshToken: string, appId: string): Promise<PersonTokenResponse> {
    const outcome = await this.#db.transaction().execute(async (transaction) => {
      // The login before its tokens, in the order in which whoever ends it takes them: one of the two would be shut out otherwise.
      await transaction
        .selectFrom('logins')
        .select('id')
        .where('id', '=', (query) =>
          query
            .selectFrom('refresh_tokens')
            .select('login_id')
            .where('token_hash', '=', tokenHash(refreshToken)),
        )
        .forUpdate()
        .execute();
      const row = await transaction
        .selectFrom('refresh_tokens as token')
        .innerJoin('logins as login', 'login.id', 'token.login_id')
        .innerJoin('people as person', 'person.id', 'login.person_id')
        .select([
          'token.token_hash',
          'token.login_id',
          'token.scope',
          'token.replaced_at',
          sql<boolean>`coalesce(token.replaced_at < now() - ${REUSE_LEEWAY_S} * interval '1 second', false)`.as(
            'is_reused',
          ),
        ])
        .where('token.token_hash', '=', tokenHash(refreshToken))
        .where('token.expires_at', '>', sql<Date>`now()`)
        .where('login.app_id', '=', appId)
        .where('person.disabled', '=', false)
        .forUpdate('token')
        .executeTakeFirst();
      if (row === undefined) {
        return 'unknown';
      }
      if (row.is_reused) {
        await transaction.deleteFrom('logins').where('id', '=', row.login_id).execute();
        return 'reused';
      }
      if (row.replaced_at === null) {
        await transaction
          .updateTable('refresh_tokens')
          .set({ replaced_at: sql<Date>`now()` })
          .where('token_hash', '=', row.token_hash)
          .execute();
      }
      return await this.issue(transaction, row.login_id, grantedScopes(row.scope));
    });
    if (outcome === 'reused') {
      this.#tokens.forget();
      throw new OAuthError(
        'invalid_grant',
        'the refresh token was used before: somebody has a copy, so this login was ended; sign in again',
      );
    }
    if (outcome === 'unknown') {
      throw new OAuthError(
        'invalid_grant',
        'the refresh token is unknown, expired or revoked, or the person was disabled; sign in again',
      );
    }
    return outcome;
  }

  /** Ends a login, because what only one side should hold was presented twice. */
  async end(loginId: string): Promise<void> {
    await this.#db.deleteFrom('logins').where('id', '=', loginId).execute();
    this.#tokens.forget();
  }

  /** Ends the login that a refresh token of this application belongs to; an unknown token is none. */
  async revoke(refreshToken: string, appId: string): Promise<void> {
    const ended = await this.#db
      .deleteFrom('logins')
      .where('app_id', '=', appId)
      .where('id', 'in', (query) =>
        query
          .selectFrom('refresh_tokens')
          .select('login_id')
          .where('token_hash', '=', tokenHash(refreshToken)),
      )
      .executeTakeFirst();
    if (Number(ended.numDeletedRows) > 0) {
      this.#tokens.forget();
    }
  }

  /** Deletes what expired: refresh tokens, codes, and logins that nothing is left of. */
  async purgeExpired(): Promise<void> {
    const now = sql<Date>`now()`;
    await this.#db.deleteFrom('refresh_tokens').where('expires_at', '<', now).execute();
    await this.#db.deleteFrom('device_codes').where('expires_at', '<', now).execute();
    // A code is kept for a day after its minute, to recognise one that is presented twice.
    await this.#db
      .deleteFrom('authorization_codes')
      .where('expires_at', '<', sql<Date>`now() - interval '1 day'`)
      .execute();
    await this.#db
      .deleteFrom('logins')
      .where((eb) =>
        eb.not(
          eb.exists(
            eb
              .selectFrom('refresh_tokens')
              .select('token_hash')
              .whereRef('refresh_tokens.login_id', '=', 'logins.id'),
          ),
        ),
      )
      .where('created_at', '<', sql<Date>`now() - interval '1 day'`)
      .execute();
  }
}

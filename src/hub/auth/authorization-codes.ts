/**
 * Authorization codes (RFC 6749 4.1) with PKCE (RFC 7636): what a browser carries back to the application that sent it.
 *
 * A code lives for five minutes and yields one login. One that is presented twice was copied on its way, and its login ends.
 */
import { createHash, timingSafeEqual } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { PersonTokenResponse } from '../../protocol/oauth.ts';
import type { HubDatabase } from '../db/schema.ts';
import { OAuthError } from './oauth-error.ts';
import { newToken, tokenHash } from './opaque-token.ts';
import { grantedScopes } from './person-logins.ts';
import type { PersonLogins } from './person-logins.ts';

/** How long a code waits, in seconds; who copies one by hand needs some of it. */
const LIFETIME_S = 300;

/** What an application asked for in a person's browser, checked. */
export interface AuthorizationRequest {
  readonly appId: string;
  readonly redirectUri: string;
  readonly codeChallenge: string;
  readonly scope: string;
  readonly nonce: string | null;
}

/** What an application presents. */
export interface CodeExchange {
  readonly appId: string;
  readonly code: string;
  readonly redirectUri: string;
  readonly codeVerifier: string;
}

/** Tokens of a new login, and what an id_token is made of. */
export interface NewLogin {
  readonly tokens: PersonTokenResponse;
  readonly personId: string;
  readonly nonce: string | null;
}

/** Issues and exchanges codes. */
export class AuthorizationCodes {
  readonly #db: Kysely<HubDatabase>;
  readonly #logins: PersonLogins;

  constructor(db: Kysely<HubDatabase>, logins: PersonLogins) {
    this.#db = db;
    this.#logins = logins;
  }

  /** A code for the person who just agreed; `db` is the transaction that it is part of. */
  async issue(
    request: AuthorizationRequest,
    personId: string,
    db: Kysely<HubDatabase> = this.#db,
  ): Promise<string> {
    const code = newToken();
    await db
      .insertInto('authorization_codes')
      .values({
        code_hash: tokenHash(code),
        app_id: request.appId,
        person_id: personId,
        redirect_uri: request.redirectUri,
        code_challenge: request.codeChallenge,
        scope: request.scope,
        nonce: request.nonce,
        expires_at: sql<Date>`now() + ${LIFETIME_S} * interval '1 second'`,
        login_id: null,
      })
      .execute();
    return code;
  }

  /** Turns a code into a login. @throws OAuthError invalid_grant. */
  async exchange(exchange: CodeExchange): Promise<NewLogin> {
    const outcome = await this.#db.transaction().execute(async (transaction) => {
      const row = await transaction
        .selectFrom('authorization_codes as code')
        .innerJoin('people as person', 'person.id', 'code.person_id')
        .selectAll('code')
        .select(sql<boolean>`code.expires_at < now()`.as('is_expired'))
        .where('code.code_hash', '=', tokenHash(exchange.code))
        .where('code.app_id', '=', exchange.appId)
        .where('person.disabled', '=', false)
        .forUpdate('code')
        .executeTakeFirst();
      if (row === undefined) {
        throw new OAuthError('invalid_grant', 'the code is unknown; sign in again');
      }
      if (row.login_id !== null) {
        return { replayed: row.login_id };
      }
      if (row.is_expired) {
        throw new OAuthError('invalid_grant', 'the code has expired; sign in again');
      }
      if (row.redirect_uri !== exchange.redirectUri) {
        throw new OAuthError(
          'invalid_grant',
          'the redirect_uri is not the one that the code was asked for with',
        );
      }
      if (!isVerifierOf(row.code_challenge, exchange.codeVerifier)) {
        throw new OAuthError(
          'invalid_grant',
          'the code_verifier does not belong to the code_challenge that the code was asked for with',
        );
      }
      const { person_id: personId, nonce } = row;
      const loginId = await this.#logins.begin(transaction, personId, exchange.appId);
      await transaction
        .updateTable('authorization_codes')
        .set({ login_id: loginId })
        .where('code_hash', '=', row.code_hash)
        .execute();
      const tokens = await this.#logins.issue(transaction, loginId, grantedScopes(row.scope));
      return { tokens, personId, nonce };
    });
    if ('replayed' in outcome) {
      await this.#logins.end(outcome.replayed);
      throw new OAuthError(
        'invalid_grant',
        'the code was used before: somebody has a copy, so the login that it yielded was ended; sign in again',
      );
    }
    return outcome;
  }
}

/** Whether a challenge has the form of S256: 32 bytes, base64url. */
export function isCodeChallenge(text: string): boolean {
  return /^[A-Za-z0-9_-]{43}$/.test(text);
}

function isVerifierOf(challenge: string, verifier: string): boolean {
  if (!/^[A-Za-z0-9._~-]{43,128}$/.test(verifier)) {
    return false;
  }
  const expected = Buffer.from(challenge);
  const actual = Buffer.from(createHash('sha256').update(verifier).digest('base64url'));
  return expected.length === actual.length && timingSafeEqual(expected, actual);
}

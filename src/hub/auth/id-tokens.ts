/**
 * id_tokens: signed statements of who signed in, for the application that asked (OpenID Connect Core 2), and the key to check them.
 *
 * RSA, because the Globus SDK looks at the first key only and takes no other kind (protocol.md 2.7). All hub processes share the
 * key: whoever needs it first makes it. No access token is made with it, so that it is worth little to a thief.
 */
import { createPrivateKey, createPublicKey, generateKeyPair } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';

import { SignJWT, calculateJwkThumbprint, exportJWK } from 'jose';
import type { JWK } from 'jose';
import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import { invariant } from '../../base/errors.ts';
import type { HubDatabase } from '../db/schema.ts';
import type { Person } from './people.ts';

/** The one algorithm. */
export const ID_TOKEN_ALGORITHM = 'RS256';

const SECRET_NAME = 'id-token-key';
const RSA_BITS = 2048;
/** Long enough to be read once, by clients whose clock is off. */
const LIFETIME_S = 3600;

/** What an id_token is about. */
export interface IdTokenClaims {
  readonly issuer: string;
  readonly person: Person;
  readonly appId: string;
  readonly nonce: string | null;
}

interface SigningKey {
  readonly privateKey: KeyObject;
  readonly publicJwk: JWK;
}

/** Signs id_tokens. */
export class IdTokens {
  readonly #db: Kysely<HubDatabase>;
  readonly #clock: Clock;
  #key: Promise<SigningKey> | undefined;

  constructor(db: Kysely<HubDatabase>, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  /** The public keys, as clients fetch them. */
  async keySet(): Promise<{ readonly keys: readonly JWK[] }> {
    return { keys: [(await this.#signingKey()).publicJwk] };
  }

  /** A signed statement. */
  async sign({ issuer, person, appId, nonce }: IdTokenClaims): Promise<string> {
    const { privateKey, publicJwk } = await this.#signingKey();
    const nowS = Math.floor(this.#clock.now() / 1000);
    return await new SignJWT({
      preferred_username: person.username,
      name: person.name,
      ...(person.email === null ? {} : { email: person.email }),
      ...(nonce === null ? {} : { nonce }),
    })
      .setProtectedHeader({ alg: ID_TOKEN_ALGORITHM, typ: 'JWT', kid: publicJwk.kid ?? '' })
      .setIssuer(issuer)
      .setSubject(person.id)
      .setAudience(appId)
      .setIssuedAt(nowS)
      .setExpirationTime(nowS + LIFETIME_S)
      .sign(privateKey);
  }

  async #signingKey(): Promise<SigningKey> {
    this.#key ??= this.#load().catch((error: unknown) => {
      // The next one who needs it tries again.
      this.#key = undefined;
      throw error;
    });
    return await this.#key;
  }

  async #load(): Promise<SigningKey> {
    const stored = (await this.#stored()) ?? (await this.#make());
    const privateKey = createPrivateKey({ key: stored, format: 'der', type: 'pkcs8' });
    const jwk = await exportJWK(createPublicKey(privateKey));
    const kid = await calculateJwkThumbprint(jwk);
    return { privateKey, publicJwk: { ...jwk, kid, use: 'sig', alg: ID_TOKEN_ALGORITHM } };
  }

  async #stored(): Promise<Buffer | undefined> {
    const row = await this.#db
      .selectFrom('hub_secrets')
      .select('value')
      .where('name', '=', SECRET_NAME)
      .executeTakeFirst();
    return row?.value;
  }

  async #make(): Promise<Buffer> {
    const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: RSA_BITS });
    await this.#db
      .insertInto('hub_secrets')
      .values({ name: SECRET_NAME, value: privateKey.export({ format: 'der', type: 'pkcs8' }) })
      .onConflict((conflict) => conflict.column('name').doNothing())
      .execute();
    const stored = await this.#stored();
    invariant(stored !== undefined, 'the key of id_tokens that was just stored is not there');
    return stored;
  }
}

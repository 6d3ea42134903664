/**
 * OAuth clients: who may ask for tokens. The id of a client is also the identity of whoever signs in with it.
 *
 * A secret is shown once, when it is made, and stored hashed. A successful verification is remembered for a while
 * (keyed by a digest of the stored hash and the secret), so that a fleet that signs in does not cost 60 ms of
 * processor per grant; the row itself is read on every grant, so a deleted client is refused at once.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto';

import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import { ConflictError } from '../../base/errors.ts';
import { BoundedCache } from '../bounded-cache.ts';
import { endBrokerRights, reopenBrokerRights } from '../broker/broker-epochs.ts';
import { isUniqueViolation } from '../db/postgres-errors.ts';
import type { HubDatabase } from '../db/schema.ts';
import { ABSENT_SECRET_HASH, hashSecret, verifySecret } from './secret-hash.ts';

/** A registered client. */
export interface Client {
  readonly id: string;
  readonly name: string;
  readonly endpointOnly: boolean;
  readonly createdAt: Date;
}

/** What {@link ClientRegistry.create} made; the secret exists nowhere else. */
export interface CreatedClient extends Client {
  readonly secret: string;
}

const VERIFIED_TTL_MS = 10 * 60_000;
const VERIFIED_MAX = 1000;

/** The table of clients. */
export class ClientRegistry {
  readonly #db: Kysely<HubDatabase>;
  readonly #verified: BoundedCache<true>;

  constructor(db: Kysely<HubDatabase>, clock: Clock) {
    this.#db = db;
    this.#verified = new BoundedCache({ clock, ttlMs: VERIFIED_TTL_MS, weightMax: VERIFIED_MAX });
  }

  /** Registers a client. @throws ConflictError PRECONDITION_FAILED when the name or id is taken. */
  async create(
    name: string,
    options: { id?: string; endpointOnly?: boolean } = {},
  ): Promise<CreatedClient> {
    const secret = randomBytes(32).toString('base64url');
    try {
      const row = await this.#db
        .insertInto('clients')
        .values({
          id: options.id ?? randomUUID(),
          name,
          secret_hash: await hashSecret(secret),
          endpoint_only: options.endpointOnly ?? false,
        })
        .returning(['id', 'name', 'endpoint_only', 'created_at'])
        .executeTakeFirstOrThrow();
      // An id that was deleted once.
      await reopenBrokerRights(this.#db, row.id);
      return { ...toClient(row), secret };
    } catch (error) {
      if (isUniqueViolation(error)) {
        throw new ConflictError(
          'PRECONDITION_FAILED',
          `a client with the name ${name}${options.id === undefined ? '' : ` or the id ${options.id}`} exists already; ` +
            'choose another name, or delete it first with `hub client delete`.',
          { cause: error },
        );
      }
      throw error;
    }
  }

  /** All clients, by name. */
  async list(): Promise<Client[]> {
    const rows = await this.#db
      .selectFrom('clients')
      .select(['id', 'name', 'endpoint_only', 'created_at'])
      .orderBy('name')
      .execute();
    return rows.map(toClient);
  }

  /**
   * Gives a client, by id or name, a new secret, and ends its tokens and the credentials with which its results are read. Its endpoints
   * stay connected: they need the new secret at their next sign-in.
   */
  async renewSecret(idOrName: string): Promise<CreatedClient | undefined> {
    const secret = randomBytes(32).toString('base64url');
    const hash = await hashSecret(secret);
    return await this.#db.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable('clients')
        .set({ secret_hash: hash })
        .where((eb) => eb.or([eb(eb.cast('id', 'text'), '=', idOrName), eb('name', '=', idOrName)]))
        .returning(['id', 'name', 'endpoint_only', 'created_at'])
        .executeTakeFirst();
      if (row === undefined) {
        return undefined;
      }
      await transaction.deleteFrom('access_tokens').where('client_id', '=', row.id).execute();
      await endBrokerRights(transaction, row.id, 'reader');
      return { ...toClient(row), secret };
    });
  }

  /** Deletes a client by id or name, and with it its tokens and memberships. Returns what was deleted. */
  async delete(idOrName: string): Promise<Client | undefined> {
    return await this.#db.transaction().execute(async (transaction) => {
      const row = await transaction
        .deleteFrom('clients')
        .where((eb) => eb.or([eb(eb.cast('id', 'text'), '=', idOrName), eb('name', '=', idOrName)]))
        .returning(['id', 'name', 'endpoint_only', 'created_at'])
        .executeTakeFirst();
      if (row === undefined) {
        return undefined;
      }
      // A group is not left with an admin that is nobody.
      await transaction.deleteFrom('group_members').where('identity_id', '=', row.id).execute();
      await endBrokerRights(transaction, row.id, 'for-good');
      return toClient(row);
    });
  }

  /** The client when the secret is right. */
  async authenticate(id: string | undefined, secret: string): Promise<Client | undefined> {
    const row =
      id === undefined
        ? undefined
        : await this.#db.selectFrom('clients').selectAll().where('id', '=', id).executeTakeFirst();
    const stored = row?.secret_hash ?? ABSENT_SECRET_HASH;
    const key = createHash('sha256').update(stored).update('\0').update(secret).digest('base64');
    if (this.#verified.get(key) === undefined) {
      if (!(await verifySecret(secret, stored)) || row === undefined) {
        return undefined;
      }
      this.#verified.set(key, true);
    }
    return row === undefined ? undefined : toClient(row);
  }
}

function toClient(row: {
  id: string;
  name: string;
  endpoint_only: boolean;
  created_at: Date;
}): Client {
  return {
    id: row.id,
    name: row.name,
    endpointOnly: row.endpoint_only,
    createdAt: row.created_at,
  };
}

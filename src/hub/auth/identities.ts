/** Identities of either kind, as others may see them: by id or by username, whether a client or a person stands behind them. */
import type { Kysely } from 'kysely';

import { canonicalUuid } from '../../protocol/messages.ts';
import type { HubDatabase } from '../db/schema.ts';
import { clientUsername } from './caller.ts';

/** What one caller may know of another. */
export interface Identity {
  readonly id: string;
  readonly kind: 'client' | 'person';
  readonly username: string;
  readonly name: string;
  readonly email: string | null;
  readonly issuer: string | null;
}

/** Looks identities up. */
export class IdentityDirectory {
  readonly #db: Kysely<HubDatabase>;

  constructor(db: Kysely<HubDatabase>) {
    this.#db = db;
  }

  /** Identities with these ids or usernames; what is unknown is left out. */
  async find(idsOrUsernames: readonly string[]): Promise<Identity[]> {
    if (idsOrUsernames.length === 0) {
      return [];
    }
    // The username of a client is made of its id.
    const ids = idsOrUsernames.flatMap((text) => {
      const [local = '', domain = 'clients.outpost'] = text.split('@', 2);
      return domain === 'clients.outpost' ? (canonicalUuid(local) ?? []) : [];
    });
    const people = await this.#db
      .selectFrom('people')
      .select(['id', 'username', 'name', 'email', 'issuer'])
      .where((eb) =>
        eb.or([
          eb('username', 'in', idsOrUsernames),
          ...(ids.length === 0 ? [] : [eb('id', 'in', ids)]),
        ]),
      )
      .execute();
    const clients =
      ids.length === 0
        ? []
        : await this.#db
            .selectFrom('clients')
            .select(['id', 'name'])
            .where('id', 'in', ids)
            .execute();
    return [
      ...people.map((person): Identity => ({ kind: 'person', ...person })),
      ...clients.map(({ id, name }): Identity => ({
        id,
        kind: 'client',
        username: clientUsername(id),
        name,
        email: null,
        issuer: null,
      })),
    ];
  }
}

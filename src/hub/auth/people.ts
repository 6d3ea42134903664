/**
 * People: those whom the hub signs in with a password, and those whom another issuer vouches for.
 *
 * A username of the hub's own has no @ in it, and one of another issuer always ends with that issuer's domain: no issuer can
 * name somebody of another one. Disabling a person, giving a new password, or signing them out ends all of their logins, and with those
 * the credentials at the broker that were handed out to them.
 */
import { randomUUID } from 'node:crypto';

import type { Kysely, Selectable, Transaction } from 'kysely';

import { ConflictError, ProtocolError } from '../../base/errors.ts';
import { endBrokerRights, reopenBrokerRights } from '../broker/broker-epochs.ts';
import { isUniqueViolation } from '../db/postgres-errors.ts';
import type { HubDatabase, PeopleTable } from '../db/schema.ts';
import { ABSENT_SECRET_HASH, hashSecret, verifySecret } from './secret-hash.ts';

/** Somebody known to the hub. */
export interface Person {
  readonly id: string;
  readonly username: string;
  readonly name: string;
  readonly email: string | null;
  readonly issuer: string | null;
  readonly isDisabled: boolean;
  readonly createdAt: Date;
}

/** Somebody who gave the right password. */
export interface AuthenticatedPerson extends Person {
  /** The hash that it was checked against. */
  readonly checkedHash: string;
}

/** A person to be made. */
export interface NewPerson {
  readonly username: string;
  readonly password: string;
  /** @defaultValue the username */
  readonly name?: string;
  readonly email?: string;
}

/** Whom a token of another issuer is about. */
export interface ForeignIdentity {
  readonly issuer: string;
  readonly subject: string;
  /** With the domain of the issuer. */
  readonly username: string;
  readonly name: string;
  readonly email: string | null;
}

/** Shortest password: below this, guessing is feasible even against the limits on attempts. */
export const PASSWORD_CHARS_MIN = 10;
/** Longest: hashing takes time in its length. */
const PASSWORD_BYTES_MAX = 1024;
const USERNAME_PATTERN = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/;

/** Why a text cannot be a username of the hub's own, or undefined. */
export function usernameProblem(username: string): string | undefined {
  return USERNAME_PATTERN.test(username)
    ? undefined
    : 'a username has 1 to 64 lower-case letters, digits, dots, hyphens and underscores, and begins and ends with a letter or digit';
}

/** Why a text cannot be a password, or undefined. */
export function passwordProblem(password: string): string | undefined {
  if (Array.from(password).length < PASSWORD_CHARS_MIN) {
    return `a password has at least ${PASSWORD_CHARS_MIN} characters`;
  }
  if (password.trim() !== password) {
    return 'a password does not begin or end with white space: it would be lost where it is typed';
  }
  return Buffer.byteLength(password) > PASSWORD_BYTES_MAX
    ? `a password has at most ${PASSWORD_BYTES_MAX} bytes`
    : undefined;
}

/** The table of people. */
export class PeopleRegistry {
  readonly #db: Kysely<HubDatabase>;

  constructor(db: Kysely<HubDatabase>) {
    this.#db = db;
  }

  /** Adds somebody. @throws ProtocolError ENVELOPE_INVALID; ConflictError PRECONDITION_FAILED when the username is taken. */
  async create(person: NewPerson): Promise<Person> {
    const { username, password } = person;
    check(usernameProblem(username) ?? passwordProblem(password));
    try {
      const row = await this.#db
        .insertInto('people')
        .values({
          id: randomUUID(),
          username,
          name: person.name ?? username,
          email: person.email ?? null,
          password_hash: await hashSecret(password),
          issuer: null,
          subject: null,
        })
        .returningAll()
        .executeTakeFirstOrThrow();
      return toPerson(row);
    } catch (error) {
      if (isUniqueViolation(error)) {
        throw new ConflictError(
          'PRECONDITION_FAILED',
          `a person with the username ${username} exists already; choose another, or give a new password with \`hub user password ${username}\`.`,
          { cause: error },
        );
      }
      throw error;
    }
  }

  /** Everybody, by username. */
  async list(): Promise<Person[]> {
    const rows = await this.#db.selectFrom('people').selectAll().orderBy('username').execute();
    return rows.map(toPerson);
  }

  /** The person behind an id or a username. */
  async find(idOrUsername: string): Promise<Person | undefined> {
    const row = await this.#db
      .selectFrom('people')
      .selectAll()
      .where((eb) =>
        eb.or([
          eb(eb.cast('id', 'text'), '=', idOrUsername.toLowerCase()),
          eb('username', '=', idOrUsername),
        ]),
      )
      .executeTakeFirst();
    return row && toPerson(row);
  }

  /** Shuts somebody out, or lets them in again; false when there is no such person. */
  async setDisabled(id: string, isDisabled: boolean): Promise<boolean> {
    return await this.#db.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable('people')
        .set({ disabled: isDisabled })
        .where('id', '=', id)
        .returning('id')
        .executeTakeFirst();
      if (row !== undefined && isDisabled) {
        await endLogins(transaction, id);
        await endBrokerRights(transaction, id, 'for-good');
      }
      if (row !== undefined && !isDisabled) {
        await reopenBrokerRights(transaction, id);
      }
      return row !== undefined;
    });
  }

  /** Gives a new password and ends all logins. @throws ProtocolError ENVELOPE_INVALID; ConflictError for whom another issuer signs in. */
  async setPassword(person: Person, password: string): Promise<void> {
    check(passwordProblem(password));
    if (person.issuer !== null) {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `${person.username} signs in at ${person.issuer}; the password is changed there.`,
      );
    }
    const hash = await hashSecret(password);
    await this.#db.transaction().execute(async (transaction) => {
      await transaction
        .updateTable('people')
        .set({ password_hash: hash })
        .where('id', '=', person.id)
        .execute();
      await endLogins(transaction, person.id);
      await endBrokerRights(transaction, person.id, 'sessions');
    });
  }

  /** Ends all logins of a person, and what they hold at the broker. */
  async signOut(id: string): Promise<void> {
    await this.#db.transaction().execute(async (transaction) => {
      // Held until the end: who signs in meanwhile does so before or after.
      await transaction
        .selectFrom('people')
        .select('id')
        .where('id', '=', id)
        .forUpdate()
        .execute();
      await endLogins(transaction, id);
      await endBrokerRights(transaction, id, 'sessions');
    });
  }

  /**
   * Does something for a person who gave the password, in a transaction; undefined when the password is another one by now or the
   * person was shut out. What it makes is seen by whoever ends the logins of the person.
   */
  async whileWelcome<T>(
    { id, checkedHash }: AuthenticatedPerson,
    work: (transaction: Transaction<HubDatabase>) => Promise<T>,
  ): Promise<T | undefined> {
    return await this.#db.transaction().execute(async (transaction) => {
      const row = await transaction
        .selectFrom('people')
        .select('id')
        .where('id', '=', id)
        .where('password_hash', '=', checkedHash)
        .where('disabled', '=', false)
        .forShare()
        .executeTakeFirst();
      return row && (await work(transaction));
    });
  }

  /** The person when the password is right and nobody shut them out. Takes as long for a username that does not exist. */
  async authenticate(username: string, password: string): Promise<AuthenticatedPerson | undefined> {
    const row = await this.#db
      .selectFrom('people')
      .selectAll()
      .where('username', '=', username)
      .executeTakeFirst();
    if (Buffer.byteLength(password) > PASSWORD_BYTES_MAX) {
      return undefined;
    }
    const isRight = await verifySecret(password, row?.password_hash ?? ABSENT_SECRET_HASH);
    if (!isRight || row === undefined || row.disabled) {
      return undefined;
    }
    return row.password_hash === null
      ? undefined
      : { ...toPerson(row), checkedHash: row.password_hash };
  }

  /** The person whom another issuer vouches for; made the first time, and kept as the issuer describes them. */
  async recognise(identity: ForeignIdentity): Promise<Person> {
    const { issuer, username, name, email } = identity;
    const known = await this.#asDescribed(identity);
    if (known !== undefined) {
      return known;
    }
    try {
      const row = await this.#db
        .insertInto('people')
        .values({ id: randomUUID(), password_hash: null, ...identity })
        .onConflict((conflict) =>
          conflict.columns(['issuer', 'subject']).doUpdateSet({ username, name, email }),
        )
        .returningAll()
        .executeTakeFirstOrThrow();
      return toPerson(row);
    } catch (error) {
      if (!isUniqueViolation(error)) {
        throw error;
      }
      // Two requests at first sight: the index of usernames may be the first to see that the other one made the row.
      const made = await this.#asDescribed(identity);
      if (made !== undefined) {
        return made;
      }
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `${issuer} calls two people ${username}; the claim that usernames are taken from must be unique.`,
        { cause: error },
      );
    }
  }

  async #asDescribed(identity: ForeignIdentity): Promise<Person | undefined> {
    const { issuer, subject, username, name, email } = identity;
    const row = await this.#db
      .selectFrom('people')
      .selectAll()
      .where('issuer', '=', issuer)
      .where('subject', '=', subject)
      .executeTakeFirst();
    return row?.username === username && row.name === name && row.email === email
      ? toPerson(row)
      : undefined;
  }
}

/**
 * Ends every login of a person, and those that were agreed to and that nobody has fetched yet. Those first: one that is being fetched
 * is waited for, and then is a login.
 */
async function endLogins(transaction: Transaction<HubDatabase>, personId: string): Promise<void> {
  for (const table of ['authorization_codes', 'device_codes', 'logins'] as const) {
    await transaction.deleteFrom(table).where('person_id', '=', personId).execute();
  }
}

function check(problem: string | undefined): void {
  if (problem !== undefined) {
    throw new ProtocolError('ENVELOPE_INVALID', problem);
  }
}

function toPerson(row: Selectable<PeopleTable>): Person {
  return {
    id: row.id,
    username: row.username,
    name: row.name,
    email: row.email,
    issuer: row.issuer,
    isDisabled: row.disabled,
    createdAt: row.created_at,
  };
}

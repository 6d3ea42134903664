/**
 * Device authorization (RFC 8628): a terminal without a browser shows a short code, and a person types it in wherever there is one.
 *
 *   asked for ──▶ waiting ──let in──▶ exchanged once, then gone
 *                    │──refused──▶ access_denied
 *                    └──10 minutes──▶ expired_token
 *
 * Who asks more often than told is told to slow down, and for good.
 */
import { randomInt } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import { isUniqueViolation } from '../db/postgres-errors.ts';
import type { HubDatabase } from '../db/schema.ts';
import type { NewLogin } from './authorization-codes.ts';
import { OAuthError } from './oauth-error.ts';
import { newToken, tokenHash } from './opaque-token.ts';
import { grantedScopes } from './person-logins.ts';
import type { PersonLogins } from './person-logins.ts';

/** How long a device waits, in seconds. */
const LIFETIME_S = 600;
/** How often it may ask, in seconds, and how much seldomer each time that it asked too early. */
const INTERVAL_S = 5;
/** The difference of two clocks and of two journeys through the network must not count as impatience. */
const INTERVAL_SLACK_S = 0.5;

/** No vowels, hence no words; nothing that looks like something else (RFC 8628, 6.1). 20^8 codes for ten minutes. */
const LETTERS = 'BCDFGHJKLMNPQRSTVWXZ';
const USER_CODE_LETTERS = 8;
const USER_CODE_ATTEMPTS = 5;

/** What a device was given. */
export interface DeviceGrant {
  readonly deviceCode: string;
  /** As people see it: `WDJB-MJHT`. */
  readonly userCode: string;
  readonly expiresInS: number;
  readonly intervalS: number;
}

/** A device that waits, as its person sees it. */
export interface WaitingDevice {
  readonly userCode: string;
  readonly appId: string;
  readonly scope: string;
}

/** The code as stored, from however somebody typed it. */
function canonicalUserCode(text: string): string {
  return text.toUpperCase().replaceAll(/[^A-Z0-9]/g, '');
}

/** Lets devices in. */
export class DeviceCodes {
  readonly #db: Kysely<HubDatabase>;
  readonly #logins: PersonLogins;

  constructor(db: Kysely<HubDatabase>, logins: PersonLogins) {
    this.#db = db;
    this.#logins = logins;
  }

  /** Codes for a device. */
  async ask(appId: string, scope: string): Promise<DeviceGrant> {
    for (let attempt = 1; ; attempt += 1) {
      const deviceCode = newToken();
      const userCode = Array.from(
        { length: USER_CODE_LETTERS },
        () => LETTERS[randomInt(LETTERS.length)] ?? '',
      ).join('');
      try {
        await this.#db
          .insertInto('device_codes')
          .values({
            device_hash: tokenHash(deviceCode),
            user_code: userCode,
            app_id: appId,
            scope,
            expires_at: sql<Date>`now() + ${LIFETIME_S} * interval '1 second'`,
            interval_s: INTERVAL_S,
            polled_at: null,
            person_id: null,
          })
          .execute();
      } catch (error) {
        if (isUniqueViolation(error) && attempt < USER_CODE_ATTEMPTS) {
          continue;
        }
        throw error;
      }
      return {
        deviceCode,
        userCode: hyphenated(userCode),
        expiresInS: LIFETIME_S,
        intervalS: INTERVAL_S,
      };
    }
  }

  /** The device that shows this code, while it waits. */
  async waiting(userCode: string): Promise<WaitingDevice | undefined> {
    const row = await this.#db
      .selectFrom('device_codes')
      .select(['user_code', 'app_id', 'scope'])
      .where('user_code', '=', canonicalUserCode(userCode))
      .where('expires_at', '>', sql<Date>`now()`)
      .where('person_id', 'is', null)
      .where('denied', '=', false)
      .executeTakeFirst();
    return row && { userCode: hyphenated(row.user_code), appId: row.app_id, scope: row.scope };
  }

  /** Lets the device in as this person, or refuses it; false when it does not wait any more. */
  async decide(
    userCode: string,
    decision: { personId: string } | 'denied',
    db: Kysely<HubDatabase> = this.#db,
  ): Promise<boolean> {
    const result = await db
      .updateTable('device_codes')
      .set(decision === 'denied' ? { denied: true } : { person_id: decision.personId })
      .where('user_code', '=', canonicalUserCode(userCode))
      .where('expires_at', '>', sql<Date>`now()`)
      .where('person_id', 'is', null)
      .where('denied', '=', false)
      .executeTakeFirst();
    return Number(result.numUpdatedRows) === 1;
  }

  /** What the device gets. @throws OAuthError authorization_pending, slow_down, access_denied, expired_token or invalid_grant. */
  async exchange(deviceCode: string, appId: string): Promise<NewLogin> {
    const outcome = await this.#db.transaction().execute(async (transaction) => {
      const row = await transaction
        .selectFrom('device_codes')
        .selectAll()
        .select([
          sql<boolean>`expires_at < now()`.as('is_expired'),
          sql<boolean>`coalesce(polled_at > now() - (interval_s - ${INTERVAL_SLACK_S}::float8) * interval '1 second', false)`.as(
            'is_early',
          ),
        ])
        .where('device_hash', '=', tokenHash(deviceCode))
        .where('app_id', '=', appId)
        .forUpdate()
        .executeTakeFirst();
      if (row === undefined) {
        return 'unknown';
      }
      const ours = transaction
        .deleteFrom('device_codes')
        .where('device_hash', '=', row.device_hash);
      if (row.is_expired) {
        return 'expired';
      }
      if (row.denied) {
        await ours.execute();
        return 'denied';
      }
      if (row.person_id === null) {
        await transaction
          .updateTable('device_codes')
          .set({
            polled_at: sql<Date>`now()`,
            ...(row.is_early ? { interval_s: row.interval_s + INTERVAL_S } : {}),
          })
          .where('device_hash', '=', row.device_hash)
          .execute();
        return row.is_early ? 'early' : 'pending';
      }
      await ours.execute();
      const personId = row.person_id;
      if (!(await isWelcome(transaction, personId))) {
        return 'denied';
      }
      const loginId = await this.#logins.begin(transaction, personId, appId);
      const tokens = await this.#logins.issue(transaction, loginId, grantedScopes(row.scope));
      return { tokens, personId, nonce: null };
    });
    switch (outcome) {
      case 'unknown':
        throw new OAuthError(
          'invalid_grant',
          'the device code is unknown or was used; begin again',
        );
      case 'expired':
        throw new OAuthError('expired_token', 'nobody let the device in in time; begin again');
      case 'denied':
        throw new OAuthError('access_denied', 'the person refused to let the device in');
      case 'early':
        throw new OAuthError(
          'slow_down',
          'asked again too early; wait five seconds longer from now on',
        );
      case 'pending':
        throw new OAuthError(
          'authorization_pending',
          'nobody has let the device in yet; ask again',
        );
      default:
        return outcome;
    }
  }
}

/** Whoever let the device in may have been shut out since. */
async function isWelcome(db: Kysely<HubDatabase>, personId: string): Promise<boolean> {
  const person = await db
    .selectFrom('people')
    .select('id')
    .where('id', '=', personId)
    .where('disabled', '=', false)
    .executeTakeFirst();
  return person !== undefined;
}

function hyphenated(userCode: string): string {
  return `${userCode.slice(0, USER_CODE_LETTERS / 2)}-${userCode.slice(USER_CODE_LETTERS / 2)}`;
}

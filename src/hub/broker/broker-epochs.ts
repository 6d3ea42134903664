/**
 * Which credentials of an identity at the broker count. Those that read its results derive from its id and a number, the epoch: to end
 * what somebody may have copied, the epoch goes up, and what was handed out before is deleted at the broker.
 *
 *   what ends                           when
 *   the reader of results               a client has a new secret
 *   and the sessions of its endpoints   a person has a new password, or was signed out everywhere
 *   and it gets no others               a person was disabled, a client was deleted
 *
 * Noted in the transaction that changes the identity, done by whichever hub comes round to it (`revoked_clients` is the list): nothing
 * is forgotten when the broker is away or no hub runs.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { HubDatabase } from '../db/schema.ts';

/** How much ends. */
export type RightsEnd = 'reader' | 'sessions' | 'for-good';

/** Ends what an identity holds at the broker; `db` is the transaction that it is part of. */
export async function endBrokerRights(
  db: Kysely<HubDatabase>,
  identityId: string,
  end: RightsEnd,
): Promise<void> {
  const isClosed = end === 'for-good';
  await db
    .insertInto('broker_epochs')
    .values({ identity_id: identityId, epoch: 1, closed: isClosed })
    .onConflict((conflict) =>
      conflict
        .column('identity_id')
        .doUpdateSet({ epoch: sql<number>`broker_epochs.epoch + 1`, closed: isClosed }),
    )
    .execute();
  const endsSessions = end !== 'reader';
  await db
    .insertInto('revoked_clients')
    .values({ id: identityId, sessions: endsSessions })
    .onConflict((conflict) =>
      conflict
        .column('id')
        .doUpdateSet({ sessions: sql<boolean>`revoked_clients.sessions or ${endsSessions}` }),
    )
    .execute();
}

/** Lets an identity have credentials again, others than before. */
export async function reopenBrokerRights(
  db: Kysely<HubDatabase>,
  identityId: string,
): Promise<void> {
  await db
    .updateTable('broker_epochs')
    .set({ closed: false })
    .where('identity_id', '=', identityId)
    .execute();
}

/** The epoch of an identity; undefined when it gets no credentials. */
export async function brokerEpoch(
  db: Kysely<HubDatabase>,
  identityId: string,
): Promise<number | undefined> {
  const row = await db
    .selectFrom('broker_epochs')
    .select(['epoch', 'closed'])
    .where('identity_id', '=', identityId)
    .executeTakeFirst();
  return row === undefined ? 0 : row.closed ? undefined : row.epoch;
}

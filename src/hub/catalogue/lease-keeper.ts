/**
 * Keeps a time when no hub was alive from counting against the leases.
 *
 * Every hub process says every few seconds that it is alive. One that starts and finds that nobody was gives every
 * lease that stood at that time a whole period again: its holder could not renew it.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { detach } from '../../base/logger.ts';
import type { HubDatabase } from '../db/schema.ts';
import { LEASE_TTL_MS } from './lease.ts';

const ALIVE_PERIOD_MS = 10_000;

/** Says that this hub is alive. */
export class LeaseKeeper {
  readonly #db: Kysely<HubDatabase>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #timer: Timer | undefined;

  constructor(db: Kysely<HubDatabase>, clock: Clock, logger: Logger) {
    this.#db = db;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Makes up for the time without a hub, then keeps saying that there is one. */
  async start(): Promise<void> {
    const extended = await this.#db.transaction().execute(async (transaction) => {
      await transaction
        .insertInto('hub_liveness')
        .values({ only_row: true })
        .onConflict((conflict) => conflict.column('only_row').doNothing())
        .execute();
      const { alive_at: aliveAt } = await transaction
        .selectFrom('hub_liveness')
        .select('alive_at')
        .forUpdate()
        .executeTakeFirstOrThrow();
      const result = await transaction
        .updateTable('endpoints')
        .set({
          // Never shorter than it is.
          lease_expires_at: sql<Date>`greatest(lease_expires_at, now() + ${LEASE_TTL_MS} * interval '1 millisecond')`,
        })
        .where('deleted_at', 'is', null)
        .where('lease_expires_at', '>', aliveAt)
        // A lease that somebody ended on purpose stays ended.
        .where('active', '=', true)
        .executeTakeFirst();
      await transaction
        .updateTable('hub_liveness')
        .set({ alive_at: sql<Date>`now()` })
        .execute();
      return Number(result.numUpdatedRows);
    });
    if (extended > 0) {
      this.#logger.info({ leaseCount: extended }, 'gave leases a new period after the start');
    }
    this.#schedule();
  }

  /** Stops saying so. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #schedule(): void {
    this.#timer = this.#clock.after(ALIVE_PERIOD_MS, () => {
      this.#schedule();
      detach(
        this.#logger,
        'saying that the hub is alive',
        this.#db
          .updateTable('hub_liveness')
          .set({ alive_at: sql<Date>`now()` })
          .execute(),
      );
    });
  }
}

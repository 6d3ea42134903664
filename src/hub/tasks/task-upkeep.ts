/**
 * What nobody asks for: results that were left behind on their way to a queue, tasks of deleted endpoints, tasks that are given up,
 * credentials of agents that were fenced long ago, and the end of the retention. Runs by the clock, never on the path of a task;
 * every run is bounded and may be repeated.
 *
 * A hub that was down, or cut off from the broker, gives nothing up until endpoints had the time to say that they live: for one
 * lease period it has heard nobody.
 */
import type { Kysely } from 'kysely';

import type { Clock, Timer } from '../../base/clock.ts';
import { detach } from '../../base/logger.ts';
import type { Logger } from '../../base/logger.ts';
import { LEASE_TTL_MS } from '../catalogue/lease.ts';
import type { HubDatabase } from '../db/schema.ts';
import { expiredTasks, lostTasks } from './lost-tasks.ts';
import { failOpenTasks, hubFailure, storeResults, unstreamedResults } from './result-store.ts';
import type { IncomingResult, StoreOutcome, StreamableResult } from './result-store.ts';
import { deleteExpired } from './retention.ts';
import { markStreamed } from './task-rows.ts';

/** Also the age at which a result counts as left behind: whoever stored it streams it at once, if it lives. */
const UNSTREAMED_SWEEP_MS = 30_000;
const UNSTREAMED_COUNT = 200;
const UNSTREAMED_BYTES = 16 * 1024 * 1024;
const DELETED_SWEEP_MS = 30_000;
const GIVE_UP_SWEEP_MS = 30_000;
const REVOKE_SWEEP_MS = 5_000;
const RETENTION_SWEEP_MS = 3_600_000;
const FAIL_TASKS_COUNT = 500;

/** Settings of a {@link TaskUpkeep}. */
export interface TaskUpkeepOptions {
  readonly db: Kysely<HubDatabase>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly retentionMs: number;
  readonly taskTtlMs: number;
  /** How long an endpoint may be gone before its tasks are lost. */
  readonly lostAfterMs: number;
  /** Since when heartbeats arrive; undefined while they do not. */
  readonly consumingSinceMs: () => number | undefined;
  /** Ends the credentials of an identity at the broker that count no more, and with `sessions` those of its endpoints. */
  readonly revoke: (identityId: string, sessions: boolean) => Promise<void>;
  readonly revokeEpoch: (endpointId: string, epoch: number) => Promise<void>;
  /** Whether results can be streamed now. */
  readonly isOnline: () => boolean;
  readonly stream: (result: StreamableResult) => Promise<void>;
}

/** Why the hub ends a task itself. */
export interface TaskFailure {
  readonly code: string;
  readonly message: string;
}

/** Looks after tasks. */
export class TaskUpkeep {
  readonly #options: TaskUpkeepOptions;
  readonly #logger: Logger;
  readonly #timers = new Set<Timer>();
  readonly #running = new Set<Promise<void>>();
  #isStopped = false;

  constructor(options: TaskUpkeepOptions) {
    this.#options = options;
    this.#logger = options.logger;
  }

  /** Begins; the first clean-up is now. */
  start(): void {
    const clean = async (): Promise<void> => {
      await this.#deleteExpired();
    };
    this.#every(UNSTREAMED_SWEEP_MS, 'streaming results that were left behind', async () => {
      await this.#streamLeftovers();
    });
    this.#every(DELETED_SWEEP_MS, 'failing tasks of deleted endpoints', async () => {
      await this.failTasksOfDeleted();
    });
    this.#every(REVOKE_SWEEP_MS, 'ending credentials at the broker', async () => {
      await this.endBrokerRights();
    });
    this.#every(GIVE_UP_SWEEP_MS, 'giving up lost tasks', async () => {
      await this.giveUp();
    });
    this.#every(RETENTION_SWEEP_MS, 'deleting what has expired', clean);
    this.#run('deleting what has expired', clean);
  }

  /** Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of this.#timers) {
      timer.cancel();
    }
    await Promise.allSettled(this.#running);
  }

  /** Ends the open tasks of an endpoint that was deleted with a failed result. */
  async failTasks(endpointId: string): Promise<void> {
    while (!this.#isStopped) {
      const outcomes = await failOpenTasks(this.#options.db, endpointId, {
        code: 'ENDPOINT_DELETED',
        message: `Endpoint ${endpointId} was deleted before it returned a result for this task`,
        count: FAIL_TASKS_COUNT,
      });
      if (outcomes.length === 0) {
        return;
      }
      this.#logger.info(
        { endpointId, taskCount: outcomes.length },
        'failed the tasks of a deleted endpoint',
      );
      await this.#streamAll(streamable(outcomes));
    }
  }

  /** Does what a deletion that broke off half-way has left, and what was submitted while it went on. */
  async failTasksOfDeleted(): Promise<void> {
    if (!this.#options.isOnline()) {
      return;
    }
    const rows = await this.#options.db
      .selectFrom('tasks')
      .innerJoin('endpoints', 'endpoints.id', 'tasks.endpoint_id')
      .select('tasks.endpoint_id')
      .distinct()
      .where('tasks.completed_at', 'is', null)
      .where('endpoints.deleted_at', 'is not', null)
      .execute();
    for (const { endpoint_id: endpointId } of rows) {
      await this.failTasks(endpointId);
    }
  }

  /** Ends at the broker what was ended in the database, one identity after the other. */
  async endBrokerRights(): Promise<void> {
    const { db, revoke } = this.#options;
    let isDone = false;
    while (!isDone && !this.#isStopped) {
      // Held until it is done: what is to end meanwhile is noted afterwards, and not lost with this row.
      isDone = await db.transaction().execute(async (transaction) => {
        const row = await transaction
          .selectFrom('revoked_clients')
          .select(['id', 'sessions'])
          .limit(1)
          .forUpdate()
          .skipLocked()
          .executeTakeFirst();
        if (row === undefined) {
          return true;
        }
        await revoke(row.id, row.sessions);
        await transaction.deleteFrom('revoked_clients').where('id', '=', row.id).execute();
        this.#logger.info(
          { identityId: row.id, sessions: row.sessions },
          'ended credentials at the broker',
        );
        return false;
      });
    }
  }

  /** Ends tasks that waited too long, and provisionally those of endpoints that are gone. */
  async giveUp(): Promise<void> {
    const { db, clock, taskTtlMs, lostAfterMs } = this.#options;
    const listening = (): boolean => {
      const since = this.#options.consumingSinceMs();
      return since !== undefined && clock.now() - since >= LEASE_TTL_MS && this.#options.isOnline();
    };
    const count = FAIL_TASKS_COUNT;
    await this.#storeAll('gave up tasks of endpoints that are gone', listening, async () => {
      return await lostTasks(db, { lostAfterMs, count });
    });
    await this.#storeAll('gave up tasks that waited too long', listening, async () => {
      return await expiredTasks(db, { ttlMs: taskTtlMs, count });
    });
  }

  async #storeAll(
    what: string,
    mayGoOn: () => boolean,
    next: () => Promise<readonly IncomingResult[]>,
  ): Promise<void> {
    while (!this.#isStopped && mayGoOn()) {
      const failures = await next();
      if (failures.length === 0) {
        return;
      }
      const outcomes = await storeResults(this.#options.db, failures);
      this.#logger.warn({ taskCount: failures.length }, what);
      await this.#streamAll(streamable(outcomes));
    }
  }

  /** Ends one task with a failed result. */
  async failTask(taskId: string, endpointId: string, failure: TaskFailure): Promise<void> {
    const { db } = this.#options;
    const outcomes = await storeResults(db, [hubFailure(taskId, endpointId, failure)]);
    await this.#streamAll(streamable(outcomes));
  }

  async #streamLeftovers(): Promise<void> {
    if (this.#options.isOnline()) {
      await this.#streamAll(
        await unstreamedResults(this.#options.db, {
          minAgeMs: UNSTREAMED_SWEEP_MS,
          count: UNSTREAMED_COUNT,
          bytes: UNSTREAMED_BYTES,
        }),
      );
    }
  }

  async #streamAll(results: readonly StreamableResult[]): Promise<void> {
    await Promise.all(
      results.map(async (result) => {
        await this.#options.stream(result);
      }),
    );
    if (results.length > 0) {
      await markStreamed(
        this.#options.db,
        results.map(({ taskId }) => taskId),
      );
    }
  }

  async #deleteExpired(): Promise<void> {
    const { db, clock, retentionMs, taskTtlMs } = this.#options;
    const counts = await deleteExpired(db, clock.now(), retentionMs, taskTtlMs);
    await this.#endFencedLeases(new Date(clock.now() - retentionMs));
    if (Object.values(counts).some((count: number) => count > 0)) {
      this.#logger.info(counts, 'deleted what has expired');
    }
  }

  /** An agent that was fenced and never said that it ended publishes nothing any more after so long. */
  async #endFencedLeases(before: Date): Promise<void> {
    const { db, revokeEpoch } = this.#options;
    const old = await db
      .selectFrom('fenced_leases')
      .select(['endpoint_id', 'epoch'])
      .where('fenced_at', '<', before)
      .execute();
    for (const { endpoint_id: endpointId, epoch } of old) {
      await revokeEpoch(endpointId, epoch);
      await db
        .deleteFrom('fenced_leases')
        .where('endpoint_id', '=', endpointId)
        .where('epoch', '=', epoch)
        .execute();
    }
  }

  #run(what: string, work: () => Promise<void>): void {
    const running = work().finally(() => {
      this.#running.delete(running);
    });
    this.#running.add(running);
    detach(this.#logger, what, running);
  }

  #every(periodMs: number, what: string, work: () => Promise<void>): void {
    if (this.#isStopped) {
      return;
    }
    const timer = this.#options.clock.after(
      periodMs,
      () => {
        this.#timers.delete(timer);
        this.#run(what, async () => {
          try {
            await work();
          } finally {
            this.#every(periodMs, what, work);
          }
        });
      },
      { background: true },
    );
    this.#timers.add(timer);
  }
}

function streamable(outcomes: readonly StoreOutcome[]): StreamableResult[] {
  return outcomes.flatMap((outcome) => (outcome.kind === 'stream' ? [outcome.result] : []));
}

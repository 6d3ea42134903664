/** The hub when its database or the broker goes away at the worst moment, and tasks that it gives up. */
import assert from 'node:assert/strict';

import { sql } from 'kysely';

import type { Clock } from '../../src/base/clock.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { ClientRegistry } from '../../src/hub/auth/client-registry.ts';
import { taskGroupQueueName } from '../../src/hub/broker/topology-table.ts';
import { LEASE_TTL_MS } from '../../src/hub/catalogue/lease.ts';
import { openDatabase } from '../../src/hub/db/database.ts';
import { expiredTasks } from '../../src/hub/tasks/lost-tasks.ts';
import { storeResults } from '../../src/hub/tasks/result-store.ts';
import { TaskUpkeep } from '../../src/hub/tasks/task-upkeep.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import { eventually } from '../support/eventually.ts';
import { testServices } from '../support/services.ts';
import type { PlaneFixture, TestEndpoint } from '../support/task-plane.ts';
import {
  RETENTION_MS,
  collect,
  onlyTask,
  registerEndpoint,
  resultBody,
  startPlane,
  submission,
} from '../support/task-plane.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';

describe('a hub in trouble', () => {
  let proxy: TcpProxy;
  let fixture: PlaneFixture;
  let endpoint: TestEndpoint;
  /** Past the proxy. */
  let direct: ReturnType<typeof openDatabase>;

  before(async () => {
    proxy = await startTcpProxy({ targetPort: Number(new URL(testServices().databaseUrl).port) });
    fixture = await startPlane({ databasePort: proxy.port, databaseAnswerMs: 3_000 });
    endpoint = await registerEndpoint(fixture);
    const { rows } = await sql<{ name: string }>`select current_database() as name`.execute(
      fixture.db,
    );
    const url = new URL(testServices().databaseUrl);
    url.pathname = `/${rows[0]?.name ?? ''}`;
    direct = openDatabase({ url: url.href, logger: silentLogger });
  });

  after(async () => {
    await direct.destroy();
    await fixture.close();
    await proxy.close();
  });

  /** Makes every COMMIT of new tasks take a while, or every INSERT of them. */
  async function slow(when: 'commit' | 'insert' | 'never'): Promise<void> {
    await sql`drop trigger if exists slow on tasks`.execute(direct);
    await sql`create or replace function slow() returns trigger language plpgsql
      as $$ begin perform pg_sleep(1); return null; end $$`.execute(direct);
    if (when === 'commit') {
      await sql`create constraint trigger slow after insert on tasks deferrable initially deferred
        for each row execute function slow()`.execute(direct);
    } else if (when === 'insert') {
      await sql`create trigger slow after insert on tasks for each row execute function slow()`.execute(
        direct,
      );
    }
  }

  async function runs(query: string): Promise<void> {
    await eventually(async () => {
      const { rows } = await sql`select 1 from pg_stat_activity
        where datname = current_database() and state = 'active' and ltrim(query, E' \\n') ilike ${`${query}%`}
          and pid <> pg_backend_pid()`.execute(direct);
      assert.equal(rows.length, 1, `no ${query} runs`);
    });
  }

  it('answers truthfully when the COMMIT of a submission was done and its answer was lost', async () => {
    await slow('commit');
    const submitted = fixture.plane.tasks.submit(submission(endpoint, 1));
    await runs('commit');
    proxy.hold('to-clients', true);
    proxy.cut();
    proxy.hold('to-clients', false);
    const { tasks } = await submitted;
    await slow('never');
    await eventually(async () => {
      const row = await direct
        .selectFrom('tasks')
        .select('published_at')
        .where('id', '=', onlyTask(tasks))
        .executeTakeFirst();
      assert.ok(row?.published_at instanceof Date);
    });
  });

  it('answers truthfully when the COMMIT of a submission is neither answered nor failed', async () => {
    await slow('commit');
    const submitted = fixture.plane.tasks.submit(submission(endpoint, 1));
    await runs('commit');
    proxy.freeze();
    const { tasks } = await submitted;
    await slow('never');
    const row = await direct
      .selectFrom('tasks')
      .select('id')
      .where('id', '=', onlyTask(tasks))
      .executeTakeFirst();
    assert.ok(row !== undefined);
  });

  it('says that nothing was stored when the COMMIT never arrived, and nothing is', async () => {
    await slow('insert');
    const request = submission(endpoint, 1);
    const submitted = assert.rejects(fixture.plane.tasks.submit(request));
    await runs('insert into tasks');
    // The server never hears of the end of the connection, nor of the COMMIT.
    proxy.hold('to-target', true);
    await eventually(async () => {
      const { rows } = await sql`select 1 from pg_stat_activity
        where datname = current_database() and state = 'idle in transaction'`.execute(direct);
      assert.equal(rows.length, 1);
    });
    const before = await direct.selectFrom('tasks').select('id').execute();
    proxy.cut();
    proxy.hold('to-target', false);
    await submitted;
    await slow('never');
    const after = await direct.selectFrom('tasks').select('id').execute();
    assert.equal(after.length, before.length);
    const { rows } = await sql`select 1 from pg_stat_activity
      where datname = current_database() and state = 'idle in transaction'`.execute(direct);
    assert.equal(rows.length, 0, 'a transaction that nobody ends is left');
  });

  it('loses and doubles nothing while its database connections are cut under load', async () => {
    const busy = await registerEndpoint(fixture);
    const connection = await fixture.dial(busy.url);
    const queue = fixture.plane.topology.taskQueueName(busy);
    const publisher = await connection.openPublisher();
    const deliveries = await collect(connection, queue);
    const accepted: string[] = [];
    for (let round = 0; round < 10; round += 1) {
      const submissions = Array.from({ length: 5 }, async () => {
        try {
          const { tasks } = await fixture.plane.tasks.submit(submission(busy, 4));
          accepted.push(...Object.values(tasks).flat());
        } catch (error) {
          // Told so, and then nothing may be there: counted below.
          assert.ok(error instanceof Error);
        }
      });
      if (round % 2 === 0) {
        setImmediate(proxy.cut);
      }
      await Promise.all(submissions);
    }
    assert.ok(accepted.length >= 100, String(accepted.length));
    const stored = await direct
      .selectFrom('tasks')
      .select('id')
      .where('endpoint_id', '=', busy.id)
      .execute();
    assert.deepEqual(stored.map(({ id }) => id).sort(), [...accepted].sort());
    await eventually(() => {
      const ids = new Set(deliveries.map(({ headers }) => String(headers['task_uuid'])));
      assert.equal(ids.size, accepted.length);
    });
    await Promise.all(
      accepted.map(async (taskId, index) => {
        if (index % 20 === 0) {
          proxy.cut();
        }
        await publisher.publish('results', `${busy.id}.results`, resultBody(taskId));
      }),
    );
    await eventually(async () => {
      const open = await direct
        .selectFrom('tasks')
        .select('id')
        .where('endpoint_id', '=', busy.id)
        .where((where) =>
          where.or([where('completed_at', 'is', null), where('streamed_at', 'is', null)]),
        )
        .execute();
      assert.equal(open.length, 0);
    });
  });

  it('hands out again what a queue has lost when its endpoint registers', async () => {
    const emptied = await registerEndpoint(fixture);
    const { tasks } = await fixture.plane.tasks.submit(submission(emptied, 3));
    const ids = Object.values(tasks).flat();
    await eventually(async () => {
      const rows = await direct
        .selectFrom('tasks')
        .select('id')
        .where('id', 'in', ids)
        .where('published_at', 'is not', null)
        .execute();
      assert.equal(rows.length, 3);
    });
    const queue = fixture.plane.topology.taskQueueName(emptied);
    const admin = await fixture.dial(fixture.options.amqpUrl);
    await admin.withChannel(async (channel) => {
      await channel.purgeQueue(queue);
    });
    fixture.plane.endpointRegistered(emptied);
    const deliveries = await collect(await fixture.dial(emptied.url), queue);
    await eventually(() => {
      assert.deepEqual(
        deliveries.map(({ headers }) => String(headers['task_uuid'])).sort(),
        [...ids].sort(),
      );
    });
  });

  it('cuts the endpoints and the readers of a deleted client off', async () => {
    const registry = new ClientRegistry(fixture.db, systemClock);
    const client = await registry.create('about to be deleted');
    const doomed = await registerEndpoint(fixture, client.id);
    const connection = await fixture.dial(doomed.url);
    const person = await fixture.plane.topology.resultConnection(client.id);
    await registry.delete(client.id);
    await connection.closed;
    await eventually(async () => {
      for (const url of [doomed.url, person.connection_url]) {
        await assert.rejects(dialAmqp({ url, connectionName: 'deleted' }), {
          code: 'TOKEN_REJECTED',
        });
      }
      assert.deepEqual(await direct.selectFrom('revoked_clients').selectAll().execute(), []);
    });
  });

  describe('gives tasks up', () => {
    /** Ahead of the time, so that what just happened is long ago. */
    let ahead: number;
    let consumingSinceMs: number | undefined;
    let upkeep: TaskUpkeep;
    const clock: Clock = { ...systemClock, now: () => systemClock.now() + ahead };

    beforeEach(() => {
      ahead = 0;
      consumingSinceMs = 0;
      upkeep = new TaskUpkeep({
        db: direct,
        clock,
        logger: silentLogger,
        retentionMs: RETENTION_MS,
        taskTtlMs: 3_600_000,
        lostAfterMs: 3_600_000,
        consumingSinceMs: () => consumingSinceMs,
        revoke: async () => {
          await Promise.resolve();
        },
        revokeEpoch: async () => {
          await Promise.resolve();
        },
        isOnline: () => true,
        stream: async () => {
          await Promise.resolve();
        },
      });
    });

    async function goneFor(ms: number): Promise<void> {
      const past = new Date(Date.now() - ms);
      await direct
        .updateTable('endpoints')
        .set({ lease_expires_at: past, last_heartbeat_at: past, created_at: past })
        .where('id', '=', endpoint.id)
        .execute();
    }

    async function receivedTask(): Promise<{ taskId: string; groupId: string }> {
      const { tasks, task_group_id: groupId } = await fixture.plane.tasks.submit(
        submission(endpoint),
      );
      const taskId = onlyTask(tasks);
      await direct
        .updateTable('tasks')
        .set({ state: 'running', received_at: new Date(Date.now() - 7_200_000) })
        .where('id', '=', taskId)
        .execute();
      return { taskId, groupId };
    }

    async function document(taskId: string): Promise<Record<string, unknown>> {
      const documents = await fixture.plane.tasks.documents(endpoint.ownerId, [taskId]);
      return { ...documents.get(taskId) };
    }

    it('as LOST when their endpoint is gone for too long, until one real result takes the place', async () => {
      const { taskId, groupId } = await receivedTask();
      await goneFor(1_000_000);
      await upkeep.giveUp();
      assert.equal((await document(taskId))['status'], 'running', 'gone for less than the limit');
      await goneFor(7_200_000);
      await upkeep.giveUp();
      const lost = await document(taskId);
      assert.equal(lost['status'], 'failed');
      const { provisional, error } = lost['outpost'] as {
        provisional: boolean;
        error: { code: string };
      };
      assert.equal(provisional, true);
      assert.equal(error.code, 'LOST');
      const person = await fixture.plane.topology.resultConnection(endpoint.ownerId);
      const streamed = await collect(
        await fixture.dial(person.connection_url),
        taskGroupQueueName(endpoint.ownerId, groupId),
      );
      const publisher = await (await fixture.dial(endpoint.url)).openPublisher();
      const key = `${endpoint.id}.results`;
      await publisher.publish('results', key, resultBody(taskId));
      await eventually(async () => {
        const real = await document(taskId);
        assert.equal(real['status'], 'success');
        assert.equal(real['outpost'], undefined);
        assert.equal(streamed.length, 1);
      });
      await publisher.publish('results', key, resultBody(taskId, { data: '11\n4' }));
      await upkeep.giveUp();
      await eventually(async () => {
        const { result } = await document(taskId);
        assert.equal(result, '11\n3', 'a second real result has won');
      });
    });

    it('only after it has heard endpoints for a whole lease period', async () => {
      const { taskId } = await receivedTask();
      await goneFor(7_200_000);
      consumingSinceMs = undefined;
      await upkeep.giveUp();
      consumingSinceMs = systemClock.now() - LEASE_TTL_MS / 2;
      await upkeep.giveUp();
      assert.equal((await document(taskId))['status'], 'running');
      ahead = LEASE_TTL_MS;
      await upkeep.giveUp();
      assert.equal((await document(taskId))['status'], 'failed');
    });

    it('as TASK_EXPIRED when nobody took them in time, for good', async () => {
      const { tasks } = await fixture.plane.tasks.submit(submission(endpoint, 2));
      const [old = '', young = ''] = Object.values(tasks).flat();
      await direct
        .updateTable('tasks')
        .set({ created_at: new Date(Date.now() - 7_200_000) })
        .where('id', '=', old)
        .execute();
      await upkeep.giveUp();
      const expired = await document(old);
      assert.equal(expired['status'], 'failed');
      assert.deepEqual(
        (expired['outpost'] as { provisional?: boolean; error: { code: string } }).error.code,
        'TASK_EXPIRED',
      );
      assert.equal((expired['outpost'] as { provisional?: boolean }).provisional, undefined);
      assert.equal((await document(young))['status'], 'waiting-for-ep');
    });

    it('not as TASK_EXPIRED when an agent took them while that was being decided', async () => {
      const { tasks } = await fixture.plane.tasks.submit(submission(endpoint, 1));
      const [taskId = ''] = Object.values(tasks).flat();
      const change = async (values: { created_at?: Date; received_at?: Date }): Promise<void> => {
        await direct.updateTable('tasks').set(values).where('id', '=', taskId).execute();
      };
      await change({ created_at: new Date(Date.now() - 7_200_000) });
      const failures = await expiredTasks(direct, { ttlMs: 3_600_000, count: 10 });
      assert.deepEqual(
        failures.map((failure) => failure.taskId),
        [taskId],
      );
      await change({ received_at: new Date() });
      await storeResults(direct, failures);
      assert.notEqual((await document(taskId))['status'], 'failed');
    });
  });
});

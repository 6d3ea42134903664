/** Results and heartbeats on their way from an endpoint into the database and to the person who waits. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { packEpStatusReport } from '../../src/protocol/messages.ts';
import type { TaskState } from '../../src/protocol/task-state.ts';
import type { AmqpConnection } from '../../src/transport/amqp/connection.ts';
import type { Delivery } from '../../src/transport/amqp/consumer.ts';
import type { ConfirmPublisher } from '../../src/transport/amqp/publisher.ts';
import { eventually } from '../support/eventually.ts';
import { managementRequest } from '../support/services.ts';
import {
  closeConnections,
  collect,
  onlyTask,
  registerEndpoint,
  resultBody,
  startPlane,
  submission,
} from '../support/task-plane.ts';
import type { PlaneFixture, TestEndpoint } from '../support/task-plane.ts';

const DETAILS = { os: 'Linux', python_version: '3.11.2', dill_version: '0.3.9' };

describe('results in the hub', () => {
  let fixture: PlaneFixture;
  let endpoint: TestEndpoint;
  let connection: AmqpConnection;
  let publisher: ConfirmPublisher;

  before(async () => {
    fixture = await startPlane();
  });

  after(async () => {
    await fixture.close();
  });

  beforeEach(async () => {
    endpoint = await registerEndpoint(fixture);
    connection = await fixture.dial(endpoint.url);
    publisher = await connection.openPublisher();
  });

  async function submitOne(): Promise<{ taskId: string; streamed: Delivery[]; groupId: string }> {
    const answer = await fixture.plane.tasks.submit(submission(endpoint, 1));
    const { queue_prefix: prefix, connection_url: url } =
      await fixture.plane.topology.resultConnection(endpoint.ownerId);
    const person = await fixture.dial(url);
    const streamed = await collect(person, prefix + answer.task_group_id);
    return { taskId: onlyTask(answer.tasks), streamed, groupId: answer.task_group_id };
  }

  async function publishResult(body: Buffer, headers?: Record<string, unknown>): Promise<void> {
    await publisher.publish('results', `${endpoint.id}.results`, body, {
      mandatory: true,
      ...(headers !== undefined && { headers }),
    });
  }

  /** As an endpoint does: what was not confirmed is published again on a new connection. */
  async function publishUntilConfirmed(taskIds: readonly string[]): Promise<void> {
    let left = [...taskIds];
    while (left.length > 0) {
      const round = left;
      const settled = await Promise.allSettled(
        round.map(async (taskId) => {
          await publishResult(resultBody(taskId));
        }),
      );
      left = round.filter((_taskId, index) => settled[index]?.status === 'rejected');
      if (left.length > 0) {
        connection = await fixture.dial(endpoint.url);
        publisher = await connection.openPublisher();
      }
    }
  }

  async function document(taskId: string, ownerId = endpoint.ownerId) {
    return (await fixture.plane.tasks.documents(ownerId, [taskId])).get(taskId);
  }

  /** Nothing is left at the broker or in our hands. */
  async function resultsTaken(): Promise<void> {
    const admin = await fixture.dial(fixture.options.amqpUrl);
    await eventually(async () => {
      assert.equal(fixture.plane.health().resultsHeld, 0);
      const { messageCount } = await admin.withChannel(
        async (channel) => await channel.checkQueue('results'),
      );
      assert.equal(messageCount, 0);
    });
  }

  it('stores a result and copies its bytes to the queue of the task group', async () => {
    const { taskId, streamed } = await submitOne();
    const body = resultBody(taskId, {
      details: DETAILS,
      task_statuses: [
        { timestamp: 1_700_000_000_250_000_000n, state: 'execution-start', actor: 'worker' },
        { timestamp: 1_700_000_001_500_000_000n, state: 'execution-end', actor: 'worker' },
      ],
    });
    const output = JSON.stringify({ stdout: 'a\0b\ud800', stderr: '', truncated: true, more: 1 });
    await publishResult(body, { outpost_output: output });
    await eventually(() => {
      assert.equal(streamed.length, 1);
    });
    assert.deepEqual(streamed[0]?.body, body);
    assert.deepEqual(JSON.parse(String(streamed[0].headers['outpost_output'])), {
      stdout: 'a\uFFFDb\uFFFD',
      stderr: '',
      truncated: true,
    });
    const found = await document(taskId);
    assert.ok(found?.completion_t !== undefined);
    assert.ok(Math.abs(Number(found.completion_t) - Date.now() / 1000) < 60);
    assert.equal(streamed[0].timestampS, Math.floor(Number(found.completion_t)));
    assert.deepEqual(
      { ...found, completion_t: '' },
      {
        task_id: taskId,
        status: 'success',
        result: '11\n3',
        completion_t: '',
        details: {
          ...DETAILS,
          task_transitions: {
            'execution-start': 1_700_000_000.25,
            'execution-end': 1_700_000_001.5,
          },
        },
        outpost: { stdout: 'a\uFFFDb\uFFFD', stderr: '', output_truncated: true },
      },
    );
    const spelt = taskId.toUpperCase();
    assert.equal((await document(spelt))?.task_id, spelt);
  });

  it('shows a failed task with its exception and without a result', async () => {
    const { taskId, streamed } = await submitOne();
    await publishResult(
      resultBody(taskId, {
        data: 'Traceback: boom',
        error_details: {
          code: 'RemoteExecutionError',
          user_message: 'An error occurred',
          exception: { type: 'TypeError', message: 'boom' },
        },
      }),
      { outpost_output: 'not JSON' },
    );
    await eventually(() => {
      assert.equal(streamed.length, 1);
    });
    const found = await document(taskId);
    assert.deepEqual(
      { ...found, completion_t: '' },
      {
        task_id: taskId,
        status: 'failed',
        exception: 'Traceback: boom',
        completion_t: '',
        outpost: { error: { code: 'RemoteExecutionError', type: 'TypeError', message: 'boom' } },
      },
    );
  });

  it('keeps the first terminal result and takes duplicates without streaming them again', async () => {
    const { taskId, streamed } = await submitOne();
    await Promise.all([
      publishResult(resultBody(taskId)),
      publishResult(resultBody(taskId, { data: '11\n4' })),
    ]);
    await eventually(async () => {
      assert.equal((await document(taskId))?.status, 'success');
    });
    await resultsTaken();
    // A duplicate that comes while the first is on its way is streamed as well, with the body of the first.
    const before = streamed.length;
    assert.ok(before >= 1 && before <= 2);
    await publishResult(resultBody(taskId, { data: '11\n5' }));
    await resultsTaken();
    assert.equal((await document(taskId))?.result, '11\n3');
    assert.equal(streamed.length, before);
    assert.ok(streamed.every(({ body }) => body.equals(resultBody(taskId))));
  });

  it('streams a duplicate with the stored body while the first was not marked as streamed', async () => {
    const { taskId, streamed } = await submitOne();
    await publishResult(resultBody(taskId));
    await resultsTaken();
    // As after a crash between the confirm and the mark.
    await fixture.db
      .updateTable('tasks')
      .set({ streamed_at: null })
      .where('id', '=', taskId)
      .execute();
    await publishResult(resultBody(taskId, { data: '11\n4' }));
    await eventually(() => {
      assert.equal(streamed.length, 2);
    });
    assert.deepEqual(streamed[1]?.body, resultBody(taskId));
  });

  it('takes the result of a task of another endpoint from nobody', async () => {
    const { taskId, streamed } = await submitOne();
    const forger = await registerEndpoint(fixture);
    const forgerConnection = await fixture.dial(forger.url);
    const forged = resultBody(taskId, { data: '11\n666' });
    // Under the victim's routing key: the broker refuses.
    await assert.rejects(
      (await forgerConnection.openPublisher()).publish('results', `${endpoint.id}.results`, forged),
      { code: 'PUBLISH_UNCONFIRMED' },
    );
    // Under its own: the hub refuses.
    const own = await forgerConnection.openPublisher();
    await own.publish('results', `${forger.id}.results`, forged);
    await eventually(() => {
      const line = fixture.lines.find((one) => one['taskId'] === taskId);
      assert.match(String(line?.['reason']), /another endpoint/);
    });
    assert.equal((await document(taskId))?.status, 'waiting-for-ep');
    await publishResult(resultBody(taskId));
    await eventually(() => {
      assert.equal(streamed.length, 1);
    });
    assert.equal((await document(taskId))?.result, '11\n3');
  });

  it('refuses what is not a result, with the reason, and goes on', async () => {
    const { taskId, streamed } = await submitOne();
    fixture.lines.length = 0;
    await publishResult(Buffer.from(''));
    await publishResult(Buffer.from('\x02{}'));
    await publishResult(Buffer.from('\x01{"message_type":"result","data":{"task_id":"x"}}'));
    await publishResult(Buffer.concat([resultBody(taskId), Buffer.from([0xff])]));
    const invalid = resultBody(taskId, { data: 'X' });
    invalid[invalid.indexOf('X')] = 0xff;
    await publishResult(invalid);
    await publishResult(resultBody(randomUUID()));
    await publishResult(resultBody(taskId));
    await eventually(() => {
      assert.equal(streamed.length, 1);
    });
    await resultsTaken();
    const refusals = fixture.lines.filter((line) => line['message'] === 'a result was refused');
    assert.equal(refusals.length, 6);
    assert.ok(refusals.every((line) => typeof line['reason'] === 'string'));
  });

  it('treats a group whose queue is gone as one that is polled', async () => {
    const { taskId, groupId } = await submitOne();
    await managementRequest(
      fixture.services.managementUrl,
      'DELETE',
      `/queues/${fixture.vhost}/${endpoint.ownerId}.${groupId}`,
    );
    await publishResult(resultBody(taskId));
    await resultsTaken();
    assert.equal((await document(taskId))?.status, 'success');
  });

  it('brings a result of 8 MiB through', async () => {
    const { taskId, streamed } = await submitOne();
    const data = `11\n"${'é"\\'.repeat(2 ** 20)}"`;
    const body = resultBody(taskId, { data });
    await publishResult(body);
    await eventually(() => {
      assert.equal(streamed.length, 1);
    });
    assert.equal(streamed[0]?.body.equals(body), true);
    assert.equal((await document(taskId))?.result, data);
  });

  it('takes 2,000 results while connections are closed under it, and loses none', async () => {
    const answer = await fixture.plane.tasks.submit(submission(endpoint, 2_000));
    const taskIds = answer.tasks[endpoint.functionId] ?? [];
    const publishing = publishUntilConfirmed(taskIds);
    await eventually(async () => {
      assert.equal(await closeConnections(fixture), 2);
    });
    await publishing;
    await eventually(async () => {
      const documents = await fixture.plane.tasks.documents(endpoint.ownerId, taskIds);
      assert.equal([...documents.values()].filter(({ status }) => status === 'success').length, 2_000); // prettier-ignore
    });
    const { queue_prefix: prefix, connection_url: url } =
      await fixture.plane.topology.resultConnection(endpoint.ownerId);
    const streamed = await collect(await fixture.dial(url), prefix + answer.task_group_id);
    await eventually(() => {
      const seen = new Set(streamed.map(({ body }) => body.toString('latin1', 45, 81)));
      assert.equal(seen.size, 2_000);
    });
  });

  describe('heartbeats', () => {
    async function heartbeat(
      state: Record<string, unknown>,
      statuses: Record<string, TaskState[]> = {},
    ): Promise<void> {
      const body = packEpStatusReport({
        endpoint_id: endpoint.id,
        global_state: state,
        task_statuses: Object.fromEntries(
          Object.entries(statuses).map(([id, states]) => [
            id,
            states.map((one) => ({ timestamp: 1n, state: one, actor: 'endpoint' as const })),
          ]),
        ),
      });
      await publisher.publish('heartbeats', `${endpoint.id}.heartbeats`, body, { mandatory: true });
    }

    async function row(id = endpoint.id) {
      return await fixture.db
        .selectFrom('endpoints')
        .selectAll()
        .where('id', '=', id)
        .executeTakeFirstOrThrow();
    }

    it('show an endpoint as active, renew its lease, and end with its last report', async () => {
      await heartbeat({ heartbeat_period: 20, active: true, total_workers: 4, note: '\0' });
      await eventually(async () => {
        const { active, last_heartbeat_at: at, status_report: report, ...rest } = await row();
        assert.equal(active, true);
        assert.ok(at !== null && Math.abs(at.getTime() - Date.now()) < 60_000);
        assert.equal(report?.['total_workers'], 4);
        assert.equal(rest.heartbeat_period_s, 20);
        const leftMs = (rest.lease_expires_at?.getTime() ?? 0) - at.getTime();
        assert.ok(Math.abs(leftMs - 60_000) < 1_000, String(leftMs));
      });
      await heartbeat({ heartbeat_period: 20, active: false });
      await eventually(async () => {
        assert.equal((await row()).active, false);
      });
      await heartbeat({ heartbeat_period: 20 });
      await eventually(async () => {
        assert.equal((await row()).active, true);
      });
      await heartbeat({ heartbeat_period: 0 });
      await eventually(async () => {
        const { active, heartbeat_period_s: periodS } = await row();
        assert.equal(active, false);
        assert.equal(periodS, 20);
      });
    });

    it('with an error are logged and change nothing', async () => {
      await heartbeat({ heartbeat_period: 20 });
      await eventually(async () => {
        assert.equal((await row()).active, true);
      });
      await heartbeat({ error: 'no such template', heartbeat_period: 3 });
      await eventually(() => {
        assert.ok(fixture.lines.some((line) => line['reason'] === 'no such template'));
      });
      const { active, heartbeat_period_s: periodS } = await row();
      assert.equal(active, true);
      assert.equal(periodS, 20);
    });

    it('for another endpoint are refused', async () => {
      const victim = await registerEndpoint(fixture);
      await publisher.publish(
        'heartbeats',
        `${endpoint.id}.heartbeats`,
        packEpStatusReport({
          endpoint_id: victim.id,
          global_state: { heartbeat_period: 30 },
          task_statuses: {},
        }),
      );
      await eventually(() => {
        assert.ok(
          fixture.lines.some(
            (line) =>
              line['message'] === 'a heartbeat was refused' &&
              String(line['routingKey']).startsWith(endpoint.id),
          ),
        );
      });
      assert.equal((await row(victim.id)).active, false);
    });

    it('carry the progress of tasks, which never goes backwards and never past a result', async () => {
      const answer = await fixture.plane.tasks.submit(submission(endpoint, 2));
      const [first, second] = answer.tasks[endpoint.functionId] ?? [];
      assert.ok(first !== undefined && second !== undefined);
      await publishResult(resultBody(second));
      await eventually(async () => {
        assert.equal((await document(second))?.status, 'success');
      });
      const stranger = await registerEndpoint(fixture);
      const foreign = await fixture.plane.tasks.submit(submission(stranger, 1));
      const foreignId = onlyTask(foreign.tasks);
      await heartbeat(
        { heartbeat_period: 30 },
        {
          [first]: ['received'],
          [second]: ['received'],
          [foreignId]: ['running'],
          nonsense: ['running'],
        },
      );
      await eventually(async () => {
        assert.equal((await document(first))?.status, 'received');
      });
      await heartbeat({ heartbeat_period: 30 }, { [first]: ['received', 'running'] });
      await eventually(async () => {
        assert.equal((await document(first))?.status, 'running');
      });
      await heartbeat({ heartbeat_period: 30, mark: 'last' }, { [first]: ['received'] });
      await eventually(async () => {
        assert.equal((await row()).status_report?.['mark'], 'last');
      });
      assert.equal((await document(first))?.status, 'running');
      assert.equal((await document(second))?.status, 'success');
      assert.equal((await document(foreignId, stranger.ownerId))?.status, 'waiting-for-ep');
    });
  });

  it('waits for a database that is away, and loses nothing', async () => {
    const { taskId, streamed } = await submitOne();
    const name = new URL(fixture.services.databaseUrl);
    const database = await currentDatabase();
    const { default: pg } = await import('pg');
    const admin = new pg.Client({ connectionString: name.href });
    await admin.connect();
    const quoted = pg.escapeIdentifier(database);
    try {
      await admin.query(`alter database ${quoted} with allow_connections false`);
      await admin.query(
        'select pg_terminate_backend(pid) from pg_stat_activity where datname = $1',
        [database],
      );
      await publishResult(resultBody(taskId));
      await eventually(() => {
        assert.ok(
          fixture.lines.some(
            (line) => line['message'] === 'results cannot be stored, trying again',
          ),
        );
      });
      assert.equal(streamed.length, 0);
    } finally {
      await admin.query(`alter database ${quoted} with allow_connections true`);
      await admin.end();
    }
    await eventually(() => {
      assert.equal(streamed.length, 1);
    });
    assert.equal((await document(taskId))?.status, 'success');
  });

  async function currentDatabase(): Promise<string> {
    const { sql } = await import('kysely');
    const { rows } = await sql<{ name: string }>`select current_database() as name`.execute(
      fixture.db,
    );
    const [first] = rows;
    assert.ok(first !== undefined);
    return first.name;
  }
});

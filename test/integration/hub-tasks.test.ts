/** Tasks on their way from a submission to the queue of the endpoint. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';

import { systemClock } from '../../src/base/clock.ts';
import { createTaskPlane } from '../../src/hub/task-plane.ts';
import { storeHandBack } from '../../src/hub/tasks/hand-back.ts';
import { storeTaskProgress } from '../../src/hub/tasks/heartbeat-store.ts';
import { deleteExpired } from '../../src/hub/tasks/retention.ts';
import { markPublished } from '../../src/hub/tasks/task-rows.ts';
import { TaskUpkeep } from '../../src/hub/tasks/task-upkeep.ts';
import { unpackTask } from '../../src/protocol/messages.ts';
import type { Delivery } from '../../src/transport/amqp/consumer.ts';
import { eventually } from '../support/eventually.ts';
import { managementRequest } from '../support/services.ts';
import {
  FUNCTION_CODE,
  PAYLOAD,
  RETENTION_MS,
  closeConnections,
  collect,
  onlyTask,
  recordingLogger,
  registerEndpoint,
  resultBody,
  startPlane,
  submission,
} from '../support/task-plane.ts';
import type { PlaneFixture, TestEndpoint } from '../support/task-plane.ts';

describe('tasks in the hub', () => {
  let fixture: PlaneFixture;
  let endpoint: TestEndpoint;
  let delivered: Delivery[];

  before(async () => {
    fixture = await startPlane();
  });

  after(async () => {
    await fixture.close();
  });

  beforeEach(async () => {
    endpoint = await registerEndpoint(fixture);
    const connection = await fixture.dial(endpoint.url);
    delivered = await collect(connection, fixture.plane.topology.taskQueueName(endpoint));
  });

  async function unpublishedCount(): Promise<number> {
    const { count } = await fixture.db
      .selectFrom('tasks')
      .select(({ fn }) => fn.countAll<string>().as('count'))
      .where('endpoint_id', '=', endpoint.id)
      .where('published_at', 'is', null)
      .executeTakeFirstOrThrow();
    return Number(count);
  }

  it('brings a submitted task to the queue of its endpoint, function before arguments', async () => {
    const answer = await fixture.plane.tasks.submit(
      submission(endpoint, 1, {
        resource_specification: { num_nodes: 2 },
        result_serializers: ['globus_compute_sdk.serialize.concretes.JSONData'],
      }),
    );
    const taskId = onlyTask(answer.tasks);
    assert.equal(answer.endpoint_id, endpoint.id);
    await eventually(() => {
      assert.equal(delivered.length, 1);
    });
    const [delivery] = delivered;
    assert.ok(delivery !== undefined);
    assert.deepEqual(unpackTask(delivery.body), {
      task_id: taskId,
      task_buffer: FUNCTION_CODE + PAYLOAD,
    });
    assert.equal(delivery.headers['function_uuid'], endpoint.functionId);
    assert.equal(delivery.headers['task_uuid'], taskId);
    assert.equal(delivery.headers['resource_specification'], '{"num_nodes":2}');
    assert.deepEqual(delivery.headers['result_serializers'], [
      'globus_compute_sdk.serialize.concretes.JSONData',
    ]);
    await eventually(async () => {
      assert.equal(await unpublishedCount(), 0);
    });
    const documents = await fixture.plane.tasks.documents(endpoint.ownerId, [taskId]);
    assert.deepEqual(documents.get(taskId), { task_id: taskId, status: 'waiting-for-ep' });
  });

  it('answers with the keys as they were spelt and a task for each payload, in order', async () => {
    const second = endpoint.functionId.toUpperCase().replaceAll('-', '');
    const request = submission(endpoint, 0, {
      tasks: { [second]: ['3\n11\n', '4\n11\n1'], [endpoint.functionId]: [PAYLOAD] },
    });
    const found = { id: endpoint.functionId, code: FUNCTION_CODE };
    const answer = await fixture.plane.tasks.submit({
      ...request,
      functionCode: new Map([
        [second, found],
        [endpoint.functionId, found],
      ]),
    });
    assert.deepEqual(Object.keys(answer.tasks), [second, endpoint.functionId]);
    await eventually(() => {
      assert.equal(delivered.length, 3);
    });
    const byId = new Map(
      delivered.map(({ body }) => {
        const { task_id: id, task_buffer: buffer } = unpackTask(body);
        return [id, buffer.slice(FUNCTION_CODE.length)];
      }),
    );
    assert.deepEqual(
      answer.tasks[second]?.map((id) => byId.get(id)),
      ['3\n11\n', '4\n11\n1'],
    );
    assert.deepEqual(new Set(delivered.map(({ headers }) => headers['function_uuid'])), new Set([endpoint.functionId])); // prettier-ignore
  });

  it('publishes 10,000 tasks of one submission exactly once and in order', async () => {
    const answer = await fixture.plane.tasks.submit(submission(endpoint, 10_000));
    const expected = answer.tasks[endpoint.functionId];
    await eventually(() => {
      assert.equal(delivered.length, 10_000);
    });
    assert.deepEqual(
      delivered.map(({ headers }) => headers['task_uuid']),
      expected,
    );
    await eventually(async () => {
      assert.equal(await unpublishedCount(), 0);
    });
    const group = await fixture.plane.tasks.group(endpoint.ownerId, answer.task_group_id);
    assert.deepEqual(
      group?.tasks.map(({ id }) => id),
      expected,
    );
    assert.equal(delivered.length, 10_000);
  });

  it('accepts submissions while the broker connection is gone and publishes them when it is back', async () => {
    const warm = await fixture.plane.tasks.submit(submission(endpoint, 1));
    await eventually(() => {
      assert.equal(delivered.length, 1);
    });
    // The list of the management API lags behind the connections.
    await eventually(async () => {
      assert.equal(await closeConnections(fixture), 2);
    });
    const request = submission(endpoint, 100, { task_group_id: warm.task_group_id });
    const answer = await fixture.plane.tasks.submit(request);
    const again = await fixture.dial(endpoint.url);
    const redelivered = await collect(again, fixture.plane.topology.taskQueueName(endpoint));
    await eventually(() => {
      // The endpoint's first connection may be too young to have been closed.
      const all = [...delivered, ...redelivered];
      const seen = new Set(all.map(({ headers }) => headers['task_uuid']));
      for (const id of answer.tasks[endpoint.functionId] ?? []) {
        assert.ok(seen.has(id));
      }
    });
    await eventually(async () => {
      assert.equal(await unpublishedCount(), 0);
    });
  });

  it('publishes what a hub that died had inserted but not published', async () => {
    const orphan = randomUUID();
    const { task_group_id: groupId } = await fixture.plane.tasks.submit(submission(endpoint, 1));
    await fixture.db
      .insertInto('tasks')
      .values({
        id: orphan,
        group_id: groupId,
        owner_id: endpoint.ownerId,
        endpoint_id: endpoint.id,
        function_id: endpoint.functionId,
        payload: PAYLOAD,
        options: null,
        state: 'waiting-for-ep',
        created_at: new Date(Date.now() - 60_000),
      })
      .execute();
    const successor = createTaskPlane(fixture.options);
    await successor.start();
    try {
      await eventually(() => {
        assert.ok(delivered.some(({ headers }) => headers['task_uuid'] === orphan));
      });
    } finally {
      await successor.stop();
    }
  });

  it('hands out again what was given back, whatever comes late from before', async () => {
    const idle = await registerEndpoint(fixture);
    const { db, plane } = fixture;
    const taskIds = Object.values((await plane.tasks.submit(submission(idle, 2))).tasks).flat();
    const publishedIds = async (): Promise<string[]> => {
      const rows = await db
        .selectFrom('tasks')
        .select('id')
        .where('endpoint_id', '=', idle.id)
        .where('published_at', 'is not', null)
        .execute();
      return rows.map(({ id }) => id).sort();
    };
    await eventually(async () => {
      assert.deepEqual(await publishedIds(), [...taskIds].sort());
    });
    const queue = plane.topology.taskQueueName(idle);
    const seen = await collect(await fixture.dial(idle.url), queue);
    await eventually(() => {
      assert.equal(seen.length, 2);
    });
    // Not by way of the plane, which would publish them at once.
    assert.equal(await storeHandBack(db, { endpointId: idle.id, epoch: 1, taskIds }), 2);
    const [confirmed = '', received = ''] = taskIds;
    await markPublished(db, [{ id: confirmed }]);
    await storeTaskProgress(db, [{ taskId: received, endpointId: idle.id, state: 'received' }]);
    assert.deepEqual(await publishedIds(), []);
    const more = Object.values((await plane.tasks.submit(submission(idle, 1))).tasks).flat();
    await plane.tasks.handBack({ endpointId: idle.id, epoch: 1, taskIds: more });
    await eventually(() => {
      const again = seen.slice(2).map(({ headers }) => headers['task_uuid']);
      assert.deepEqual([...new Set(again)].sort(), [...taskIds, ...more].sort());
    });
    await eventually(async () => {
      assert.deepEqual(await publishedIds(), [...taskIds, ...more].sort());
    });
  });

  it('makes a task queue again that was deleted, and hands out again what it had held', async () => {
    const queue = fixture.plane.topology.taskQueueName(endpoint);
    const idle = await registerEndpoint(fixture);
    const idleQueue = fixture.plane.topology.taskQueueName(idle);
    const first = await fixture.plane.tasks.submit(submission(idle, 3));
    await eventually(async () => {
      const rows = await fixture.db
        .selectFrom('tasks')
        .select('id')
        .where('endpoint_id', '=', idle.id)
        .where('published_at', 'is not', null)
        .execute();
      assert.equal(rows.length, 3);
    });
    await managementRequest(
      fixture.services.managementUrl,
      'DELETE',
      `/queues/${fixture.vhost}/${idleQueue}`,
    );
    const second = await fixture.plane.tasks.submit(submission(idle, 1));
    const connection = await fixture.dial(idle.url);
    await eventually(async () => {
      await (await fixture.dial(idle.url)).withChannel(async (channel) => await channel.checkQueue(idleQueue)); // prettier-ignore
    });
    const seen = await collect(connection, idleQueue);
    await eventually(() => {
      assert.deepEqual(
        new Set(seen.map(({ headers }) => headers['task_uuid'])),
        new Set([...Object.values(first.tasks).flat(), ...Object.values(second.tasks).flat()]),
      );
    });
    assert.notEqual(queue, idleQueue);
  });

  it('fails the tasks of an endpoint that is deleted, and says so on the result queue', async () => {
    const doomed = await registerEndpoint(fixture);
    const answer = await fixture.plane.tasks.submit(submission(doomed, 2));
    const { queue_prefix: prefix, connection_url: url } =
      await fixture.plane.topology.resultConnection(doomed.ownerId);
    const results = await collect(await fixture.dial(url), prefix + answer.task_group_id);
    await fixture.db
      .updateTable('endpoints')
      .set({ deleted_at: new Date() })
      .where('id', '=', doomed.id)
      .execute();
    await fixture.plane.topology.deleteEndpoint(doomed);
    await eventually(() => {
      assert.equal(results.length, 2);
    });
    const taskIds = Object.values(answer.tasks).flat();
    const documents = await fixture.plane.tasks.documents(doomed.ownerId, taskIds);
    for (const taskId of taskIds) {
      assert.equal(documents.get(taskId)?.status, 'failed');
      assert.equal(documents.get(taskId)?.outpost?.error?.code, 'ENDPOINT_DELETED');
    }
  });

  it('fails the tasks of an endpoint whose deletion broke off half-way', async () => {
    const doomed = await registerEndpoint(fixture);
    const answer = await fixture.plane.tasks.submit(submission(doomed, 2));
    await fixture.db
      .updateTable('endpoints')
      .set({ deleted_at: new Date() })
      .where('id', '=', doomed.id)
      .execute();
    const streamed: string[] = [];
    const upkeep = new TaskUpkeep({
      db: fixture.db,
      clock: systemClock,
      logger: recordingLogger().logger,
      retentionMs: RETENTION_MS,
      taskTtlMs: RETENTION_MS,
      lostAfterMs: RETENTION_MS,
      consumingSinceMs: () => undefined,
      revoke: async () => {
        await Promise.resolve();
      },
      revokeEpoch: async () => {
        await Promise.resolve();
      },
      isOnline: () => true,
      stream: async ({ taskId }) => {
        await Promise.resolve(streamed.push(taskId));
      },
    });
    await upkeep.failTasksOfDeleted();
    const taskIds = Object.values(answer.tasks).flat();
    assert.deepEqual(new Set(streamed), new Set(taskIds));
    const documents = await fixture.plane.tasks.documents(doomed.ownerId, taskIds);
    for (const taskId of taskIds) {
      assert.equal(documents.get(taskId)?.outpost?.error?.code, 'ENDPOINT_DELETED');
    }
  });

  it('refuses options that are larger than headers may be, counted in bytes', async () => {
    const note = '\u20ac'.repeat(20_000);
    await assert.rejects(
      fixture.plane.tasks.submit(submission(endpoint, 1, { resource_specification: { note } })),
      { code: 'SEMANTICALLY_INVALID', httpStatus: 422 },
    );
  });

  it('fails a task that no message can carry, and publishes the others', async () => {
    const poison = await fixture.plane.tasks.submit(submission(endpoint, 1));
    const taskId = onlyTask(poison.tasks);
    await eventually(async () => {
      assert.equal(await unpublishedCount(), 0);
    });
    await fixture.db
      .updateTable('tasks')
      .set({
        published_at: null,
        created_at: new Date(Date.now() - 60_000),
        options: JSON.stringify({ resource_specification: { note: 'x'.repeat(100_000) } }),
      })
      .where('id', '=', taskId)
      .execute();
    // The sweep finds it.
    await eventually(async () => {
      const documents = await fixture.plane.tasks.documents(endpoint.ownerId, [taskId]);
      assert.equal(documents.get(taskId)?.outpost?.error?.code, 'SEMANTICALLY_INVALID');
    });
    const refusals = fixture.lines.filter(
      (line) => line['message'] === 'no message can carry a task',
    );
    assert.equal(refusals.length, 1);
    const next = await fixture.plane.tasks.submit(submission(endpoint, 1));
    await eventually(() => {
      assert.ok(delivered.some(({ headers }) => headers['task_uuid'] === onlyTask(next.tasks)));
    });
  });

  it('has the queue of the task group before it answers', async () => {
    const answer = await fixture.plane.tasks.submit(submission(endpoint, 1));
    const { queue_prefix: prefix, connection_url: url } =
      await fixture.plane.topology.resultConnection(endpoint.ownerId);
    await collect(await fixture.dial(url), prefix + answer.task_group_id);
  });

  it('answers the same submission under one idempotency key once, even at the same time', async () => {
    const idempotency = { key: randomUUID(), requestHash: randomBytes(32) };
    const request = { ...submission(endpoint, 3), idempotency };
    const answers = await Promise.all(
      Array.from({ length: 5 }, async () => await fixture.plane.tasks.submit(request)),
    );
    const again = await fixture.plane.tasks.submit(request);
    for (const answer of [...answers, again]) {
      assert.deepEqual(answer, answers[0]);
    }
    await eventually(() => {
      assert.equal(delivered.length, 3);
    });
    await assert.rejects(
      fixture.plane.tasks.submit({
        ...request,
        idempotency: { ...idempotency, requestHash: randomBytes(32) },
      }),
      { code: 'SEMANTICALLY_INVALID', httpStatus: 422 },
    );
  });

  it('keeps a task group to its owner', async () => {
    const { task_group_id: groupId, tasks } = await fixture.plane.tasks.submit(
      submission(endpoint, 1),
    );
    const stranger = await registerEndpoint(fixture);
    await assert.rejects(
      fixture.plane.tasks.submit(submission(stranger, 1, { task_group_id: groupId })),
      { code: 'TASK_GROUP_ACCESS_FORBIDDEN', httpStatus: 403 },
    );
    assert.equal(await fixture.plane.tasks.group(stranger.ownerId, groupId), undefined);
    const documents = await fixture.plane.tasks.documents(stranger.ownerId, [onlyTask(tasks)]);
    assert.equal(documents.size, 0);
    // Many at once into one group, as the executors of one process do.
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        await fixture.plane.tasks.submit(submission(endpoint, 2, { task_group_id: groupId }));
      }),
    );
    const group = await fixture.plane.tasks.group(endpoint.ownerId, groupId.toUpperCase());
    assert.equal(group?.taskgroup_id, groupId);
    assert.equal(group.tasks.length, 21);
  });

  it('takes a group id that it has not seen, and refuses what cannot be stored before storing anything', async () => {
    const groupId = randomUUID();
    const tasks = { [endpoint.functionId]: [PAYLOAD, 'a\0b'] };
    await assert.rejects(
      fixture.plane.tasks.submit(submission(endpoint, 0, { task_group_id: groupId, tasks })),
      { code: 'SEMANTICALLY_INVALID' },
    );
    assert.equal(await fixture.plane.tasks.group(endpoint.ownerId, groupId), undefined);
    const answer = await fixture.plane.tasks.submit(
      submission(endpoint, 1, { task_group_id: groupId }),
    );
    assert.equal(answer.task_group_id, groupId);
    await assert.rejects(
      fixture.plane.tasks.submit({ ...submission(endpoint, 1), endpointId: randomUUID() }),
      { code: 'ENDPOINT_NOT_FOUND', httpStatus: 404 },
    );
  });

  it('deletes tasks, groups, answers and tokens after the retention, and nothing before', async () => {
    const idempotency = { key: randomUUID(), requestHash: randomBytes(32) };
    const old = await fixture.plane.tasks.submit({ ...submission(endpoint, 2), idempotency });
    const young = await fixture.plane.tasks.submit(submission(endpoint, 1));
    const past = new Date(Date.now() - RETENTION_MS - 60_000);
    for (const table of ['tasks', 'task_groups'] as const) {
      await fixture.db
        .updateTable(table)
        .set({ created_at: past })
        .where(table === 'tasks' ? 'group_id' : 'id', '=', old.task_group_id)
        .execute();
    }
    await fixture.db
      .updateTable('submissions')
      .set({ created_at: past })
      .where('idempotency_key', '=', idempotency.key)
      .execute();
    const early = await deleteExpired(fixture.db, Date.now(), RETENTION_MS, RETENTION_MS);
    assert.equal(early.tasks, 0, 'a task that was not given up went in silence');
    await fixture.db
      .updateTable('tasks')
      .set({ completed_at: past })
      .where('group_id', '=', old.task_group_id)
      .execute();
    const counts = await deleteExpired(fixture.db, Date.now(), RETENTION_MS, RETENTION_MS);
    assert.deepEqual(
      { ...counts, submissions: early.submissions },
      { tasks: 2, groups: 1, submissions: 1, tokens: 0 },
    );
    assert.equal(await fixture.plane.tasks.group(endpoint.ownerId, old.task_group_id), undefined);
    const group = await fixture.plane.tasks.group(endpoint.ownerId, young.task_group_id);
    assert.equal(group?.tasks.length, 1);
  });

  it('keeps a task that waited for the whole retention and was received just now', async () => {
    const { tasks } = await fixture.plane.tasks.submit(submission(endpoint, 1));
    await fixture.db
      .updateTable('tasks')
      .set({ created_at: new Date(Date.now() - RETENTION_MS - 60_000), received_at: new Date() })
      .where('id', '=', onlyTask(tasks))
      .execute();
    const counts = await deleteExpired(fixture.db, Date.now(), RETENTION_MS, 0);
    assert.equal(counts.tasks, 0);
  });

  it('refuses the result of a task that the retention has taken', async () => {
    const connection = await fixture.dial(endpoint.url);
    const publisher = await connection.openPublisher();
    const unknown = randomUUID();
    await publisher.publish('results', `${endpoint.id}.results`, resultBody(unknown));
    await eventually(() => {
      assert.ok(fixture.lines.some((line) => line['taskId'] === unknown));
    });
  });
});

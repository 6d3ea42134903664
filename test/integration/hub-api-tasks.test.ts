import assert from 'node:assert/strict';

import { FUNCTION_BYTES_MAX, SUBMISSION_BYTES_MAX } from '../../src/protocol/limits.ts';
import { packResult } from '../../src/protocol/messages.ts';
import type { SubmissionAccepted, TaskDocument } from '../../src/protocol/rest.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import { assertRefused, registerEndpoint, registerFunction, TestHub } from './hub-api-support.ts';
import type { Answer, Json, Person } from './hub-api-support.ts';

const PAYLOAD = packBuffers(['11\n[1]', '11\n{}']);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

describe('tasks at the hub', () => {
  let hub: TestHub;
  let owner: Person;
  let stranger: Person;
  let endpointId: string;
  let functionId: string;
  before(async () => {
    hub = await TestHub.start();
    owner = await hub.person();
    stranger = await hub.person();
    endpointId = (await registerEndpoint(owner)).endpoint_id;
    functionId = await registerFunction(owner);
  });
  after(async () => {
    await hub.stop();
  });

  async function submit(
    tasks: Json,
    more: Json = {},
    person = owner,
    endpoint = endpointId,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    return await person.call(
      'POST',
      `/v3/endpoints/${endpoint}/submit`,
      { tasks, ...more },
      headers,
    );
  }

  async function accepted(answer: Promise<Answer>): Promise<SubmissionAccepted> {
    const { status, body } = await answer;
    assert.equal(status, 200, JSON.stringify(body));
    return body as unknown as SubmissionAccepted;
  }

  it('are accepted with the same keys and lengths, in order', async () => {
    const other = await registerFunction(owner);
    const body = await accepted(
      submit(
        { [functionId]: [PAYLOAD, PAYLOAD], [other]: [PAYLOAD] },
        {
          create_queue: true,
          user_runtime: { python_version: '3' },
          resource_specification: null,
        },
      ),
    );
    assert.match(body.request_id, UUID);
    assert.match(body.task_group_id, UUID);
    assert.equal(body.endpoint_id, endpointId);
    assert.deepEqual(Object.keys(body.tasks), [functionId, other]);
    assert.deepEqual(
      Object.values(body.tasks).map((ids) => ids.length),
      [2, 1],
    );
  });

  it('are answered under the function id as it was spelt', async () => {
    const spelt = functionId.replaceAll('-', '').toUpperCase();
    const body = await accepted(submit({ [spelt]: [PAYLOAD] }));
    assert.deepEqual(Object.keys(body.tasks), [spelt]);
  });

  it('are read one by one, in batches and by group', async () => {
    const body = await accepted(submit({ [functionId]: [PAYLOAD, PAYLOAD] }));
    const [first = '', second = ''] = body.tasks[functionId] ?? [];
    const one = await owner.call('GET', `/v2/tasks/${first}`);
    assert.deepEqual(one.body, { task_id: first, status: 'waiting-for-ep' });
    const spelt = second.toUpperCase();
    const batch = await owner.call('POST', '/v2/batch_status', {
      task_ids: [first, spelt, crypto.randomUUID()],
    });
    assert.equal(batch.body['response'], 'batch');
    const results = batch.body['results'] as Record<string, TaskDocument>;
    assert.deepEqual(Object.keys(results), [first, spelt]);
    const group = await owner.call('GET', `/v2/taskgroup/${body.task_group_id}`);
    assert.equal(group.body['taskgroup_id'], body.task_group_id);
    const ids = (group.body['tasks'] as { id: string }[]).map((task) => task.id);
    assert.deepEqual(ids.sort(), [first, second].sort());
  });

  it('are hidden from everybody else', async () => {
    const body = await accepted(submit({ [functionId]: [PAYLOAD] }));
    const id = body.tasks[functionId]?.[0] ?? '';
    assertRefused(await stranger.call('GET', `/v2/tasks/${id}`), 404, 'TASK_NOT_FOUND');
    const batch = await stranger.call('POST', '/v2/batch_status', { task_ids: [id] });
    assert.deepEqual(batch.body['results'], {});
    assert.ok((await stranger.call('GET', `/v2/taskgroup/${body.task_group_id}`)).status >= 403);
  });

  it('join a group of the caller’s, and of nobody else', async () => {
    const first = await accepted(submit({ [functionId]: [PAYLOAD] }));
    const second = await accepted(
      submit({ [functionId]: [PAYLOAD] }, { task_group_id: first.task_group_id }),
    );
    assert.equal(second.task_group_id, first.task_group_id);
    const theirs = (await registerEndpoint(stranger)).endpoint_id;
    const theirFunction = await registerFunction(stranger);
    assertRefused(
      await submit(
        { [theirFunction]: [PAYLOAD] },
        { task_group_id: first.task_group_id },
        stranger,
        theirs,
      ),
      403,
      'TASK_GROUP_ACCESS_FORBIDDEN',
    );
  });

  it('are refused on endpoints and with functions that the caller may not use', async () => {
    const theirs = await registerFunction(stranger);
    assertRefused(
      await submit({ [theirs]: [PAYLOAD] }, {}, stranger),
      403,
      'ENDPOINT_ACCESS_FORBIDDEN',
    );
    assertRefused(await submit({ [theirs]: [PAYLOAD] }), 403, 'FUNCTION_ACCESS_FORBIDDEN');
    assertRefused(await submit({ [crypto.randomUUID()]: [PAYLOAD] }), 404, 'FUNCTION_NOT_FOUND');
    assertRefused(
      await submit({ [functionId]: [PAYLOAD] }, {}, owner, crypto.randomUUID()),
      404,
      'ENDPOINT_NOT_FOUND',
    );
    assertRefused(await submit({ nonsense: [PAYLOAD] }), 400, 'INVALID_UUID');
  });

  it('run public functions on public endpoints of others', async () => {
    const open = (await registerEndpoint(owner, { public: true })).endpoint_id;
    const shared = await registerFunction(owner, { public: true });
    await accepted(submit({ [shared]: [PAYLOAD] }, {}, stranger, open));
  });

  it('are refused when the endpoint allows only other functions', async () => {
    const allowed = await registerFunction(owner);
    const { endpoint_id: closed } = await registerEndpoint(owner, { allowed_functions: [allowed] });
    await accepted(submit({ [allowed]: [PAYLOAD] }, {}, owner, closed));
    assertRefused(
      await submit({ [functionId]: [PAYLOAD] }, {}, owner, closed),
      403,
      'FUNCTION_NOT_PERMITTED',
    );
  });

  it('are refused as a whole when there are too many', async () => {
    const count = hub.settings.limits.submissionTasksMax + 1;
    assertRefused(
      await submit({ [functionId]: Array.from({ length: count }, () => PAYLOAD) }),
      413,
      'BATCH_RUN_TOO_LARGE',
    );
  });

  it('cannot use a function any more once it was deleted', async () => {
    const id = await registerFunction(owner);
    await accepted(submit({ [id]: [PAYLOAD] }));
    await owner.call('DELETE', `/v2/functions/${id}`);
    assertRefused(await submit({ [id]: [PAYLOAD] }), 404, 'FUNCTION_NOT_FOUND');
  });

  // The Globus SDK sends a submission again on time-outs and 5xx.
  it('are submitted once under one Idempotency-Key', async () => {
    const headers = { 'idempotency-key': crypto.randomUUID() };
    const tasks = { [functionId]: [PAYLOAD] };
    const first = await accepted(submit(tasks, {}, owner, endpointId, headers));
    const second = await accepted(submit(tasks, {}, owner, endpointId, headers));
    assert.deepEqual(second, first);
    assertRefused(
      await submit({ [functionId]: [PAYLOAD, PAYLOAD] }, {}, owner, endpointId, headers),
      422,
      'SEMANTICALLY_INVALID',
    );
    assertRefused(
      await submit(tasks, {}, owner, endpointId, { 'idempotency-key': 'x'.repeat(300) }),
      400,
      'REQUEST_MALFORMED',
    );
  });

  it('are answered in order on v2, across functions and endpoints', async () => {
    const { endpoint_id: other } = await registerEndpoint(owner);
    const second = await registerFunction(owner);
    const answer = await owner.call('POST', '/v2/submit', {
      tasks: [
        [functionId, endpointId, PAYLOAD],
        [second, other, PAYLOAD],
        [functionId, endpointId, PAYLOAD],
      ],
    });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    const ids = (answer.body['results'] as Json[]).map((result) => String(result['task_uuid']));
    assert.equal(new Set(ids).size, 3);
    const rows = await hub.db
      .selectFrom('tasks')
      .select(['id', 'function_id', 'endpoint_id', 'group_id'])
      .where('id', 'in', ids)
      .execute();
    const placed = ids.map((id) => rows.find((row) => row.id === id));
    assert.deepEqual(
      placed.map((row) => [row?.function_id, row?.endpoint_id]),
      [
        [functionId, endpointId],
        [second, other],
        [functionId, endpointId],
      ],
    );
    assert.deepEqual(
      new Set(rows.map((row) => row.group_id)),
      new Set([answer.body['task_group_id']]),
    );
  });

  it('have no effect on v2 when a later one is refused', async () => {
    const { endpoint_id: other } = await registerEndpoint(owner);
    const count = async (): Promise<string> =>
      (
        await hub.db
          .selectFrom('tasks')
          .select(({ fn }) => fn.countAll<string>().as('count'))
          .executeTakeFirstOrThrow()
      ).count;
    const before = await count();
    for (const [refused, status, code] of [
      [['nonsense', other, PAYLOAD], 400, 'INVALID_UUID'],
      [[crypto.randomUUID(), other, PAYLOAD], 404, 'FUNCTION_NOT_FOUND'],
      [[functionId, crypto.randomUUID(), PAYLOAD], 404, 'ENDPOINT_NOT_FOUND'],
      [[functionId, other, 'a\0b'], 422, 'SEMANTICALLY_INVALID'],
    ] as const) {
      const tasks = [[functionId, endpointId, PAYLOAD], refused];
      assertRefused(await owner.call('POST', '/v2/submit', { tasks }), status, code);
    }
    assert.equal(await count(), before);
  });

  it('are refused when function and arguments are larger than a message may be, and accepted with 5 MB', async () => {
    const limits = {
      submissionBytesMax: SUBMISSION_BYTES_MAX,
      functionBytesMax: FUNCTION_BYTES_MAX,
      submissionTasksMax: 100,
    };
    const roomy = await TestHub.start({ limits });
    try {
      const person = await roomy.person();
      const { endpoint_id: id } = await registerEndpoint(person);
      const code = packBuffers([`js\n${'x'.repeat(9.5 * 1024 * 1024)}`]);
      const large = await registerFunction(person, { function_code: code });
      const payload = (bytes: number) => packBuffers([`11\n["${'y'.repeat(bytes)}"]`, '11\n{}']);
      const six = { [large]: [payload(6 * 1024 * 1024)] };
      assertRefused(
        await submit(six, {}, person, id),
        413,
        'TASK_PAYLOAD_TOO_LARGE',
        /bytes of arguments/u,
      );
      await accepted(submit({ [large]: [payload(5_000_000)] }, {}, person, id));
      // Each line break takes two bytes in the message.
      const lines = packBuffers([`js\n${'\n'.repeat(4.9 * 1024 * 1024)}`]);
      const broken = await registerFunction(person, { function_code: lines });
      assertRefused(
        await submit({ [broken]: [payload(6 * 1024 * 1024)] }, {}, person, id),
        413,
        'TASK_PAYLOAD_TOO_LARGE',
        /bytes of arguments/u,
      );
    } finally {
      await roomy.stop();
    }
  });

  it('are read in batches whose results would not fit into memory at once', async () => {
    const { tasks } = await accepted(
      submit({ [functionId]: Array.from({ length: 8 }, () => PAYLOAD) }),
    );
    const ids = Object.values(tasks).flat();
    const data = 'z'.repeat(7 * 1024 * 1024);
    for (const id of ids.slice(1)) {
      const result = packResult({
        task_id: id,
        data: `${id}${data}`,
        details: null,
        error_details: null,
        task_statuses: null,
      });
      await hub.db
        .updateTable('tasks')
        .set({ state: 'success', completed_at: new Date(), result })
        .where('id', '=', id)
        .execute();
    }
    const batch = await owner.call('POST', '/v2/batch_status', {
      task_ids: [...ids, crypto.randomUUID()],
    });
    assert.equal(batch.status, 200);
    assert.match(batch.headers.get('content-type') ?? '', /^application\/json/);
    const results = batch.body['results'] as Record<string, TaskDocument>;
    assert.deepEqual(Object.keys(results).sort(), [...ids].sort());
    assert.equal(results[ids[0] ?? '']?.status, 'waiting-for-ep');
    for (const id of ids.slice(1)) {
      assert.equal(results[id]?.result, `${id}${data}`);
    }
  });

  it('stream their results to a queue that only their owner can read', async () => {
    const { body } = await owner.call('GET', '/v2/get_amqp_result_connection_url');
    assert.equal(body['queue_prefix'], `${owner.id}.`);
    assert.match(String(body['connection_url']), /^amqp:\/\//);
    const again = await owner.call('GET', '/v2/get_amqp_result_connection_url');
    assert.deepEqual(again.body, body);
  });
});

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { UnavailableError } from '../../../src/base/errors.ts';
import { submitV2 } from '../../../src/hub/http/routes/submit-v2.ts';
import type { SubmitSteps } from '../../../src/hub/http/routes/submit-v2.ts';
import type { SubmissionBodyV2 } from '../../../src/hub/http/schemas.ts';
import type { SubmitRequest } from '../../../src/hub/tasks/task-service.ts';

const [HERE, THERE] = [randomUUID(), randomUUID()];
const [ONE, TWO] = [randomUUID(), randomUUID()];

const BODY: SubmissionBodyV2 = {
  tasks: [
    [ONE, HERE, 'a'],
    [TWO, THERE, 'b'],
    [ONE, THERE, 'c'],
    [ONE, HERE, 'd'],
  ],
  resource_specification: { walltime: 60 },
  user_endpoint_config: null,
};

/** Answers with a task id for each payload, and remembers what was submitted. */
function steps(
  key: string | undefined,
  { callerId = 'me', failAt }: { callerId?: string; failAt?: string } = {},
): SubmitSteps & { readonly submitted: SubmitRequest[] } {
  const submitted: SubmitRequest[] = [];
  return {
    submitted,
    callerId,
    tasksMax: 10,
    idempotency: key === undefined ? undefined : { key, requestHash: Buffer.from('body') },
    check: async (endpointId, submission) =>
      await Promise.resolve({ ownerId: callerId, endpointId, functionCode: new Map(), submission }),
    submit: async (request) => {
      if (request.endpointId === failAt) {
        throw new UnavailableError('DATABASE_UNREACHABLE', 'the database is away');
      }
      submitted.push(request);
      const { tasks, task_group_id: groupId = '' } = request.submission;
      const ids = Object.entries(tasks).map(([id, payloads]) => [
        id,
        payloads.map((payload) => `task ${payload}`),
      ]);
      return await Promise.resolve({
        request_id: '',
        task_group_id: groupId,
        endpoint_id: request.endpointId,
        tasks: Object.fromEntries(ids) as Record<string, string[]>,
      });
    },
  };
}

describe('a submission to several endpoints', () => {
  it('becomes one for each, with its options, and is answered in its own order', async () => {
    const made = steps(undefined);
    const answer = await submitV2(BODY, made);
    const results = answer['results'] as { task_uuid: string }[];
    assert.deepEqual(
      results.map(({ task_uuid: id }) => id),
      ['task a', 'task b', 'task c', 'task d'],
    );
    assert.deepEqual(
      made.submitted.map(({ endpointId }) => endpointId),
      [HERE, THERE],
    );
    for (const { submission, idempotency } of made.submitted) {
      assert.deepEqual(submission.resource_specification, { walltime: 60 });
      assert.ok(!('user_endpoint_config' in submission));
      assert.equal(submission.task_group_id, answer['task_group_id']);
      assert.equal(idempotency, undefined);
    }
    assert.notEqual(
      (await submitV2(BODY, steps(undefined)))['task_group_id'],
      answer['task_group_id'],
    );
  });

  it('goes on under its key where it broke off between two endpoints', async () => {
    const broken = steps('key', { failAt: THERE });
    await assert.rejects(submitV2(BODY, broken), UnavailableError);
    const again = steps('key');
    const answer = await submitV2(BODY, again);
    // The first is the same submission as before: same key, same group.
    assert.deepEqual(again.submitted[0], broken.submitted[0]);
    assert.notEqual(again.submitted[0]?.idempotency?.key, again.submitted[1]?.idempotency?.key);
    assert.match(
      String(answer['task_group_id']),
      /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    const other = await submitV2(BODY, steps('key', { callerId: 'somebody else' }));
    assert.notEqual(other['task_group_id'], answer['task_group_id']);
  });

  it('names every task, however the id of its function is spelt', async () => {
    const tasks: SubmissionBodyV2['tasks'] = [
      [ONE.toUpperCase(), HERE, 'a'],
      [ONE, HERE.toUpperCase(), 'b'],
    ];
    const made = steps(undefined);
    const answer = await submitV2({ tasks }, made);
    const results = answer['results'] as { task_uuid: string }[];
    assert.deepEqual(
      results.map(({ task_uuid: id }) => id),
      ['task a', 'task b'],
    );
    assert.deepEqual(made.submitted[0]?.submission.tasks, { [ONE]: ['a', 'b'] });
  });

  it('is refused for an id that is none, also one that every object has', async () => {
    for (const id of ['nonsense', 'constructor', '__proto__']) {
      await assert.rejects(submitV2({ tasks: [[id, HERE, 'a']] }, steps(undefined)), {
        code: 'INVALID_UUID',
      });
    }
  });

  it('has as many tasks as any other, over all of its endpoints', async () => {
    const tasks = Array.from({ length: 11 }, (): [string, string, string] => [
      ONE,
      randomUUID(),
      'a',
    ]);
    const made = steps(undefined);
    await assert.rejects(submitV2({ tasks }, made), { code: 'BATCH_RUN_TOO_LARGE' });
    assert.equal(made.submitted.length, 0);
  });
});

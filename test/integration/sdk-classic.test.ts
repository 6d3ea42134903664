/** The classic face of the SDK against a hub that the test plays: batches, records, the throttle, what is cached. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import type { Submission } from '../../src/protocol/rest.ts';
import { unpackBuffers } from '../../src/protocol/serialization.ts';
import {
  AuthError,
  BatchError,
  Client,
  ProtocolError,
  SerializationError,
  TaskExecutionError,
  TaskPendingError,
  UsageError,
} from '../../src/sdk/index.ts';
import type { ClientOptions } from '../../src/sdk/index.ts';
import { FakeHub, errorBody } from '../support/fake-hub.ts';
import type { FakeTask } from '../support/fake-hub.ts';

describe('classic client', () => {
  let hub: FakeHub;
  let client: Client;
  const here = randomUUID();
  const there = randomUUID();

  beforeEach(async () => {
    hub = await FakeHub.start();
    client = makeClient();
  });

  afterEach(async () => {
    await hub.stop();
  });

  function makeClient(options: ClientOptions = {}): Client {
    const { url: hubUrl, clientId, clientSecret } = hub;
    return new Client({ hubUrl, clientId, clientSecret, retries: 0, ...options });
  }

  function taskOf(taskId: string): FakeTask {
    const task = hub.tasks.get(taskId);
    assert.ok(task);
    return task;
  }

  /** Positional and keyword arguments of a task. */
  function argumentsOf(taskId: string): unknown[] {
    return unpackBuffers(taskOf(taskId).payload).map(
      (text) => JSON.parse(text.slice(3)) as unknown,
    );
  }

  function succeed(taskId: string, value: unknown): void {
    hub.documents.set(taskId, {
      task_id: taskId,
      status: 'success',
      result: `11\n${JSON.stringify(value)}`,
      completion_t: '1632876695.6450012',
    });
  }

  it('keeps the arguments of a call apart from where it runs', async () => {
    const fn = await client.registerFunction(
      (endpointId: string, n: number) => `${endpointId}${n}`,
    );
    const taskId = await client.run(fn, { endpointId: here, args: ['mine', 1] });
    assert.deepEqual(argumentsOf(taskId), [['mine', 1], {}]);
    assert.equal(taskOf(taskId).endpointId, here);
    const other = await client.run(fn.id, { endpointId: there, kwargs: { endpointId: 'mine' } });
    assert.deepEqual(argumentsOf(other), [[], { endpointId: 'mine' }]);
    const same = await client.run(fn, there, ['mine', 2], { kwargs: { args: 3 } });
    assert.deepEqual(argumentsOf(same), [['mine', 2], { args: 3 }]);
    await assert.rejects(client.run(fn.id, { endpointId: '' }), UsageError);
    // The value has the type that the function returns.
    succeed(taskId, 'mine1');
    const value: string = await client.getResult(taskId);
    assert.equal(value, 'mine1');
  });

  it('registers a function with all that is said about it', async () => {
    const group = randomUUID();
    const container = randomUUID();
    function add(a: number, b: number): number {
      /** Adds two numbers. */
      return a + b;
    }
    const first = await client.registerFunction(add, { group, container });
    assert.deepEqual(hub.functions.get(first.id), {
      function_name: 'add',
      function_code: hub.functions.get(first.id)?.function_code,
      meta: { serde_identifier: 'js', sdk: 'outpost-sdk' },
      description: 'Adds two numbers.',
      group,
      container_uuid: container,
    });
    const source = 'def double(x):\n    """Doubles."""\n    return 2 * x\n';
    const second = await client.registerPythonFunction<[number], number>(source);
    assert.equal(hub.functions.get(second.id)?.description, 'Doubles.');
    const third = await client.registerFunction(source, {
      language: 'python',
      name: 'double',
      description: 'My function',
      public: true,
    });
    const { description, public: isPublic } = hub.functions.get(third.id) ?? {};
    assert.deepEqual([description, isPublic], ['My function', true]);
    const taskId = await client.run(second, { endpointId: here, args: [2] });
    assert.deepEqual(taskOf(taskId).submission.result_serializers?.length, 1);
  });

  it('submits a batch in one request for each endpoint, and returns the ids in order', async () => {
    const fn = await client.registerFunction((x: number) => x);
    const other = await client.registerPythonFunction('def f(x):\n    return x\n');
    const batch = client.createBatch();
    const list = [0];
    for (let x = 0; x < 10; x += 1) {
      list[0] = x;
      batch.add(x % 3 === 0 ? other.id : fn, {
        endpointId: x % 2 === 0 ? here : there,
        args: list as unknown as [number],
      });
    }
    const ids = await client.batchRun(batch);
    assert.deepEqual(
      ids.map((id) => argumentsOf(id)[0]),
      Array.from({ length: 10 }, (_, x) => [x]),
    );
    assert.deepEqual(
      ids.map((id) => taskOf(id).endpointId),
      Array.from({ length: 10 }, (_, x) => (x % 2 === 0 ? here : there)),
    );
    const submissions = hub.seen('/submit').map(({ path, text, headers }) => {
      const { tasks, ...settings } = JSON.parse(text) as Submission;
      assert.equal(typeof headers['idempotency-key'], 'string');
      return { endpoint: path.includes(here), tasks: Object.keys(tasks).length, settings };
    });
    // Functions known by their id alone are asked for JSON, and so cannot share a request with JavaScript ones.
    assert.equal(submissions.length, 4);
    assert.equal(submissions[0]?.settings.task_group_id, undefined);
    assert.ok(
      submissions.slice(1).every(({ settings }) => settings.task_group_id === hub.taskGroupId),
    );
    assert.equal((await client.batchRun(batch)).length, 10);
    assert.deepEqual(await client.batchRun(client.createBatch()), []);
  });

  it('says which tasks of a batch were not accepted, and has the ids of the others', async () => {
    const fn = await client.registerFunction((x: number) => x);
    const batch = client.createBatch();
    for (const endpointId of [here, there, here]) {
      batch.add(fn, { endpointId, args: [1] });
    }
    hub.misbehave(`/v3/endpoints/${here}/submit`, {
      status: 403,
      body: errorBody(403, 'ENDPOINT_ACCESS_FORBIDDEN', 'not yours'),
    });
    await assert.rejects(client.batchRun(batch), (error) => {
      assert.ok(error instanceof BatchError);
      assert.deepEqual(
        error.failures.map(({ index, endpointId }) => [index, endpointId]),
        [
          [0, here],
          [2, here],
        ],
      );
      assert.ok(error.failures[0]?.error instanceof AuthError);
      assert.equal(taskOf(error.taskIds[1] ?? '').endpointId, there);
      assert.deepEqual([error.taskIds[0], error.taskIds[2]], [undefined, undefined]);
      assert.match(error.message, /2 of 3 tasks were not accepted.*not yours/);
      return true;
    });
    assert.throws(
      () => batch.add(fn, { endpointId: here, args: [new Map()] as unknown as [number] }),
      SerializationError,
    );
    assert.equal(batch.tasks.length, 3);
  });

  it('ends a batch by its signal, and tells what had been accepted', async () => {
    const fn = await client.registerFunction((x: number) => x);
    const batch = client.createBatch();
    batch.add(fn, { endpointId: here, args: [1] });
    batch.add(fn, { endpointId: there, args: [2] });
    const abort = new AbortController();
    hub.misbehave(`/v3/endpoints/${there}/submit`, { hang: true });
    const running = client.batchRun(batch, { signal: abort.signal });
    hub.onSubmit = () => {
      setImmediate(() => {
        abort.abort(new Error('enough'));
      });
    };
    await assert.rejects(running, (error) => {
      assert.ok(error instanceof BatchError);
      assert.equal(error.failures.length, error.taskIds.filter((id) => id === undefined).length);
      assert.match(error.message, /enough/);
      return true;
    });
  });

  it('tells how tasks stand in the shape of the guide, and asks only once about those that have ended', async () => {
    const fn = await client.registerFunction((x: number) => ({ x }));
    const batch = client.createBatch();
    [1, 2, 3].forEach((x) => batch.add(fn, { endpointId: here, args: [x] }));
    const [first = '', second = '', third = ''] = await client.batchRun(batch);
    succeed(first, { x: 1 });
    hub.documents.set(second, {
      task_id: second,
      status: 'failed',
      exception: 'Traceback …\nValueError: bad',
      completion_t: '1632876695.7',
      outpost: { error: { code: 'RemoteExecutionError', type: 'ValueError', message: 'bad' } },
    });
    const records = await client.getBatchResult([first, second, third]);
    assert.deepEqual([...records.keys()], [first, second, third]);
    assert.deepEqual(records.get(first), {
      pending: false,
      status: 'success',
      result: { x: 1 },
      completion_t: '1632876695.6450012',
    });
    assert.deepEqual(records.get(third), { pending: true, status: 'waiting-for-ep' });
    const failed = records.get(second);
    assert.ok(failed?.status === 'failed');
    assert.equal(failed.completion_t, '1632876695.7');

    const asked = hub.requests.length;
    await assert.rejects(client.getResult(second), (error) => {
      assert.ok(error instanceof TaskExecutionError);
      assert.deepEqual([error.type, error.remoteMessage], ['ValueError', 'bad']);
      assert.match(error.traceback, /Traceback/);
      return true;
    });
    const value = await client.getResult<{ x: number }>(first);
    value.x = 99;
    assert.deepEqual(await client.getResult(first), { x: 1 }, 'each reader has a value of its own');
    assert.deepEqual((await client.getTask(first)).status, 'success');
    assert.equal((await client.getBatchResult([first, second])).size, 2);
    assert.equal(hub.requests.length, asked);

    await assert.rejects(client.getResult(third), (error) => {
      assert.ok(error instanceof TaskPendingError);
      assert.deepEqual([error.status, error.reason], ['waiting-for-ep', 'waiting-for-ep']);
      return true;
    });
    assert.equal(hub.requests.length, asked + 1);
    const forgetful = makeClient({ resultCacheBytes: 0 });
    await forgetful.getResult(first);
    await forgetful.getResult(first);
    assert.equal(hub.seen(`/v2/tasks/${first}`).length, 2);
  });

  it('waits before it makes a 21st request within 10 seconds, unless it is told not to', async () => {
    const free = makeClient();
    free.throttlingEnabled = false;
    const fn = await free.registerFunction((x: number) => x);
    const taskId = await free.run(fn, { endpointId: here, args: [1] });
    await Promise.all(Array.from({ length: 30 }, async () => await free.getTask(taskId)));
    const before = hub.seen('/v2/tasks/').length;
    const abort = new AbortController();
    const all = Array.from({ length: 25 }, async (_, index) => {
      await client.getTask(taskId, index < 20 ? {} : { signal: abort.signal });
    });
    await Promise.all(all.slice(0, 20));
    assert.equal(hub.seen('/v2/tasks/').length, before + 20);
    abort.abort(new Error('enough'));
    const rest = await Promise.allSettled(all.slice(20));
    assert.ok(rest.every(({ status }) => status === 'rejected'));
    assert.equal(hub.seen('/v2/tasks/').length, before + 20);
    // An executor and those who wait for a task are not held up.
    assert.deepEqual(Object.keys(await client.hub.tasks([taskId])), [taskId]);
  });

  it('refuses more than 5 MB in one request or answer, and splits what is a batch', async () => {
    const fn = await client.registerFunction((text: string) => text.length);
    const text = 'x'.repeat(2_000_000);
    const batch = client.createBatch();
    for (let count = 0; count < 5; count += 1) {
      batch.add(fn, { endpointId: here, args: [text] });
    }
    assert.equal((await client.batchRun(batch)).length, 5);
    const isTooLarge = (error: unknown): boolean =>
      error instanceof ProtocolError && error.code === 'PAYLOAD_TOO_LARGE';
    const large = text.repeat(3);
    await assert.rejects(client.run(fn, { endpointId: here, args: [large] }), isTooLarge);
    const free = makeClient({ throttlingEnabled: false });
    const taskId = await free.run(fn, { endpointId: here, args: [large] });
    assert.equal(taskOf(taskId).endpointId, here);
  });

  it('waits as long as Retry-After asks for, and tells it when that is too long', async () => {
    const fn = await client.registerFunction((x: number) => x);
    const limited = { status: 429, body: errorBody(429, 'RATE_LIMITED', 'too many requests') };
    hub.misbehave('/submit', { ...limited, headers: { 'retry-after': '1' } });
    const patient = makeClient({ retries: 1 });
    const begunMs = performance.now();
    await patient.run(fn, { endpointId: here, args: [1] });
    assert.ok(performance.now() - begunMs >= 990);
    hub.misbehave('/submit', { ...limited, headers: { 'retry-after': '600' } });
    await assert.rejects(patient.run(fn, { endpointId: here, args: [1] }), {
      code: 'RATE_LIMITED',
      message: /Try again in 600 s/,
    });
  });
});

/** The SDK's executor on RabbitMQ, with a hub that the test plays: results early, late, twice, malformed, and not at all. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { ProtocolError } from '../../src/base/errors.ts';
import { TASK_OUTPUT_HEADER } from '../../src/protocol/amqp-headers.ts';
import { packResult } from '../../src/protocol/messages.ts';
import { unpackBuffers } from '../../src/protocol/serialization.ts';
import {
  AuthError,
  ConflictError,
  FutureCancelledError,
  SerializationError,
  TaskExecutionError,
  TaskPendingError,
  UnavailableError,
  UsageError,
} from '../../src/sdk/index.ts';
import type { Client, ComputeFuture } from '../../src/sdk/index.ts';
import type { AmqpConnection } from '../../src/transport/amqp/connection.ts';
import type { ConfirmPublisher } from '../../src/transport/amqp/publisher.ts';
import { eventually } from '../support/eventually.ts';
import { errorBody } from '../support/fake-hub.ts';
import type { FakeHub, FakeTask } from '../support/fake-hub.ts';
import { runProgram } from '../support/stack.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';
import { SdkStage, openSdkBroker } from './sdk-support.ts';
import type { SdkBroker } from './sdk-support.ts';

describe('SDK executor', function () {
  let broker: SdkBroker;
  let stage: SdkStage;
  let connection: AmqpConnection;
  let publisher: ConfirmPublisher;
  let hub: FakeHub;
  let proxy: TcpProxy;
  let client: Client;
  let queue: string;

  before(async () => {
    broker = await openSdkBroker();
    ({ connection, publisher } = broker);
  });
  after(async () => {
    await broker.stop();
  });

  beforeEach(async () => {
    stage = await SdkStage.start(broker);
    ({ hub, proxy, client, queue } = stage);
  });
  afterEach(async () => {
    await stage.stop();
  });

  it('settles futures with streamed results, in few requests, and acks them', async () => {
    hub.onSubmit = async (made) => {
      await stage.sumAll(made);
    };
    const executor = stage.makeExecutor();
    // A new function object every time; one source, one registration.
    const futures = Array.from({ length: 1000 }, (_, index) =>
      executor.submit((a: number, b: number) => a + b, index, 1),
    );
    const values = await Promise.all(futures);
    assert.deepEqual(values, Array.from({ length: 1000 }, (_, index) => index + 1)); // prettier-ignore
    assert.equal(hub.functions.size, 1);
    assert.equal(hub.seen('/submit').length, 2);
    assert.equal(executor.taskGroupId, hub.taskGroupId);
    const keys = hub.seen('/submit').map((request) => request.headers['idempotency-key']);
    assert.equal(new Set(keys).size, 2);
    await executor.shutdown();
    assert.equal(await stage.depth(), 0);
  });

  it('settles a future whose result came before the answer to its submission', async () => {
    const playEarly = async (made: readonly FakeTask[]): Promise<void> => {
      await stage.sumAll(made);
      // Answered only after the running stream has taken the results.
      if (hub.tasks.size > 1) {
        await eventually(async () => {
          assert.equal(await stage.depth(), 0);
        });
      }
    };
    hub.onSubmit = playEarly;
    const executor = stage.makeExecutor();
    const add = await client.registerFunction((a: number, b: number) => a + b);
    assert.equal(await executor.submit(add, 1, 2), 3);
    assert.equal(await executor.submit(add, 3, 4), 7);
    await executor.shutdown();
    assert.equal(await stage.depth(), 0);
  });

  it('asks for JSON from Python functions, and knows a task before its result', async () => {
    const double = await client.registerPythonFunction('def double(x):\n    return 2 * x\n');
    const future = stage.makeExecutor().submitToRegisteredFunction(double, [21], { scale: 1 });
    assert.equal(future.taskId, undefined);
    const taskId = await future.submitted;
    const [task] = await stage.tasks(1);
    assert.ok(task !== undefined);
    assert.equal(task.id, taskId);
    assert.equal(future.taskId, taskId);
    assert.deepEqual(unpackBuffers(task.payload), ['11\n[21]', '11\n{"scale":1}']);
    assert.deepEqual(task.submission.result_serializers, [
      'globus_compute_sdk.serialize.concretes.JSONData',
    ]);
    assert.equal(task.submission.create_queue, true);
    assert.equal(hub.functions.get(task.functionId)?.meta?.['serde_identifier'], 'st');
    await stage.deliver(task, { data: '11\n42' });
    assert.equal(await future, 42);
    assert.equal(future.isDone, true);
  });

  it('brings back type, message, traceback and output of what a function threw', async () => {
    const future = stage.makeExecutor().submit(function broken(): void {
      throw new Error('x');
    });
    const [task] = await stage.tasks(1);
    assert.ok(task !== undefined);
    const traceback = 'Traceback (most recent call last):\nValueError: boom\n';
    await stage.deliver(
      task,
      {
        data: traceback,
        error_details: {
          code: 'RemoteExecutionError',
          user_message: 'An error occurred during the execution of this task',
          exception: { type: 'ValueError', message: 'boom' },
        },
      },
      { [TASK_OUTPUT_HEADER]: JSON.stringify({ stdout: 'printed\n', stderr: 'warned\n' }) },
    );
    await assert.rejects(future, (error) => {
      assert.ok(error instanceof TaskExecutionError);
      assert.equal(error.code, 'RemoteExecutionError');
      assert.equal(error.type, 'ValueError');
      assert.equal(error.remoteMessage, 'boom');
      assert.equal(error.traceback, traceback);
      assert.equal(error.stdout, 'printed\n');
      assert.equal(error.stderr, 'warned\n');
      assert.ok(
        error.message.startsWith(
          `"broken" failed on endpoint ${stage.endpointId} (task ${task.id}`,
        ),
      );
      return true;
    });
  });

  it('goes on after its connection was cut, and asks once for what it missed', async () => {
    const executor = stage.makeExecutor();
    const futures = [1, 2].map((n) => executor.submit((x: number) => x, n));
    const [first, second] = await stage.tasks(2);
    assert.ok(first !== undefined && second !== undefined);
    await eventually(() => {
      assert.equal(proxy.connectionCount, 1);
    });
    // The first result exists only at the hub, as when the queue was lost with its broker.
    hub.documents.set(first.id, { task_id: first.id, status: 'success', result: '11\n"missed"' });
    await eventually(async () => {
      const consumers = await connection.withChannel(
        async (channel) => (await channel.checkQueue(queue)).consumerCount,
      );
      assert.equal(consumers, 1);
    });
    proxy.cut();
    assert.equal(await futures[0], 'missed');
    await stage.deliver(second, { data: '11\n"streamed"' });
    assert.equal(await futures[1], 'streamed');
  });

  it('gets results from the hub while the broker cannot be reached', async () => {
    hub.resultConnection = { queue_prefix: 'me.', connection_url: 'amqp://127.0.0.1:1' };
    const future = stage.makeExecutor().submit(() => 1);
    const [task] = await stage.tasks(1);
    assert.ok(task !== undefined);
    hub.documents.set(task.id, { task_id: task.id, status: 'success', result: '11\n1' });
    assert.equal(await future, 1);
  });

  it('drops a message that is no result, and results that are nobody’s', async () => {
    const executor = stage.makeExecutor();
    const future = executor.submit(() => 1);
    const [task] = await stage.tasks(1);
    assert.ok(task !== undefined);
    await publisher.publish('', queue, Buffer.from('garbage'));
    await stage.deliver({ ...task, id: randomUUID() }, {});
    await stage.deliver(task, { data: '11\n1' });
    await stage.deliver(task, { data: '11\n2' });
    assert.equal(await future, 1);
    await eventually(async () => {
      assert.equal(await stage.depth(), 0);
    });
    await executor.shutdown();
    assert.equal(await stage.depth(), 0);
  });

  it('fails only the futures of a submission that was refused', async () => {
    hub.onSubmit = async (made) => {
      await stage.sumAll(made);
    };
    const executor = stage.makeExecutor();
    const body = errorBody(404, 'ENDPOINT_NOT_FOUND', 'no such endpoint');
    hub.misbehave('/submit', { status: 404, body });
    await assert.rejects(
      executor.submit(() => 0),
      (error) => {
        assert.ok(error instanceof ConflictError);
        assert.ok(error.message.includes(stage.endpointId));
        return true;
      },
    );
    assert.equal(await executor.submit((x: number) => x, 5), 5);
  });

  it('submits once when the answer to a submission is lost', async () => {
    hub.onSubmit = async (made) => {
      await stage.sumAll(made);
    };
    hub.misbehave('/submit', { drop: 'after' });
    assert.equal(await stage.makeExecutor().submit((x: number) => x, 5), 5);
    assert.equal(hub.tasks.size, 1);
  });

  it('rejects a future whose function or arguments cannot be sent', async () => {
    const executor = stage.makeExecutor();
    await assert.rejects(executor.submit(Math.max, 1, 2), SerializationError);
    await assert.rejects(
      executor.submit((x: unknown) => x, new Map()),
      SerializationError,
    );
    await assert.rejects(
      executor.submit((x: unknown) => x, 1n),
      /args\[0\] .*bigint/,
    );
    assert.equal(hub.seen('/submit').length, 0);
  });

  it('fails every future when the hub will not say where results are', async () => {
    hub.misbehave('/v2/get_amqp', {
      status: 403,
      body: errorBody(403, 'FORBIDDEN', 'not for you'),
    });
    await assert.rejects(
      stage.makeExecutor().submit(() => 1),
      AuthError,
    );
  });

  it('closes its connection when nothing is awaited, and opens it again', async () => {
    hub.onSubmit = async (made) => {
      await stage.sumAll(made);
    };
    const executor = stage.makeExecutor({ idleMs: 50 });
    assert.equal(await executor.submit((x: number) => x, 1), 1);
    await eventually(() => {
      assert.equal(proxy.connectionCount, 0);
    });
    assert.equal(await executor.submit((x: number) => x, 2), 2);
  });

  it('lets a program end that forgets to shut it down, but not before its results', async () => {
    hub.onSubmit = async (made) => {
      await stage.sumAll(made);
    };
    const sdk = new URL('../../src/sdk/index.js', import.meta.url).href;
    const program = `
      const { Client, Executor } = await import(${JSON.stringify(sdk)});
      const executor = new Executor({ client: new Client(), endpointId: ${JSON.stringify(stage.endpointId)}, idleMs: 100 });
      executor.submit((a, b) => a + b, 20, 22).then((value) => console.log(value));`;
    const outcome = await runProgram(process.execPath, ['--input-type=module', '-e', program], {
      env: {
        OUTPOST_HUB_URL: hub.url,
        OUTPOST_CLIENT_ID: hub.clientId,
        OUTPOST_CLIENT_SECRET: hub.clientSecret,
      },
    });
    assert.deepEqual(outcome, { code: 0, stdout: '42\n', stderr: '' });
  });

  it('waits at shutdown for what was submitted, and takes no more', async () => {
    const executor = stage.makeExecutor();
    const future = executor.submit((x: number) => x, 1);
    const ended = executor.shutdown();
    assert.throws(() => executor.submit((x: number) => x, 1), UsageError);
    const [task] = await stage.tasks(1);
    assert.ok(task !== undefined);
    assert.equal(future.isDone, false);
    await stage.sum(task);
    await ended;
    assert.equal(future.isDone, true);
    assert.equal(await future, 1);
    await eventually(() => {
      assert.equal(proxy.connectionCount, 0);
    });
  });

  it('rejects at a cancelling shutdown what is not settled, and says where the result will be', async () => {
    const executor = stage.makeExecutor();
    const running = executor.submit(() => 1);
    const taskId = await running.submitted;
    hub.misbehave('/submit', { hang: true });
    const submitting = executor.submit(() => 2);
    await eventually(() => {
      assert.equal(hub.seen('/submit').length, 2);
    });
    await executor.shutdown({ cancelPending: true });
    await assert.rejects(running, (error) => {
      assert.ok(error instanceof FutureCancelledError);
      assert.equal(error.taskId, taskId);
      assert.ok(error.message.includes(`client.getResult("${taskId}")`));
      return true;
    });
    await assert.rejects(submitting, FutureCancelledError);
  });

  it('takes up the tasks of an earlier group', async () => {
    const earlier = stage.makeExecutor();
    const old = [1, 2].map((n) => earlier.submit((x: number) => x, n));
    const [first, second] = await stage.tasks(2);
    assert.ok(first !== undefined && second !== undefined);
    await Promise.all(old.map(async (future) => await future.submitted));
    await earlier.shutdown({ cancelPending: true });
    hub.documents.set(first.id, { task_id: first.id, status: 'success', result: '11\n1' });
    const futures = await stage.makeExecutor().reloadTasks(hub.taskGroupId);
    await stage.deliver(second, { data: '11\n2' });
    assert.deepEqual(await Promise.all(futures), [1, 2]);
  });

  it('streams the reloaded group when a stream for another is still open', async () => {
    const otherGroup = randomUUID();
    await connection.withChannel(async (channel) => await channel.assertQueue(`me.${otherGroup}`));
    const executor = stage.makeExecutor({ taskGroupId: otherGroup });
    // The hub answers with the group that it was asked for.
    const taken = { request_id: 'r', task_group_id: otherGroup, endpoint_id: stage.endpointId };
    const fn = await client.registerFunction((x: number) => x);
    const first = randomUUID();
    const body = { ...taken, tasks: { [fn.id]: [first] } };
    hub.misbehave('/submit', { status: 200, body });
    const future = executor.submit(fn, 0);
    await future.submitted;
    const early = { task_id: first, data: '11\n0', details: null, error_details: null };
    await publisher.publish('', `me.${otherGroup}`, packResult({ ...early, task_statuses: null }));
    assert.equal(await future, 0);
    await client.run(fn, stage.endpointId, [1]);
    const [task] = await stage.tasks(1);
    assert.ok(task !== undefined);
    const [reloaded] = await executor.reloadTasks(hub.taskGroupId);
    await stage.deliver(task, { data: '11\n1' });
    assert.equal(await reloaded, 1);
  });

  it('refuses to reload when it got tasks or was shut down while the hub was asked', async () => {
    const busy = stage.makeExecutor();
    const reloading = busy.reloadTasks(hub.taskGroupId);
    const future = busy.submit(() => 1);
    await assert.rejects(reloading, UsageError);
    assert.equal(future.isDone, false);
    const closed = stage.makeExecutor();
    const late = closed.reloadTasks(hub.taskGroupId);
    await Promise.all([closed.shutdown(), assert.rejects(late, UsageError)]);
  });

  it('asks the hub when no result comes, and leaves no timer', async () => {
    const pending = new Set<symbol>();
    // A hundred times as fast.
    const clock: Clock = {
      now: systemClock.now,
      monotonicMs: () => systemClock.monotonicMs() * 100,
      after: (delayMs, callback, options) => {
        if (delayMs < 15_000) {
          return systemClock.after(delayMs, callback, options);
        }
        const key = Symbol('timer');
        pending.add(key);
        const ring = (): void => {
          pending.delete(key);
          callback();
        };
        const timer = systemClock.after(delayMs / 100, ring, options);
        const cancel = (): void => {
          pending.delete(key);
          timer.cancel();
        };
        return { cancel };
      },
    };
    const future = stage.makeExecutor({ clock }).submit(() => 1);
    const [task] = await stage.tasks(1);
    assert.ok(task !== undefined);
    await eventually(() => {
      assert.ok(hub.seen('/v2/batch_status').length >= 2);
    });
    // Its message went to another consumer of the queue.
    hub.documents.set(task.id, { task_id: task.id, status: 'success', result: '11\n1' });
    assert.equal(await future, 1);
    assert.equal(pending.size, 0);
  });

  it('does not submit what is queued after it was refused', async () => {
    const executor = stage.makeExecutor({ batchSize: 1, maxConcurrentSubmissions: 1 });
    const forbidden = { status: 403, body: errorBody(403, 'FORBIDDEN', 'not for you') };
    hub.misbehave('/v2/get_amqp', forbidden);
    let futures: ComputeFuture<number>[] = [];
    const waitForRefusal = async (): Promise<void> => {
      // The second submission is answered when the refusal is here.
      if (hub.tasks.size === 2) {
        await assert.rejects(async () => await futures[2], AuthError);
      }
    };
    hub.onSubmit = waitForRefusal;
    const fn = await client.registerFunction(() => 1);
    futures = [1, 2, 3].map(() => executor.submit(fn));
    await assert.rejects(async () => await futures[2], AuthError);
    await executor.shutdown();
    assert.equal(hub.seen('/submit').length, 2);
  });

  it('asks for fewer tasks when a reply is too large, and gives up only one', async () => {
    const fn = await client.registerFunction((x: number) => x);
    for (const x of [1, 2, 3]) {
      const id = await client.run(fn, stage.endpointId, [x]);
      hub.documents.set(id, { task_id: id, status: 'success', result: `11\n${x}` });
    }
    const tooLarge = { status: 413, body: errorBody(413, 'TASK_PAYLOAD_TOO_LARGE', 'large') };
    hub.misbehave('/v2/batch_status', tooLarge, tooLarge, tooLarge);
    const [first, ...others] = await stage.makeExecutor().reloadTasks(hub.taskGroupId);
    await assert.rejects(async () => await first, ProtocolError);
    assert.deepEqual(await Promise.all(others), [2, 3]);
  });

  it('says at once that the certificate of the hub is refused', async () => {
    const refused = new UnavailableError('CERTIFICATE_REFUSED', 'not trusted here');
    const client = stage.makeClient({
      tokens: {
        accessToken: async () => await Promise.reject(refused),
      },
    });
    const executor = stage.makeExecutor({ client });
    await assert.rejects(async () => await executor.submit((a: number) => a, 1), refused);
  });

  it('waits for a result while the hub is away for longer than one request is repeated', async () => {
    const patient = stage.makeClient({ retries: 0 });
    const fn = await patient.registerFunction((a: number) => a);
    const taskId = await patient.run(fn, stage.endpointId, [1]);
    const path = `/v2/tasks/${taskId}`;
    const away = { status: 503, body: errorBody(503, 'SERVICE_UNAVAILABLE', 'away') };
    hub.misbehave(path, away, away);
    await assert.rejects(patient.waitForResult(taskId, { timeoutMs: 1 }), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.equal(error.code, 'TIMED_OUT');
      assert.match(error.message, /away/);
      return true;
    });
    hub.documents.set(taskId, { task_id: taskId, status: 'success', result: '11\n[1]' });
    hub.misbehave(path, away, away);
    assert.deepEqual(await patient.waitForResult(taskId), [1]);
  });

  it('runs and polls without a stream', async () => {
    const fn = await client.registerFunction((a: number) => a);
    const taskId = await client.run(fn, stage.endpointId, [1]);
    await assert.rejects(client.getResult(taskId), (error) => {
      assert.ok(error instanceof TaskPendingError);
      assert.equal(error.reason, 'waiting-for-ep');
      return true;
    });
    await assert.rejects(client.waitForResult(taskId, { timeoutMs: 50 }), (error) => {
      assert.ok(error instanceof UnavailableError);
      return error.code === 'TIMED_OUT';
    });
    const outpost = { stdout: 'out', error: { code: 'TASK_TIMED_OUT', message: 'took too long' } };
    const failed = randomUUID();
    hub.documents.set(failed, { task_id: failed, status: 'failed', exception: 'tb', outpost });
    hub.documents.set(taskId, { task_id: taskId, status: 'success', result: '11\n[1]' });
    assert.deepEqual(await client.waitForResult(taskId), [1]);
    const records = await client.getBatchResult([taskId, failed, 'unknown']);
    assert.deepEqual(records.get(taskId), { pending: false, status: 'success', result: [1] });
    assert.deepEqual(records.get('unknown'), { pending: true, status: 'unknown' });
    const failure = records.get(failed);
    assert.ok(failure?.status === 'failed');
    assert.ok(failure.exception instanceof TaskExecutionError);
    assert.equal(failure.exception.code, 'TASK_TIMED_OUT');
    assert.equal(failure.exception.remoteMessage, 'took too long');
    assert.equal(failure.exception.stdout, 'out');
  });
});

/** How the SDK hands tasks to the hub: batches, retries under one key, back-pressure, signals, and the end of an executor. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';

import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import type { Submission } from '../../src/protocol/rest.ts';
import {
  AbortError,
  ConflictError,
  FutureCancelledError,
  ProtocolError,
  SubmissionError,
  UnavailableError,
  UsageError,
} from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import type { FakeHub } from '../support/fake-hub.ts';
import { errorBody } from '../support/fake-hub.ts';
import { runProgram } from '../support/stack.ts';
import { SdkStage, openSdkBroker } from './sdk-support.ts';
import type { SdkBroker } from './sdk-support.ts';

/** Waits a hundredth of what it is told. */
const fastClock: Clock = {
  now: systemClock.now,
  monotonicMs: () => systemClock.monotonicMs() * 100,
  after: (delayMs, callback, options) => systemClock.after(delayMs / 100, callback, options),
};

describe('SDK submissions', () => {
  let broker: SdkBroker;
  let stage: SdkStage;
  let hub: FakeHub;

  before(async () => {
    broker = await openSdkBroker();
  });
  after(async () => {
    await broker.stop();
  });
  beforeEach(async () => {
    stage = await SdkStage.start(broker);
    hub = stage.hub;
    hub.onSubmit = async (made) => {
      await stage.sumAll(made);
    };
  });
  afterEach(async () => {
    await stage.stop();
  });

  function submissions(): Submission[] {
    return hub.seen('/submit').map(({ text }) => JSON.parse(text) as Submission);
  }

  it('puts several functions into one request, and keeps requests under their bound in bytes', async () => {
    const executor = stage.makeExecutor({ batchBytes: 10_000 });
    const length = await stage.client.registerFunction(
      (a: number, text: string) => a + text.length,
    );
    const other = await stage.client.registerFunction((a: number, text: string) => text.length + a);
    hub.onSubmit = async (made) => {
      for (const task of made) {
        await stage.deliver(task, { data: `11\n${String(stage.argumentsOf(task)[0])}` });
      }
    };
    // Quotes double on the wire.
    const text = '"'.repeat(1_000);
    const values = await Promise.all(
      Array.from({ length: 20 }, (_, n) => executor.submit(n % 2 === 0 ? length : other, n, text)),
    );
    assert.deepEqual(values, Array.from({ length: 20 }, (_, n) => n)); // prettier-ignore
    for (const { text: body } of hub.seen('/submit')) {
      assert.ok(body.length < 10_500, `${body.length} bytes`);
    }
    assert.equal(Object.keys(submissions()[0]?.tasks ?? {}).length, 2);
    assert.equal(executor.taskCountSubmitted, 20);
  });

  it('joins the group of the first submission, however many follow at once', async () => {
    const executor = stage.makeExecutor({ batchSize: 2, maxConcurrentSubmissions: 4 });
    await Promise.all([1, 2, 3, 4, 5, 6].map((n) => executor.submit((x: number) => x, n)));
    const groups = submissions().map((submission) => submission.task_group_id);
    assert.deepEqual(groups, [undefined, hub.taskGroupId, hub.taskGroupId]);
  });

  it('repeats a submission with the same key and bytes until the hub takes it', async () => {
    const client = stage.makeClient({ retries: 0 });
    const fn = await client.registerFunction((x: number) => x);
    hub.misbehave(
      '/submit',
      { drop: 'after' },
      { status: 500, body: errorBody(500, 'UNKNOWN_ERROR', 'oops') },
      { status: 503, body: errorBody(503, 'UNKNOWN_ERROR', 'starting') },
      { status: 429, headers: { 'retry-after': '40' }, body: {} },
    );
    const startedMs = fastClock.monotonicMs();
    const executor = stage.makeExecutor({ client, clock: fastClock });
    assert.equal(await executor.submit(fn, 7), 7);
    assert.ok(fastClock.monotonicMs() - startedMs >= 40_000, 'Retry-After was not waited for');
    const requests = hub.seen('/submit');
    assert.equal(requests.length, 5);
    assert.equal(new Set(requests.map(({ headers }) => headers['idempotency-key'])).size, 1);
    assert.equal(new Set(requests.map(({ text }) => text)).size, 1);
    assert.equal(hub.tasks.size, 1);
  });

  it('registers and submits also after the hub was away and has forgotten its tokens', async () => {
    const client = stage.makeClient({ retries: 0 });
    const executor = stage.makeExecutor({ client, clock: fastClock });
    assert.equal(await executor.submit((x: number) => x, 1), 1);
    hub.forgetTokens();
    hub.misbehave('/v3/functions', { drop: 'before' }, { drop: 'before' });
    hub.misbehave('/submit', { drop: 'before' });
    assert.equal(await executor.submit((x: number) => x + 0, 2), 2);
  });

  it('rejects each future of a batch that could not be handed over in time, and goes on', async () => {
    const client = stage.makeClient({ retries: 0 });
    const executor = stage.makeExecutor({ client, clock: fastClock, retryForMs: 100_000 });
    const fn = await client.registerFunction((x: number) => x);
    const away = { status: 503, body: errorBody(503, 'UNKNOWN_ERROR', 'starting') };
    hub.misbehave('/submit', ...Array.from({ length: 30 }, () => away));
    const futures = [1, 2].map((n) => executor.submit(fn, n));
    for (const future of futures) {
      await assert.rejects(
        async () => await future,
        (error) => {
          assert.ok(error instanceof SubmissionError);
          assert.equal(error.code, 'SUBMISSION_FAILED');
          assert.ok(error.attempts > 1);
          assert.ok(error.cause instanceof UnavailableError);
          assert.match(error.message, /^2 tasks could not be handed to the hub .*starting/);
          return true;
        },
      );
    }
    await eventually(async () => {
      assert.equal(await executor.submit(fn, 3), 3);
    });
  });

  it('fails only the tasks of the function that the hub refuses', async () => {
    const executor = stage.makeExecutor();
    const [good, bad] = await Promise.all([
      stage.client.registerFunction((x: number) => x),
      stage.client.registerFunction((x: number) => x * 1),
    ]);
    const refusal = { status: 404, body: errorBody(404, 'FUNCTION_NOT_FOUND', 'no such function') };
    hub.misbehave('/submit', refusal, refusal);
    const futures = [executor.submit(bad, 1), executor.submit(good, 2), executor.submit(bad, 3)];
    const outcomes = await Promise.allSettled(futures);
    assert.deepEqual(outcomes.map(({ status }) => status), ['rejected', 'fulfilled', 'rejected']); // prettier-ignore
    await assert.rejects(async () => await futures[0], ConflictError);
  });

  it('halves a batch that is too large, so that only the task that is too large fails', async () => {
    const executor = stage.makeExecutor();
    const fn = await stage.client.registerFunction((x: number) => x);
    const refusal = { status: 413, body: errorBody(413, 'TASK_PAYLOAD_TOO_LARGE', 'too large') };
    // Four tasks, then the first two, then the first.
    hub.misbehave('/submit', refusal, refusal, refusal);
    const futures = [1, 2, 3, 4].map((n) => executor.submit(fn, n));
    await assert.rejects(async () => await futures[0], ProtocolError);
    assert.deepEqual(await Promise.all(futures.slice(1)), [2, 3, 4]);
  });

  it('drops a task whose signal is aborted before it is sent, and stops waiting for one after', async () => {
    hub.onSubmit = (): void => undefined;
    const executor = stage.makeExecutor({ batchSize: 1, maxConcurrentSubmissions: 1 });
    const fn = await stage.client.registerFunction((x: number) => x);
    const stop = new AbortController();
    const sent = executor.submitWith({ signal: stop.signal }, fn, 1);
    const taskId = await sent.submitted;
    hub.misbehave('/submit', { hang: true });
    const hanging = executor.submit(fn, 2);
    const unsent = executor.submitWith({ signal: stop.signal }, fn, 3);
    const reason = new UsageError('enough');
    assert.equal(getEventListeners(stop.signal, 'abort').length, 1);
    stop.abort(reason);
    assert.equal(getEventListeners(stop.signal, 'abort').length, 0);
    await assert.rejects(sent, (error) => {
      assert.ok(error instanceof AbortError);
      assert.equal(error.name, 'AbortError');
      assert.equal(error.cause, reason);
      assert.equal(error.taskId, taskId);
      return true;
    });
    await assert.rejects(unsent, (error) => {
      assert.ok(error instanceof AbortError);
      assert.equal(error.taskId, undefined);
      return true;
    });
    await assert.rejects(executor.submitWith({ signal: stop.signal }, fn, 4), AbortError);
    assert.equal(executor.openTaskCount, 1);
    await executor.shutdown({ cancelPending: true });
    await assert.rejects(hanging, FutureCancelledError);
    assert.equal(hub.tasks.size, 1);
  });

  it('tells with cancel() whether the task was kept from running', async () => {
    hub.onSubmit = (): void => undefined;
    const executor = stage.makeExecutor();
    const fn = await stage.client.registerFunction((x: number) => x);
    const sent = executor.submit(fn, 1);
    await sent.submitted;
    const unsent = executor.submit(fn, 2);
    assert.equal(unsent.cancel(), true);
    assert.equal(sent.cancel(), false);
    assert.equal(sent.cancel(), false);
    await assert.rejects(unsent, FutureCancelledError);
    await assert.rejects(sent, /future was cancelled before task .* goes on at its endpoint/);
    await executor.shutdown();
    assert.equal(hub.tasks.size, 1);
  });

  it('passes a signal on to the requests of a client', async () => {
    hub.misbehave('/v2/tasks/', { hang: true });
    const stop = new AbortController();
    const reason = new UsageError('enough');
    const asking = stage.client.getResult('x', { signal: stop.signal });
    await eventually(() => {
      assert.equal(hub.seen('/v2/tasks/').length, 1);
    });
    stop.abort(reason);
    await assert.rejects(asking, reason);
    await assert.rejects(
      stage.client.run('f', 'e', [] as never, { signal: AbortSignal.abort(reason) }),
      reason,
    );
  });

  it('is ready while fewer tasks are open, and fewer bytes unsent, than its bounds', async () => {
    hub.onSubmit = (): void => undefined;
    const executor = stage.makeExecutor({ maxOpenTasks: 2, maxUnsentBytes: 1000 });
    const fn = await stage.client.registerFunction((x: unknown) => x);
    await executor.ready();
    const first = executor.submit(fn, 'x'.repeat(2000));
    const stop = new AbortController();
    const calledOff = executor.ready({ signal: stop.signal });
    const waiting = executor.ready();
    stop.abort(new UsageError('enough'));
    await assert.rejects(calledOff, /enough/);
    await waiting;
    assert.notEqual(first.taskId, undefined);
    const second = executor.submit(fn, 1);
    let isReady = false;
    const ready = [executor.ready(), executor.ready()];
    const noted = ready[1]?.then(() => {
      isReady = true;
    });
    await second.submitted;
    assert.equal(isReady, false);
    const [task] = await stage.tasks(2);
    assert.ok(task !== undefined);
    await stage.deliver(task, {});
    await first;
    await Promise.all([...ready, noted]);
    const third = executor.submit(fn, 2);
    const late = executor.ready();
    await Promise.all([
      executor.shutdown({ cancelPending: true }),
      assert.rejects(third, FutureCancelledError),
      assert.rejects(late, UsageError),
    ]);
  });

  it('returns at once from a shutdown that does not wait, and ends when the last future is settled', async () => {
    hub.onSubmit = (): void => undefined;
    const executor = stage.makeExecutor({ idleMs: 60_000 });
    const future = executor.submit((x: number) => x, 5);
    const [task] = await stage.tasks(1);
    assert.ok(task !== undefined);
    await executor.shutdown({ wait: false });
    assert.equal(future.isDone, false);
    assert.throws(() => executor.submit((x: number) => x, 6), UsageError);
    await stage.sum(task);
    assert.equal(await future, 5);
    await eventually(() => {
      assert.equal(stage.proxy.connectionCount, 0);
    });
  });

  it('leaves nothing that keeps a program alive', async () => {
    const idleMs = 80_000;
    const sdk = new URL('../../src/sdk/index.js', import.meta.url).href;
    const program = `
      const { AbortError, Client, Executor, asCompleted } = await import(${JSON.stringify(sdk)});
      const client = new Client();
      const executor = new Executor({ client, endpointId: ${JSON.stringify(stage.endpointId)}, idleMs: ${idleMs} });
      const add = (a, b = 0) => a + b;
      await Promise.all([1, 2].map((n) => executor.submit(add, n)));
      for await (const value of executor.map(add, [1, 2, 3])) if (value === 2) break;
      const stop = new AbortController();
      const aborted = executor.submitWith({ signal: stop.signal }, add, 1);
      stop.abort();
      await aborted.catch((error) => error instanceof AbortError || process.exit(1));
      await executor.shutdown();`;
    const outcome = await runProgram(process.execPath, ['--input-type=module', '-e', program], {
      env: {
        OUTPOST_HUB_URL: hub.url,
        OUTPOST_CLIENT_ID: hub.clientId,
        OUTPOST_CLIENT_SECRET: hub.clientSecret,
      },
      // Sooner than what was kept for later use would be given up.
      limitMs: idleMs / 2,
    });
    assert.deepEqual(outcome, { code: 0, stdout: '', stderr: '' });
  });

  it('refuses bounds that leave no room', () => {
    for (const options of [{ maxOpenTasks: 0 }, { batchSize: NaN }, { retryForMs: -1 }]) {
      assert.throws(() => stage.makeExecutor(options), UsageError);
    }
  });
});

/** How results get to whoever waits for them: map, completion order, several readers of one group, taking a group up again. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import type { Logger } from '../../src/base/logger.ts';
import { silentLogger } from '../../src/base/logger.ts';
import {
  AbortError,
  Executor,
  SerializationError,
  TaskExecutionError,
  UsageError,
  asCompleted,
} from '../../src/sdk/index.ts';
import type { ComputeFuture } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import type { FakeHub, FakeTask } from '../support/fake-hub.ts';
import { runProgram } from '../support/stack.ts';
import { SdkStage, openSdkBroker } from './sdk-support.ts';
import type { SdkBroker } from './sdk-support.ts';

describe('SDK results', function () {
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
      await Promise.all(made.map(play));
    };
  });
  afterEach(async () => {
    await stage.stop();
  });

  /** Returns twice the number; fails for 13. */
  async function play(task: FakeTask): Promise<void> {
    const [x] = stage.argumentsOf(task);
    if (x === 13) {
      const exception = { type: 'RangeError', message: 'unlucky' };
      await stage.deliver(task, {
        data: 'RangeError: unlucky',
        error_details: { code: 'RemoteExecutionError', user_message: 'failed', exception },
      });
    } else {
      await stage.deliver(task, { data: `11\n${2 * Number(x)}` });
    }
  }

  const double = (x: number): number => 2 * x;

  describe('map', () => {
    it('gives values in the order of the items, as an array or one by one', async () => {
      const executor = stage.makeExecutor({ maxOpenTasks: 8, batchSize: 4 });
      const items = Array.from({ length: 50 }, (_, n) => n + 20);
      assert.deepEqual(await executor.map(double, items), items.map(double));
      const values: number[] = [];
      for await (const value of executor.map(double, items)) {
        values.push(value);
      }
      assert.deepEqual(values, items.map(double));
      const registered = await stage.client.registerFunction(double);
      assert.deepEqual(await executor.map(registered, new Set([1, 2])), [2, 4]);
      assert.deepEqual(await executor.map(double, []), []);
    });

    it('pulls its items as there is room, and closes their source when the loop is left', async () => {
      const executor = stage.makeExecutor({ maxOpenTasks: 5 });
      let pulled = 0;
      let isClosed = false;
      const source = async function* (): AsyncGenerator<number> {
        try {
          for (;;) {
            await Promise.resolve();
            yield pulled++;
          }
        } finally {
          isClosed = true;
        }
      };
      const values: number[] = [];
      for await (const value of executor.map(double, source())) {
        values.push(value);
        if (values.length === 10) {
          break;
        }
      }
      assert.deepEqual(
        values,
        Array.from({ length: 10 }, (_, n) => 2 * n),
      );
      assert.ok(pulled <= 10 + 5 + 1, `${pulled} were pulled`);
      // At once, unless an item was just on its way.
      await eventually(() => {
        assert.equal(isClosed, true);
      });
      await executor.shutdown();
      const sent = hub.tasks.size;
      assert.ok(sent <= pulled);
    });

    it('submits nothing before it is asked for', async () => {
      let pulled = 0;
      const source = function* (): Generator<number> {
        pulled += 1;
        yield 1;
      };
      const executor = stage.makeExecutor();
      const map = executor.map(double, source());
      await executor.ready();
      assert.equal(pulled, 0);
      assert.deepEqual(await map, [2]);
    });

    it('throws at the item that failed, and goes on with the next', async () => {
      const executor = stage.makeExecutor();
      const map = executor.map(double, [12, 13, 14]);
      assert.equal((await map.next()).value, 24);
      await assert.rejects(map.next(), (error) => {
        assert.ok(error instanceof TaskExecutionError);
        return error.type === 'RangeError';
      });
      assert.equal((await map.next()).value, 28);
      assert.equal((await map.next()).done, true);
      await assert.rejects(async () => await executor.map(double, [1, 13, 2]), TaskExecutionError);
    });

    it('gives failures as data when it is asked to', async () => {
      const outcomes = await stage.makeExecutor().map(double, [12, 13, 14]).settled();
      assert.deepEqual(outcomes.map(({ status, index }) => [status, index]), [['fulfilled', 0], ['rejected', 1], ['fulfilled', 2]]); // prettier-ignore
    });

    it('gives values as they come when order does not matter', async () => {
      hub.onSubmit = (): void => undefined;
      const map = stage.makeExecutor().map(double, [1, 2, 3], { ordered: false });
      const first = map.next();
      const tasks = await stage.tasks(3);
      for (const task of [...tasks].reverse()) {
        await play(task);
      }
      assert.equal((await first).value, 6);
      assert.deepEqual(await map, [4, 2]);
    });

    it('puts several items into one task, of which each fails alone', async () => {
      const playChunk = async (made: readonly FakeTask[]): Promise<void> => {
        for (const task of made) {
          const code = hub.functions.get(task.functionId)?.function_code ?? '';
          const source = code.slice(code.indexOf(':') + 1);
          // What the endpoint does with the wrapper.
          const wrapper = (0, eval)(`(${source})`) as (items: unknown) => Promise<unknown>;
          const outcomes = await wrapper(stage.argumentsOf(task)[0]);
          await stage.deliver(task, { data: `11\n${JSON.stringify(outcomes)}` });
        }
      };
      hub.onSubmit = playChunk;
      const executor = stage.makeExecutor();
      const picky = {
        async half(x: number): Promise<number | undefined> {
          if (x % 2 === 1) {
            throw new RangeError(`${x} is odd`);
          }
          return await Promise.resolve(x === 0 ? undefined : x / 2);
        },
      };
      // eslint-disable-next-line @typescript-eslint/unbound-method -- a method is sent without its object.
      const outcomes = await executor.map(picky.half, [0, 1, 2, 3, 4], { chunk: 2 }).settled();
      assert.equal(hub.tasks.size, 3);
      assert.deepEqual(
        outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value : 'failed')),
        [undefined, 'failed', 1, 'failed', 2],
      );
      const [, failed] = outcomes;
      assert.ok(failed?.status === 'rejected' && failed.reason instanceof TaskExecutionError);
      assert.equal(failed.reason.type, 'RangeError');
      assert.equal(failed.reason.remoteMessage, '1 is odd');
      assert.deepEqual(await executor.map((x: number) => x + 1, [1, 2, 3], { chunk: 10 }), [2, 3, 4]); // prettier-ignore
      const id = await stage.client.registerFunction(double);
      assert.throws(() => executor.map(id, [1], { chunk: 2 }), UsageError);
      assert.throws(() => executor.map(double, [1], { chunk: 0 }), UsageError);
    });

    it('ends with the signal: the consumer is told, and the source is closed', async () => {
      hub.onSubmit = (): void => undefined;
      const executor = stage.makeExecutor();
      const stop = new AbortController();
      let isClosed = false;
      const source = function* (): Generator<number> {
        try {
          yield* [1, 2, 3];
          stop.abort(new UsageError('enough'));
          yield* [4, 5];
        } finally {
          isClosed = true;
        }
      };
      const map = executor.map(double, source(), { signal: stop.signal });
      await assert.rejects(map.next(), AbortError);
      assert.equal((await map.next()).done, true);
      assert.equal(isClosed, true);
      assert.equal(executor.openTaskCount, 0);
      const aborted = executor.map(double, [1], { signal: AbortSignal.abort() });
      await assert.rejects(async () => await aborted, AbortError);
    });

    it('gives what came before a failure of the source, and then the failure', async () => {
      const failure = new UsageError('no more');
      const source = function* (): Generator<number> {
        yield 1;
        throw failure;
      };
      const map = stage.makeExecutor().map(double, source());
      assert.equal((await map.next()).value, 2);
      await assert.rejects(map.next(), failure);
      assert.equal((await map.next()).done, true);
    });

    it('does not grow with the number of items', async () => {
      const sdk = new URL('../../src/sdk/index.js', import.meta.url).href;
      const program = `
        const { Client, Executor } = await import(${JSON.stringify(sdk)});
        const client = new Client();
        const executor = new Executor({ client, endpointId: ${JSON.stringify(stage.endpointId)}, maxOpenTasks: 500 });
        function* numbers() { for (let n = 20; n < 2520; n += 1) yield n; }
        const used = () => { gc(); return process.memoryUsage().heapUsed; };
        let count = 0, early = 0;
        for await (const value of executor.map((x) => 2 * x, numbers())) {
          count += 1;
          if (count === 500) early = used();
        }
        const grown = used() - early;
        console.log(count, executor.openTaskCount, grown < 1_000_000 ? 'flat' : 'grown by ' + grown);
        await executor.shutdown();`;
      const outcome = await runProgram(
        process.execPath,
        ['--expose-gc', '--input-type=module', '-e', program],
        {
          env: {
            OUTPOST_HUB_URL: hub.url,
            OUTPOST_CLIENT_ID: hub.clientId,
            OUTPOST_CLIENT_SECRET: hub.clientSecret,
          },
          limitMs: 55_000,
        },
      );
      assert.deepEqual(outcome, { code: 0, stdout: '2500 0 flat\n', stderr: '' });
    });
  });

  it('iterates over futures in the order in which they are settled', async () => {
    hub.onSubmit = (): void => undefined;
    const executor = stage.makeExecutor();
    const fn = await stage.client.registerFunction(double);
    const futures = [1, 13, 3].map((x) => executor.submit(fn, x));
    const [one, two, three] = await stage.tasks(3);
    assert.ok(one !== undefined && two !== undefined && three !== undefined);
    const order: ComputeFuture<number>[] = [];
    for (const [index, task] of [three, two, one].entries()) {
      await play(task);
      await eventually(() => {
        assert.equal(executor.openTaskCount, 2 - index);
      });
    }
    for await (const future of asCompleted([...futures, ...futures])) {
      assert.equal(future.isDone, true);
      order.push(future);
    }
    assert.equal(order.length, 3);
    const late = executor.submit(fn, 4);
    const completions = asCompleted([late]);
    const next = completions.next();
    const last = (await stage.tasks(4))[3];
    assert.ok(last !== undefined);
    await play(last);
    assert.equal(await (await next).value, 8);
    assert.equal((await completions.next()).done, true);
    const waiting = executor.submit(fn, 5);
    const stop = new AbortController();
    const aborted = asCompleted([waiting], { signal: stop.signal }).next();
    stop.abort(new UsageError('enough'));
    await assert.rejects(aborted, /enough/);
  });

  it('settles futures of two executors of one client and one group from one stream', async () => {
    hub.onSubmit = (): void => undefined;
    const executors = [stage.makeExecutor(), stage.makeExecutor()];
    const fn = await stage.client.registerFunction(double);
    const futures = executors.flatMap((executor) =>
      [1, 2, 3, 4].map((x) => executor.submit(fn, x)),
    );
    const tasks = await stage.tasks(8);
    await Promise.all(futures.map(async ({ submitted }) => await submitted));
    await Promise.all(tasks.map(play));
    assert.deepEqual(await Promise.all(futures), [2, 4, 6, 8, 2, 4, 6, 8]);
    assert.equal(stage.proxy.connectionCount, 1);
    assert.equal(hub.seen('/v2/batch_status').length, 0);
    await executors[0]?.shutdown();
    assert.equal(stage.proxy.connectionCount, 1);
    await executors[1]?.shutdown();
    await eventually(() => {
      assert.equal(stage.proxy.connectionCount, 0);
    });
  });

  it('notices another reader of its group, and gets from the hub what that one takes', async () => {
    hub.onSubmit = (): void => undefined;
    const warnings: string[] = [];
    const logger: Logger = {
      ...silentLogger,
      child: () => logger,
      warn: (_fields, message) => {
        warnings.push(message);
      },
    };
    const executor = stage.makeExecutor({ logger });
    const fn = await stage.client.registerFunction(double);
    const futures = Array.from({ length: 10 }, (_, x) => executor.submit(fn, x + 20));
    const tasks = await stage.tasks(10);
    await eventually(async () => {
      assert.equal(await stage.consumerCount(), 1);
    });
    // As another process would: another client, so another connection.
    const { executor: other, futures: others } = await Executor.reattach(hub.taskGroupId, {
      client: stage.makeClient(),
    });
    stage.keep(other);
    await eventually(async () => {
      assert.equal(await stage.consumerCount(), 2);
    });
    for (const [index, task] of tasks.entries()) {
      const result = `11\n${2 * (index + 20)}`;
      hub.documents.set(task.id, { task_id: task.id, status: 'success', result });
      await stage.deliver(task, { data: result });
    }
    const expected = Array.from({ length: 10 }, (_, x) => 2 * (x + 20));
    assert.deepEqual(await Promise.all(futures), expected);
    assert.deepEqual(await Promise.all(others), expected);
    assert.match(warnings.join(), /another process consumes the results/);
  });

  it('takes up a group in a new process: ended tasks at once, in portions, the others as they come', async () => {
    hub.onSubmit = (): void => undefined;
    const fn = await stage.client.registerFunction(double);
    const earlier = stage.makeExecutor();
    const old = Array.from({ length: 300 }, (_, x) => earlier.submit(fn, x + 20));
    const tasks = await stage.tasks(300);
    await Promise.all(old.map(async ({ submitted }) => await submitted));
    await earlier.shutdown({ cancelPending: true });
    for (const [index, { id }] of tasks.entries()) {
      if (index !== 299) {
        hub.documents.set(id, { task_id: id, status: 'success', result: `11\n${index}` });
      }
    }
    const { executor, futures } = await Executor.reattach(hub.taskGroupId, {
      client: stage.makeClient(),
    });
    stage.keep(executor);
    assert.deepEqual(futures.map(({ taskId }) => taskId), tasks.map(({ id }) => id)); // prettier-ignore
    assert.equal(futures.filter(({ isDone }) => isDone).length, 299);
    const portions = hub
      .seen('/v2/batch_status')
      .map(({ text }) => (JSON.parse(text) as { task_ids: string[] }).task_ids.length);
    assert.deepEqual(portions, [128, 128, 44]);
    const [again] = (await executor.reloadTasks()).slice(-1);
    assert.equal(again, futures[299], 'a task that is awaited has one future');
    const last = tasks[299];
    assert.ok(last !== undefined);
    await stage.deliver(last, { data: '11\n299' });
    assert.deepEqual(
      await Promise.all(futures),
      Array.from({ length: 300 }, (_, n) => n),
    );
    assert.throws(() => executor.submit(double, 1), UsageError);
    await assert.rejects(stage.makeExecutor().reloadTasks(), UsageError);
  });

  it('rejects only the future whose result cannot be read', async () => {
    hub.onSubmit = (): void => undefined;
    const executor = stage.makeExecutor();
    const fn = await stage.client.registerFunction(double);
    const futures = [1, 2].map((x) => executor.submit(fn, x));
    const [first, second] = await stage.tasks(2);
    assert.ok(first !== undefined && second !== undefined);
    await stage.deliver(first, { data: '99\nwhat is this' });
    await stage.deliver({ id: randomUUID() }, { data: '99\nwhat is this' });
    await stage.deliver(second, { data: '11\n4' });
    await assert.rejects(async () => await futures[0], SerializationError);
    assert.equal(await futures[1], 4);
  });

  it('gets a result that another executor of the group had received before its task was known', async () => {
    const first = stage.makeExecutor();
    const { documents, tasks } = hub;
    hub.onSubmit = async ([task]) => {
      // Of the second executor: its result comes before the answer.
      if (task !== undefined && tasks.size > 1) {
        await stage.sum(task);
        documents.set(task.id, { task_id: task.id, status: 'success', result: '11\n5' });
        await eventually(async () => {
          assert.equal(await stage.depth(), 0);
        });
      }
    };
    const fn = await stage.client.registerFunction((a: number, b: number) => a + b);
    const open = first.submit(fn, 1, 1);
    await eventually(async () => {
      assert.equal(await stage.consumerCount(), 1);
    });
    const second = stage.makeExecutor({ taskGroupId: hub.taskGroupId });
    assert.equal(await second.submit(fn, 2, 3), 5);
    open.cancel();
  });

  it('goes on when the broker is away for a while, and asks the hub meanwhile', async () => {
    hub.onSubmit = (): void => undefined;
    const executor = stage.makeExecutor();
    const fn = await stage.client.registerFunction(double);
    const futures = [1, 2].map((x) => executor.submit(fn, x));
    const [first, second] = await stage.tasks(2);
    assert.ok(first !== undefined && second !== undefined);
    await eventually(async () => {
      assert.equal(await stage.consumerCount(), 1);
    });
    const { resultConnection } = hub;
    stage.proxy.cut();
    hub.documents.set(first.id, { task_id: first.id, status: 'success', result: '11\n2' });
    await play(second);
    assert.deepEqual(await Promise.all(futures), [2, 4]);
    assert.equal(hub.resultConnection, resultConnection);
  });
});

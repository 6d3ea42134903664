/** What people get wrong at first, against a real hub and agent: each is told by what happened and what to write instead. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import {
  AuthError,
  COMPUTE_SCOPE,
  Client,
  ComputeError,
  ConflictError,
  Executor,
  ProtocolError,
  SerializationError,
  StaticTokenLoginManager,
  TaskExecutionError,
  TaskPendingError,
  UnavailableError,
  UsageError,
} from '../../src/sdk/index.ts';
import type { ClientOptions } from '../../src/sdk/index.ts';
import { freePort } from '../support/free-port.ts';
import { Stack } from '../support/stack.ts';

type ErrorClass = abstract new (...args: never) => ComputeError;

const RESULT_CHARS_MAX = 100_000;

describe('a newcomer to the SDK', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let executor: Executor;
  let endpointId: string;

  before(async () => {
    stack = await Stack.start({
      agent: {
        'javascript-threads': 1,
        'python-interpreters': 1,
        'result-chars-max': RESULT_CHARS_MAX,
      },
    });
    client = clientWith({});
    ({ endpointId } = stack);
    executor = new Executor({ client, endpointId });
  });

  after(async () => {
    await executor.shutdown();
    await stack.stop();
  });

  function clientWith(options: ClientOptions): Client {
    const { id: clientId, secret: clientSecret } = stack.client;
    const login = options.loginManager === undefined ? { clientId, clientSecret } : {};
    return new Client({
      hubUrl: stack.hubUrl,
      throttlingEnabled: false,
      environment: {},
      ...login,
      ...options,
    });
  }

  /** What is thrown or rejected with, of this class and with these words. */
  async function told(
    act: () => unknown,
    kind: ErrorClass,
    ...words: readonly RegExp[]
  ): Promise<ComputeError> {
    let error: unknown;
    try {
      await act();
    } catch (thrown) {
      error = thrown;
    }
    assert.ok(error instanceof kind, String(error));
    for (const word of words) {
      assert.match(error.message, word);
    }
    return error;
  }

  /** As in JavaScript, where nobody checks types. */
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- it is a cast, to what is wanted there
  function untyped<T>(value: unknown): T {
    return value as T;
  }

  it('names an endpoint by its name, or one that is not there', async () => {
    const fn = await client.registerFunction((x: number) => x, { name: 'same' });
    const wrong = async (where: string): Promise<unknown> =>
      await client.run(fn, { endpointId: where, args: [1] });
    await told(async () => await wrong('my-laptop'), ProtocolError, /my-laptop/, /UUID/);
    await told(async () => await wrong(randomUUID()), ConflictError, /[Ee]ndpoint .* not/);
    await told(async () => await wrong(untyped(undefined)), UsageError, /getEndpoints\(\)/);
    await told(
      () => new Executor({ client: untyped(undefined), endpointId }),
      UsageError,
      /new Client\(\)/,
    );
  });

  it('runs a function that was never registered, or forgets an await', async () => {
    const call = { endpointId, args: [1] };
    const double = (x: number): number => 2 * x;
    const handle = client.registerFunction(double);
    await told(
      async () => await client.run(untyped<string>(double), call),
      UsageError,
      /"double" is not registered.*await client\.registerFunction/,
    );
    await told(
      async () => await client.run(untyped<string>(handle), call),
      UsageError,
      /Promise.*`await`/,
    );
    await told(
      async () => await client.run(await handle, { endpointId, args: untyped<[number]>(5) }),
      UsageError,
      /\{ args: \[1, 2\] \}/,
    );
    await told(
      async () =>
        await client.run(await handle, { endpointId, args: [untyped(Promise.resolve(5))] }),
      SerializationError,
      /args\[0\].*Promise.*`await` is missing/,
    );
    const taskId = client.run(await handle, { endpointId, args: [5] });
    for (const ask of [
      async () => await client.getResult(untyped<string>(taskId)),
      async () => await client.getBatchResult([untyped<string>(taskId)]),
    ]) {
      await told(ask, UsageError, /task id is a Promise.*`await`/);
    }
    await told(
      () => executor.submit(untyped<() => 1>(double(3))),
      UsageError,
      /submit\(fn, 1, 2\)/,
    );
    await told(
      async () => await client.registerFunction(untyped<string>(undefined)),
      UsageError,
      /a function is wanted/,
    );
    assert.equal(await client.waitForResult(await taskId), 10);
  });

  it('uses a variable or an import from around the function', async () => {
    const around = 5;
    const words = /cannot use variables, functions or imports from around it/;
    const error = await told(
      async () => await executor.submit((x: number) => x * around, 1),
      TaskExecutionError,
      /ReferenceError: around is not defined/,
      words,
    );
    assert.ok(error instanceof TaskExecutionError);
    assert.equal(error.remoteMessage, 'around is not defined');
    const python = await client.registerPythonFunction('def f():\n    return math.pi\n');
    await told(
      async () => await executor.submitToRegisteredFunction(python),
      TaskExecutionError,
      /NameError: name 'math' is not defined/,
      words,
    );
  });

  it('runs a program with tsx, which marks functions with their names', async () => {
    // What esbuild makes of a function with one inside of it.
    const marked = untyped<(x: number) => number>(
      // eslint-disable-next-line @typescript-eslint/no-implied-eval, @typescript-eslint/no-unsafe-call -- the text is the subject
      new Function(
        'return (x) => { const twice = __name((y) => 2 * y, "twice"); return twice(x); }',
      )(),
    );
    assert.equal(await executor.submit(marked, 4), 8);
  });

  it('leaves out arguments, and passes what JSON does not have', async () => {
    const add = (a: number, b = 10): number => a + b;
    assert.equal(await executor.submit(add, 1, undefined), 11);
    const nothing: unknown = await executor.submit((): unknown => undefined);
    assert.equal(nothing, null);
    const circle: Record<string, unknown> = {};
    circle['self'] = circle;
    const show = (x: unknown): string => String(x);
    for (const [value, what] of [
      [circle, /args\[0\]\.self .*cycle/],
      [new Map(), /Map.*argumentFormat: 'v8'/],
      [1n, /bigint.*argumentFormat: 'v8'/],
      [() => 1, /args\[0\] .*function, which is no data/],
    ] as const) {
      await told(async () => await executor.submit(show, value), SerializationError, what);
    }
  });

  it('returns what cannot be sent back, or too much of it', async () => {
    await told(
      async () => await executor.submit((n: number) => 'x'.repeat(n), 2 * RESULT_CHARS_MAX),
      TaskExecutionError,
      /MaxResultSizeExceeded/,
      /result_chars_max/,
    );
    await told(
      async () =>
        await executor.submit(() => {
          const circle: Record<string, unknown> = {};
          circle['self'] = circle;
          return circle;
        }),
      TaskExecutionError,
      /cycl|circular/i,
    );
  });

  it('sends more than the hub takes', async () => {
    const fn = await client.registerFunction((x: string) => x.length, { name: 'size' });
    await told(
      async () => await client.run(fn, { endpointId, args: ['x'.repeat(17 * 1024 * 1024)] }),
      ComputeError,
      /OUTPOST_HUB_SUBMISSION_BYTES_MAX|OUTPOST_HUB_TASK_BYTES_MAX/,
    );
    const throttled = clientWith({ throttlingEnabled: true });
    await told(
      async () => await throttled.run(fn, { endpointId, args: ['x'.repeat(6_000_000)] }),
      ProtocolError,
      /throttlingEnabled = false/,
    );
  });

  it('waits for an endpoint that is offline', async () => {
    await stack.configureAgent('sleeping');
    const offline = await stack.startAgent('sleeping');
    await stack.stopAgent('sleeping');
    const fn = await client.registerFunction(() => 1, { name: 'one' });
    const taskId = await client.run(fn, { endpointId: offline });
    await told(async () => await client.getResult(taskId), TaskPendingError, /waiting-for-ep/);
    await told(
      async () => await client.waitForResult(taskId, { timeoutMs: 1 }),
      UnavailableError,
      /waiting-for-ep.*getEndpointStatus/,
    );
  });

  it('has a token that is none or has expired, asks for what is not there, or finds no hub', async () => {
    const withToken = clientWith({
      loginManager: new StaticTokenLoginManager({ [COMPUTE_SCOPE]: 'expired' }),
    });
    await told(async () => await withToken.getEndpoints(), AuthError, /token/);
    await told(async () => await client.getResult(randomUUID()), ConflictError, /[Tt]ask .* not/);
    await told(async () => await client.getResult('my-task'), ProtocolError, /my-task/);
    await told(
      async () => await client.run('my-function', { endpointId, args: [] }),
      ProtocolError,
      /my-function/,
    );
    const nowhere = clientWith({ hubUrl: `http://localhost:${await freePort()}`, retries: 0 });
    await told(
      async () => await nowhere.getEndpoints(),
      UnavailableError,
      /http:\/\/localhost:\d+/,
      /OUTPOST_HUB_URL|hub start|running/,
    );
  });
});

/**
 * What an endpoint lets in: `allowed_functions` and `allowed_serializers`, refused by the hub at submission and, when a task gets past
 * it, by the agent. With them what such an endpoint is for: JavaScript on both ends, with structured clones.
 */
import assert from 'node:assert/strict';

import { Client, Executor, TaskExecutionError } from '../../src/sdk/index.ts';
import type { RegisteredFunction } from '../../src/sdk/index.ts';
import { Stack } from '../support/stack.ts';

interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}

describe('what an endpoint lets in', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let echo: RegisteredFunction;
  let python: RegisteredFunction;
  let other: RegisteredFunction;
  let token: string;
  let endpointId: string;

  async function call(method: string, path: string, body: unknown): Promise<Response> {
    return await fetch(stack.hubUrl + path, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  }

  async function refusalOf(functionId: string, payload: string): Promise<Refusal> {
    const response = await call('POST', `/v3/endpoints/${endpointId}/submit`, {
      tasks: { [functionId]: [payload] },
    });
    const { code, detail } = (await response.json()) as Omit<Refusal, 'status'>;
    return { status: response.status, code, detail };
  }

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    const { id, secret } = stack.client;
    client = new Client({ hubUrl: stack.hubUrl, clientId: id, clientSecret: secret });
    echo = await client.registerFunction((value: unknown) => value, { name: 'echo' });
    python = await client.registerFunction('def f(x):\n    return x\n', {
      name: 'f',
      language: 'python',
    });
    other = await client.registerFunction(() => 'other', { name: 'other' });
    await stack.configureAgent('default', {
      'allowed-functions': `${echo.id},${python.id}`,
      'allowed-serializers': 'JavaScriptSource,JSONData,V8Data',
      'javascript-threads': 1,
      'python-interpreters': 1,
      python: '/usr/bin/python3',
      'run-in-sandbox': 'true',
    });
    endpointId = await stack.startAgent('default');
    const granted = await fetch(`${stack.hubUrl}/v2/oauth2/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
      body: new URLSearchParams({ grant_type: 'client_credentials' }),
    });
    const tokens = (await granted.json()) as { access_token: string };
    token = tokens.access_token;
  });

  after(async () => {
    await stack.stopAgent('default');
    await stack.stop();
  });

  it('is registered, and shown', async () => {
    const document = await client.hub.endpoint(endpointId);
    assert.deepEqual(document['allowed_serializers'], ['js', '11', 'v8']);
  });

  it('runs JavaScript with structured clones, in which nothing is lost', async () => {
    const executor = new Executor({ client, endpointId, argumentFormat: 'v8' });
    try {
      const circular: Record<string, unknown> = { name: 'circular' };
      circular['self'] = circular;
      const value = {
        map: new Map<unknown, unknown>([
          ['key', new Set([1, 'two'])],
          [{ object: 'as key' }, null],
        ]),
        date: new Date('2026-02-03T04:05:06.789Z'),
        big: 2n ** 70n,
        bytes: new Uint8Array([0, 255, 10]),
        floats: new Float64Array([1.5, Number.NaN, -0]),
        longs: new BigInt64Array([-1n]),
        view: new DataView(new ArrayBuffer(3)),
        regexp: /a+/giu,
        error: new RangeError('kept'),
        missing: undefined,
        holes: [1, undefined, 3],
        circular,
      };
      const result = await executor.submitToRegisteredFunction<unknown[], typeof value>(echo.id, [
        value,
      ]);
      assert.deepEqual(result, value);
      assert.equal(result.circular['self'], result.circular);
      assert.ok(Object.is(result.floats[2], -0));
    } finally {
      await executor.shutdown();
    }
  });

  it('is refused by the hub in another form, with the forms that are accepted', async () => {
    const pickled = '12\n00\ngAQpLg==\n12\n00\ngAR9lC4=\n';
    const data = await refusalOf(echo.id, pickled);
    assert.deepEqual([data.status, data.code], [422, 'SEMANTICALLY_INVALID']);
    assert.match(
      data.detail,
      /^Request payload failed validation: task 1 of function .*: Data serializer DillDataBase64 disabled by current configuration.*Allowed serializers: JSONData, V8Data$/,
    );
    const code = await refusalOf(python.id, '5\n11\n[]5\n11\n{}');
    assert.deepEqual([code.status, code.code], [422, 'SEMANTICALLY_INVALID']);
    assert.match(
      code.detail,
      /Code serializer PureSourceTextInspect .*Allowed serializers: JavaScriptSource$/,
    );
    assert.match((await refusalOf(echo.id, '99\n11\n[]')).detail, /buffers do not add up/);
  });

  it('is refused by the hub when it is another function', async () => {
    const { status, code, detail } = await refusalOf(other.id, '5\n11\n[]5\n11\n{}');
    assert.deepEqual([status, code], [403, 'FUNCTION_NOT_PERMITTED']);
    assert.match(detail, /not permitted on endpoint/);
  });

  it('is refused by the hub at registration when the list means nothing', async () => {
    const response = await call('POST', '/v3/endpoints', {
      endpoint_name: 'nonsense',
      metadata: { allowed_serializers: ['11'] },
    });
    assert.equal(response.status, 422);
    assert.match(await response.text(), /allowed_serializers: at least one serializer for code/);
  });

  it('keeps its serializers when the rest of its metadata is changed', async () => {
    const path = `/v3/endpoints/${endpointId}`;
    assert.equal((await call('PUT', path, { metadata: { description: 'new' } })).status, 200);
    const document = await client.hub.endpoint(endpointId);
    assert.deepEqual(
      [document['description'], document['allowed_serializers']],
      ['new', ['js', '11', 'v8']],
    );
  });

  it('is refused by the agent when it gets past the hub, by name', async () => {
    // As if the hub did not know better: only what it stores is opened.
    const opened = await call('PUT', `/v3/endpoints/${endpointId}`, {
      allowed_functions: [echo.id, python.id, other.id],
      metadata: { allowed_serializers: ['js', 'st', '11'] },
    });
    assert.equal(opened.status, 200);
    const executor = new Executor({ client, endpointId });
    try {
      const failures = await Promise.all(
        [
          executor.submitToRegisteredFunction(other.id),
          executor.submitToRegisteredFunction(python.id, [1]),
        ].map(async (future) => {
          try {
            return await future;
          } catch (error) {
            assert.ok(error instanceof TaskExecutionError, String(error));
            return { code: error.code, message: error.message };
          }
        }),
      );
      const [byFunction, bySerializer] = failures as { code: string; message: string }[];
      assert.equal(byFunction?.code, 'FUNCTION_NOT_ALLOWED');
      assert.match(
        byFunction.message,
        new RegExp(`Function ${other.id} not permitted on endpoint`),
      );
      assert.equal(bySerializer?.code, 'SERIALIZER_NOT_ALLOWED');
      assert.match(
        bySerializer.message,
        /Code serializer PureSourceTextInspect disabled .*Allowed serializers: JavaScriptSource/,
      );
      assert.equal(
        await executor.submitToRegisteredFunction(echo.id, ['still alive']),
        'still alive',
      );
    } finally {
      await executor.shutdown();
    }
  });
});

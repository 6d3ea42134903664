import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

import { systemClock } from '../../src/base/clock.ts';
import { UnavailableError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Hub } from '../../src/hub/hub.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import {
  assertRefused,
  FUNCTION_CODE,
  registerEndpoint,
  registerFunction,
  TestHub,
} from './hub-api-support.ts';
import type { Person } from './hub-api-support.ts';

describe('the HTTP server of the hub', () => {
  let hub: TestHub;
  let person: Person;
  before(async () => {
    hub = await TestHub.start();
    person = await hub.person();
  });
  after(async () => {
    await hub.stop();
  });

  it('tells its versions to anybody', async () => {
    const all = await hub.call('GET', '/v2/version?service=all');
    assert.equal(all.status, 200);
    assert.match(String(all.body['min_sdk_version']), /^\d+\.\d+\.\d+$/);
    assert.match(String(all.body['min_ep_version']), /^\d+\.\d+\.\d+$/);
    const alone = await hub.call('GET', '/v2/version');
    assert.equal(alone.body, all.body['api']);
  });

  it('answers on 127.0.0.1 and on ::1 when it listens on localhost', async () => {
    const { port } = new URL(hub.url);
    for (const host of ['127.0.0.1', '[::1]']) {
      assert.equal((await fetch(`http://${host}:${port}/v2/version`)).status, 200);
    }
  });

  it('is healthy while database and broker are there', async () => {
    const health = await hub.call('GET', '/v1/health');
    assert.equal(health.status, 200);
    assert.equal(health.body['status'], 'ok');
    assert.deepEqual(health.body['checks'], {
      database: { isReady: true },
      broker: { isReady: true },
    });
  });

  it('describes itself in an OpenAPI document made of the schemas that it checks with', async () => {
    const { body } = await hub.call('GET', '/openapi.json');
    assert.match(String(body['openapi']), /^3\./);
    const paths = body['paths'] as Record<string, unknown>;
    for (const path of [
      '/v3/functions',
      '/v3/endpoints/{id}/submit',
      '/v2/batch_status',
      '/v2/taskgroup/{id}',
      '/v1/health',
    ]) {
      assert.ok(path in paths, path);
    }
    assert.ok(JSON.stringify(paths['/v3/endpoints/{id}/submit']).includes('task_group_id'));
  });

  it('says which field is wrong', async () => {
    assertRefused(
      await person.call('POST', `/v3/endpoints/${crypto.randomUUID()}/submit`, { tasks: [] }),
      422,
      'SEMANTICALLY_INVALID',
      /^Request payload failed validation: body\/tasks must be object$/,
    );
    assertRefused(
      await person.call('POST', '/v3/functions', { function_name: 7, function_code: 'x' }),
      422,
      'SEMANTICALLY_INVALID',
      /body\/function_name must be string/,
    );
    assertRefused(
      await person.call('POST', '/v3/functions'),
      422,
      'SEMANTICALLY_INVALID',
      /body must be object/,
    );
  });

  it('answers 400 to what is not JSON and 415 to what does not say that it is', async () => {
    assertRefused(await person.call('POST', '/v3/functions', '{"a":'), 400, 'REQUEST_MALFORMED');
    assertRefused(
      await person.call('POST', '/v3/functions', 'a=b', { 'content-type': 'text/csv' }),
      415,
      'REQUEST_MALFORMED',
    );
  });

  it('answers 400 INVALID_UUID to an id that is none, in a path or a body', async () => {
    assertRefused(await person.call('GET', '/v2/functions/nonsense'), 400, 'INVALID_UUID');
    assertRefused(await person.call('GET', '/v2/endpoints/1/status'), 400, 'INVALID_UUID');
    assertRefused(
      await person.call('POST', '/v2/batch_status', { task_ids: ['x'] }),
      400,
      'INVALID_UUID',
    );
  });

  it('answers 404 to a route that does not exist, in the shape of every error', async () => {
    assertRefused(await hub.call('GET', '/v2/nothing'), 404, 'ROUTE_NOT_FOUND');
    assertRefused(await hub.call('GET', '/%ZZ'), 400, 'REQUEST_MALFORMED');
  });

  // A client that is still sending must get the answer, not a reset: it would send everything again.
  it('answers 413 to a body that is too large, after the client has sent all of it', async () => {
    const text = JSON.stringify({ tasks: {}, padding: 'x'.repeat(20 * 1024 * 1024) });
    assertRefused(
      await person.call('POST', `/v3/endpoints/${crypto.randomUUID()}/submit`, text),
      413,
      'TASK_PAYLOAD_TOO_LARGE',
      /bytes/,
    );
  });

  it('answers 422 to a text that the database cannot hold', async () => {
    assertRefused(
      await person.call('POST', '/v3/functions', {
        function_name: 'nul\0nul',
        function_code: FUNCTION_CODE,
      }),
      422,
      'SEMANTICALLY_INVALID',
      /NUL/,
    );
  });

  it('answers 422, naming the field, to JSON that the database cannot hold', async () => {
    const deep = JSON.parse(`${'{"a":'.repeat(500)}1${'}'.repeat(500)}`) as unknown;
    const endpoint = await registerEndpoint(person);
    for (const [value, why] of [
      ['half \ud800', /surrogate/],
      ['nul \0', /NUL/],
      [deep, /nested/],
    ] as const) {
      for (const [method, path, body, field] of [
        [
          'POST',
          '/v3/functions',
          { function_name: 'f', function_code: FUNCTION_CODE, meta: { value } },
          'body/meta',
        ],
        ['POST', '/v3/endpoints', { endpoint_name: 'e', metadata: { value } }, 'body/metadata'],
        ['PUT', `/v3/endpoints/${endpoint.endpoint_id}`, { metadata: { value } }, 'body/metadata'],
      ] as const) {
        const answer = await person.call(method, path, body);
        assertRefused(answer, 422, 'SEMANTICALLY_INVALID', why);
        assert.ok(String(answer.body['detail']).includes(field), String(answer.body['detail']));
      }
    }
  });

  it('refuses code and arguments that have no UTF-8 form instead of changing them', async () => {
    const code = 'st\nf:# \udc00\n';
    assertRefused(
      await person.call('POST', '/v3/functions', {
        function_name: 'f',
        function_code: packBuffers([code]),
      }),
      422,
      'SEMANTICALLY_INVALID',
      /body\/function_code.*surrogate/,
    );
    const functionId = await registerFunction(person);
    const { endpoint_id: endpointId } = await registerEndpoint(person);
    assertRefused(
      await person.call('POST', `/v3/endpoints/${endpointId}/submit`, {
        tasks: { [functionId]: ['11\n["\ud800"]'] },
      }),
      422,
      'SEMANTICALLY_INVALID',
      /surrogate/,
    );
  });

  it('refuses a lease epoch that no lease can have', async () => {
    const { endpoint_id: id } = await registerEndpoint(person);
    for (const epoch of [2 ** 31, 1e30, -1, 1.5]) {
      assertRefused(
        await person.call('POST', `/v1/endpoints/${id}/lease/release`, { epoch }),
        422,
        'SEMANTICALLY_INVALID',
        /body\/epoch/,
      );
    }
  });

  // The framework's own refusals have a status of the caller's fault, and were answered as failures of ours.
  it('blames the caller for a path that is too long and for a method without its content type', async () => {
    assertRefused(
      await person.call('GET', `/v2/functions/${'a'.repeat(300)}`),
      414,
      'REQUEST_MALFORMED',
    );
    assertRefused(await hub.call('QUERY', '/v2/version'), 400, 'REQUEST_MALFORMED');
  });

  it('gives every answer the id that its log has', async () => {
    const { headers } = await hub.call('GET', '/v2/version');
    assert.match(headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/);
  });

  it('cuts a connection that does not end when it is stopped', async () => {
    const own = await TestHub.start();
    const { port } = new URL(own.url);
    const socket = connect(Number(port), '127.0.0.1');
    await once(socket, 'connect');
    socket.write('POST /v3/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n');
    const closed = once(socket, 'close');
    socket.on('error', () => undefined).resume();
    await own.stop();
    await closed;
    assert.ok(socket.destroyed);
  });
});

describe('a hub that cannot start', () => {
  let hub: TestHub;
  before(async () => {
    hub = await TestHub.start();
  });
  after(async () => {
    await hub.stop();
  });

  async function failureOf(changes: Partial<TestHub['settings']>): Promise<UnavailableError> {
    const other = new Hub(
      { ...hub.settings, ...changes },
      { clock: systemClock, logger: silentLogger },
    );
    try {
      await other.start();
    } catch (error) {
      assert.ok(error instanceof UnavailableError, String(error));
      return error;
    }
    await other.stop();
    return assert.fail('it started');
  }

  async function refusedPort(): Promise<number> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    return port;
  }

  it('names the port that is taken and the variable to set', async () => {
    const { port } = new URL(hub.url);
    const error = await failureOf({ port: Number(port) });
    assert.equal(error.code, 'PORT_IN_USE');
    assert.match(error.message, new RegExp(`${port}.*OUTPOST_HUB_PORT`));
  });

  it('finds out when only ::1 is taken', async () => {
    const server = createServer().listen(0, '::1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const error = await failureOf({ port });
    assert.equal(error.code, 'PORT_IN_USE');
    assert.match(error.message, /::1/);
    server.close();
    await once(server, 'close');
  });

  it('names the database that is away, without its password', async () => {
    const port = await refusedPort();
    const databaseUrl = `postgresql://somebody:hunter2@127.0.0.1:${port}/outpost`;
    const error = await failureOf({ databaseUrl });
    assert.equal(error.code, 'DATABASE_UNREACHABLE');
    assert.match(error.message, /somebody:\*\*\*@127\.0\.0\.1.*OUTPOST_DATABASE_URL/s);
    assert.ok(!error.message.includes('hunter2'));
  });

  it('names the broker that is away', async () => {
    const port = await refusedPort();
    const error = await failureOf({
      amqpUrl: `amqp://somebody:hunter2@127.0.0.1:${port}/v`,
      managementUrl: `http://somebody:hunter2@127.0.0.1:${port}`,
      brokerTimeoutMs: 500,
    });
    assert.equal(error.code, 'BROKER_UNREACHABLE');
    assert.match(error.message, /OUTPOST_AMQP_URL/);
    assert.ok(!error.message.includes('hunter2'));
  });

  it('starts beside another hub on the same database and broker', async () => {
    const other = new Hub(hub.settings, { clock: systemClock, logger: silentLogger });
    const { url } = await other.start();
    assert.equal((await fetch(`${url}/v1/health`)).status, 200);
    await other.stop();
  });
});

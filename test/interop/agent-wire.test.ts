/**
 * What our agent puts on the wire as a user endpoint (protocol.md 5.3, 5.4, 7.3, 10.2), seen by a queue of the test's own beside the
 * hub's, and read by the Python package that defines the messages.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { Client } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { managementRequest, testServices } from '../support/services.ts';
import { runProgram, Stack } from '../support/stack.ts';

const UNPACK = join(packageRoot(), 'test/interop/python/unpack_messages.py');

/** A message as the management API gives it. */
interface SeenMessage {
  readonly payload: string;
  readonly routing_key: string;
  readonly properties: { readonly delivery_mode?: number; readonly content_type?: string };
}

describe('the agent on the wire', function () {
  let stack: Stack;
  let client: Client;
  let vhost: string;

  async function management(method: string, path: string, body?: unknown): Promise<unknown> {
    return await managementRequest(testServices().managementUrl, method, path, body);
  }

  /** Gets a copy of whatever is published to an exchange from now on. */
  async function spyOn(exchange: string): Promise<void> {
    await management('PUT', `/queues/${vhost}/spy-${exchange}`, { durable: true });
    await management('POST', `/bindings/${vhost}/e/${exchange}/q/spy-${exchange}`, {
      routing_key: '#',
    });
  }

  async function take(exchange: string): Promise<SeenMessage[]> {
    return (await management('POST', `/queues/${vhost}/spy-${exchange}/get`, {
      count: 1000,
      ackmode: 'ack_requeue_false',
      encoding: 'base64',
    })) as SeenMessage[];
  }

  /** By the unmodified package; it refuses what is not as it should be. */
  async function unpack(messages: readonly SeenMessage[]): Promise<Record<string, unknown>[]> {
    const { code, stdout, stderr } = await runProgram(
      process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '',
      [UNPACK],
      {
        input: messages
          .map(({ payload }) => `${Buffer.from(payload, 'base64').toString('hex')}\n`)
          .join(''),
      },
    );
    assert.equal(code, 0, stderr);
    const lines = stdout.trim().split('\n');
    assert.equal(lines.length, messages.length);
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  before(async () => {
    stack = await Stack.start();
    const url = new URL(stack.environment['OUTPOST_AMQP_URL'] ?? '');
    vhost = url.pathname.slice(1);
    client = new Client({
      hubUrl: stack.hubUrl,
      clientId: stack.client.id,
      clientSecret: stack.client.secret,
    });
    await spyOn('results');
    await spyOn('heartbeats');
  });

  after(async () => {
    await stack.stop();
  });

  it('consumes its task queue exclusively, and declares nothing', async () => {
    const queues = (await management('GET', `/queues/${vhost}`)) as { name: string }[];
    const name = queues.map((queue) => queue.name).find((one) => one.endsWith('.tasks'));
    assert.ok(name?.startsWith(stack.endpointId) === true);
    await eventually(async () => {
      const consumers = (await management('GET', `/consumers/${vhost}`)) as {
        queue: { name: string };
        exclusive: boolean;
        ack_required: boolean;
      }[];
      const [consumer, ...others] = consumers.filter(({ queue }) => queue.name === name);
      assert.ok(consumer !== undefined);
      assert.deepEqual(others, []);
      assert.equal(consumer.exclusive, true);
      assert.equal(consumer.ack_required, true);
    });
    const exchanges = (await management('GET', `/exchanges/${vhost}`)) as { name: string }[];
    const own = exchanges.map((exchange) => exchange.name).filter((one) => !/^(amq\.|$)/.test(one));
    assert.deepEqual(own.sort(), ['commands', 'heartbeats', 'results', 'tasks']);
  });

  it('publishes results as the original endpoint does', async () => {
    const good = await client.registerPythonFunction('def f(x):\n    return x\n', 'f');
    const bad = await client.registerPythonFunction('def g():\n    return 1 / 0\n', 'g');
    const taskIds = [
      await client.run(good, stack.endpointId, ['é😀']),
      await client.run(bad, stack.endpointId, []),
    ];
    const messages: SeenMessage[] = [];
    await eventually(async () => {
      messages.push(...(await take('results')));
      assert.equal(messages.length, 2);
    });
    for (const { routing_key: routingKey, properties } of messages) {
      assert.equal(routingKey, `${stack.endpointId}.results`);
      assert.equal(properties.delivery_mode, 2);
    }
    const results = await unpack(messages);
    const [success, failure] = taskIds.map((id) => results.find((one) => one['task_id'] === id));
    for (const result of [success, failure]) {
      assert.ok(result !== undefined);
      assert.deepEqual(Object.keys(result['details'] as object).sort(), [
        ...['dill_version', 'endpoint_id', 'globus_compute_sdk_version', 'os', 'python_version'],
      ]);
      const transitions = result['task_statuses'] as { actor: string; state: string }[];
      assert.deepEqual(
        transitions.map(({ actor, state }) => [actor, state]),
        [
          ['worker', 'execution-start'],
          ['worker', 'execution-end'],
        ],
      );
    }
    assert.equal(success?.['data'], '11\n"\\u00e9\\ud83d\\ude00"');
    assert.equal(success['error_details'], null);
    assert.match(String(failure?.['data']), /^Traceback .*ZeroDivisionError: division by zero\n$/s);
    const details = failure?.['error_details'] as Record<string, unknown>;
    assert.equal(details['code'], 'RemoteExecutionError');
    assert.equal(details['user_message'], 'An error occurred during the execution of this task');
  });

  it('reports as long as it lives, and says so when it ends', async () => {
    const seen: SeenMessage[] = [];
    await eventually(async () => {
      seen.push(...(await take('heartbeats')));
      assert.ok(seen.length >= 2);
    });
    await stack.stopAgent('default');
    seen.push(...(await take('heartbeats')));
    for (const { routing_key: routingKey, properties } of seen) {
      assert.equal(routingKey, `${stack.endpointId}.heartbeats`);
      assert.equal(properties.delivery_mode, 2);
    }
    const reports = await unpack(seen);
    const states = reports.map((report) => report['global_state'] as Record<string, unknown>);
    assert.ok(reports.every((report) => report['endpoint_id'] === stack.endpointId));
    assert.ok(states.every((state) => state['heartbeat_period'] === 1));
    assert.deepEqual(
      states.map((state) => state['active']),
      states.map((_, index) => index < states.length - 1),
    );
    assert.ok(states.every((state) => typeof state['total_workers'] === 'number'));
  });
});

/**
 * A user's day with hub, agent and the TypeScript SDK, all of them the built commands as processes: what works, what is refused, and
 * that a task always ends.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { silentLogger } from '../../src/base/logger.ts';
import type { Logger } from '../../src/base/logger.ts';
import { packageVersion } from '../../src/base/package-root.ts';
import { packTask } from '../../src/protocol/messages.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import { Client, Executor, TaskExecutionError, TaskPendingError } from '../../src/sdk/index.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import { eventually } from '../support/eventually.ts';
import { untilFile } from '../support/held-function.ts';
import { isAlive } from '../support/processes.ts';
import { Stack } from '../support/stack.ts';

describe('hub, agent and SDK together', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let executor: Executor;

  before(async () => {
    stack = await Stack.start({ agent: { python: '/usr/bin/python3', 'kill-grace-s': 1 } });
    client = makeClient();
    executor = new Executor({ client, endpointId: stack.endpointId });
  });

  after(async () => {
    await executor.shutdown();
    await stack.stop();
  });

  function makeClient(): Client {
    const { id: clientId, secret: clientSecret } = stack.client;
    return new Client({ hubUrl: stack.hubUrl, clientId, clientSecret });
  }

  async function failureOf(work: PromiseLike<unknown>): Promise<TaskExecutionError> {
    try {
      await work;
    } catch (error) {
      assert.ok(error instanceof TaskExecutionError, `not a task's failure: ${String(error)}`);
      return error;
    }
    return assert.fail('the task succeeded');
  }

  async function agentStatus(): Promise<{
    state: string;
    tasks: Record<string, number>;
    worker_host_pid: number;
  }> {
    const outcome = await stack.agentCommand('status', 'default', '--json');
    assert.equal(outcome.code, 0, outcome.stderr);
    return JSON.parse(outcome.stdout) as never;
  }

  it('shows the host and the version of its agent', async () => {
    const document = await client.hub.endpoint(stack.endpointId);
    assert.equal(document['hostname'], hostname());
    assert.equal(document['endpoint_version'], packageVersion());
  });

  it('runs a JavaScript function', async () => {
    assert.equal(await executor.submit((a: number, b: number) => a + b, 2, 3), 5);
  });

  it('runs a Python function by its source', async () => {
    const square = await client.registerPythonFunction('def square(x):\n    return x * x\n');
    assert.equal(await executor.submitToRegisteredFunction(square, [12]), 144);
  });

  it('polls for what the Client ran', async () => {
    const gate = join(stack.home, 'polled');
    const taskId = await client.run(await client.registerFunction(untilFile), stack.endpointId, [
      gate,
      'let go',
    ]);
    await assert.rejects(client.getResult(taskId), TaskPendingError);
    await writeFile(gate, '');
    assert.equal(await client.waitForResult(taskId, { timeoutMs: 60_000 }), 'let go');
    // Reading does not consume.
    assert.equal(await client.getResult(taskId), 'let go');
  });

  it('brings 2,000 results back, each to its own future', async () => {
    const futures = Array.from({ length: 2000 }, (_, index) =>
      executor.submit((n: number) => n * 2, index),
    );
    const values = await Promise.all(futures);
    assert.deepEqual(
      values,
      Array.from({ length: 2000 }, (_, index) => index * 2),
    );
  });

  it('tells two readers of one task group of each other, and brings every result to both', async () => {
    const warnings: string[] = [];
    const logger: Logger = {
      ...silentLogger,
      child: () => logger,
      warn: (_fields, message) => {
        warnings.push(message);
      },
    };
    const gate = join(stack.home, 'gate');
    await using first = new Executor({ client, endpointId: stack.endpointId, logger });
    const futures = Array.from({ length: 20 }, (_, index) => first.submit(untilFile, gate, index));
    await Promise.all(futures.map(async ({ submitted }) => await submitted));
    assert.ok(first.taskGroupId !== undefined);
    // As another process would: another client, so another connection.
    const { executor: second, futures: others } = await Executor.reattach(first.taskGroupId, {
      client: makeClient(),
    });
    try {
      // A person's broker user may configure nothing, and count the consumers of a queue all the same.
      await eventually(() => {
        assert.match(warnings.join(), /another process consumes the results/);
      });
      await writeFile(gate, '');
      const expected = Array.from({ length: 20 }, (_, index) => index);
      assert.deepEqual(await Promise.all(futures), expected);
      assert.deepEqual(new Set(await Promise.all(others)), new Set(expected));
    } finally {
      await writeFile(gate, '');
      await second.shutdown();
    }
  });

  it('brings back type, message and traceback of what was thrown, in both languages', async () => {
    const javascript = await failureOf(
      executor.submit(() => {
        throw new RangeError('too far');
      }),
    );
    assert.equal(javascript.type, 'RangeError');
    assert.equal(javascript.remoteMessage, 'too far');
    const raise = await client.registerPythonFunction(
      'def f():\n    raise LookupError("not there")\n',
    );
    const python = await failureOf(executor.submitToRegisteredFunction(raise, []));
    assert.equal(python.type, 'LookupError');
    assert.equal(python.remoteMessage, 'not there');
    assert.match(python.traceback, /line 2, in f/);
  });

  it('keeps what a task printed', async () => {
    const noisy = await client.registerPythonFunction(
      'def noisy():\n    import os\n    print("from print")\n    os.system("echo from a child")\n    raise ValueError("end")\n',
    );
    const failure = await failureOf(executor.submitToRegisteredFunction(noisy, []));
    const taskId = failure.taskId;
    const document = await client.hub.task(taskId);
    assert.equal(document.outpost?.stdout, 'from print\nfrom a child\n');
  });

  it('delivers the result of a task that printed what is no text', async () => {
    const binary = await client.registerPythonFunction(
      'def binary():\n    import os\n    os.write(1, bytes(20000))\n    os.write(2, b"\\xff" * 20000)\n    return "done"\n',
    );
    assert.equal(await executor.submitToRegisteredFunction(binary, []), 'done');
  });

  it('takes a walltime of a month', async () => {
    const quick = await client.registerFunction(() => 'quick');
    const resourceSpecification = { walltime: 30 * 24 * 3600 };
    const taskId = await client.run(quick, stack.endpointId, [], { resourceSpecification });
    assert.equal(await client.waitForResult(taskId, { timeoutMs: 60_000 }), 'quick');
  });

  it('says where a function does not parse', async () => {
    const broken = await client.registerFunction('function broken( { return 1 }', {
      name: 'broken',
    });
    const failure = await failureOf(executor.submitToRegisteredFunction(broken, []));
    assert.equal(failure.type, 'SyntaxError');
    const pythonBroken = await client.registerPythonFunction('def broken(:\n    pass\n', {
      name: 'broken',
    });
    assert.equal(
      (await failureOf(executor.submitToRegisteredFunction(pythonBroken, []))).type,
      'SyntaxError',
    );
  });

  it('names the trouble when arguments cannot be deserialized', async () => {
    const identity = await client.registerPythonFunction('def identity(x):\n    return x\n');
    const accepted = await client.hub.submit(stack.endpointId, {
      tasks: { [identity.id]: [packBuffers(['11\n[1', '11\n{}']), 'no packed buffers at all'] },
    });
    for (const taskId of accepted.tasks[identity.id] ?? []) {
      const failure = await failureOf(client.waitForResult(taskId, { timeoutMs: 60_000 }));
      assert.notEqual(failure.remoteMessage, '');
    }
  });

  it('names the trouble when a result cannot be serialized', async () => {
    const cyclic = await failureOf(
      executor.submit(() => {
        const value: Record<string, unknown> = {};
        value['self'] = value;
        return value;
      }),
    );
    assert.match(cyclic.message, /serializ|circular/i);
    const open = await client.registerPythonFunction(
      'def f():\n    import threading\n    return threading.Lock()\n',
    );
    const failure = await failureOf(executor.submitToRegisteredFunction(open, []));
    assert.match(failure.message, /serializ/i);
  });

  it('says what to install when a pickled function comes to an interpreter without dill', async () => {
    const pickled = await client.hub.registerFunction({
      function_name: 'pickled',
      function_code: packBuffers(['01\ngASVAAAA\n']),
    });
    const failure = await failureOf(executor.submitToRegisteredFunction(pickled.function_uuid, []));
    assert.match(failure.message, /dill/);
    assert.match(failure.message, /pip install dill/);
  });

  it('fails a task by name when its worker dies, and goes on with the next', async () => {
    const dies = await client.registerPythonFunction(
      'def dies():\n    import os\n    os._exit(3)\n',
    );
    const failure = await failureOf(executor.submitToRegisteredFunction(dies, []));
    assert.equal(failure.code, 'WORKER_EXITED');
    const exits = await failureOf(
      executor.submit(() => {
        // eslint-disable-next-line n/no-process-exit -- what a user's function may do
        process.exit(4);
      }),
    );
    assert.equal(exits.code, 'WORKER_EXITED');
    const fine = await client.registerPythonFunction('def fine():\n    return "fine"\n');
    assert.equal(await executor.submitToRegisteredFunction(fine, []), 'fine');
  });

  it('ends a task at its walltime together with what it started', async () => {
    const endless = await client.registerPythonFunction(
      'def endless():\n    import subprocess\n    subprocess.run(["sleep", "4242"])\n',
    );
    const taskId = await client.run(endless, stack.endpointId, [], {
      resourceSpecification: { walltime: 1 },
    });
    const failure = await failureOf(client.waitForResult(taskId, { timeoutMs: 60_000 }));
    assert.equal(failure.code, 'TASK_TIMED_OUT');
    assert.deepEqual(await commandLinesWith('sleep\0' + '4242'), []);
  });

  it('refuses an interpreter that does not exist before anything is started', async () => {
    const outcome = await stack.agentCommand(
      'configure',
      'none',
      '--python',
      '/nonexistent/python3',
    );
    assert.equal(outcome.code, 78);
    assert.match(outcome.stderr, /python.*\/nonexistent\/python3.*no such file/);
  });

  it('fails Python tasks with what an interpreter that does not start said, and runs JavaScript all the same', async () => {
    const python = join(stack.home, 'broken-python');
    await writeFile(python, '#!/bin/sh\necho "broken installation" >&2\nexit 1\n', { mode: 0o755 });
    await stack.configureAgent('broken', { python });
    const endpointId = await stack.startAgent('broken');
    const broken = new Executor({ client, endpointId });
    try {
      const fine = await client.registerPythonFunction('def fine():\n    return "fine"\n');
      const failure = await failureOf(broken.submitToRegisteredFunction(fine, []));
      assert.equal(failure.code, 'WORKER_START_FAILED');
      assert.match(failure.message, /broken installation/);
      assert.equal(await broken.submit(() => 'fine'), 'fine');
      const status = await stack.agentCommand('status', 'broken', '--json');
      const { degraded } = JSON.parse(status.stdout) as { degraded: Record<string, string> };
      assert.match(degraded['python'] ?? '', /broken installation/);
    } finally {
      await broken.shutdown();
      await stack.stopAgent('broken');
    }
  });

  it('replaces a worker host that is killed and fails only what it ran', async () => {
    const { worker_host_pid: hostPid } = await agentStatus();
    const waits = await client.registerPythonFunction(
      'def waits():\n    import time\n    time.sleep(60)\n',
    );
    const future = executor.submitToRegisteredFunction(waits, []);
    await eventually(async () => {
      assert.equal((await agentStatus()).tasks['running'], 1);
    });
    process.kill(hostPid, 'SIGKILL');
    assert.equal((await failureOf(future)).code, 'WORKER_EXITED');
    assert.equal(await executor.submit(() => 'again'), 'again');
  });

  it('fails malformed task messages by name, and goes on', async () => {
    const vhostUrl = stack.environment['OUTPOST_AMQP_URL'] ?? '';
    const endpoint = await client.hub.endpoint(stack.endpointId);
    assert.equal(endpoint['uuid'], stack.endpointId);
    const connection = await dialAmqp({ url: vhostUrl, connectionName: 'test' });
    try {
      const publisher = await connection.openPublisher();
      const queue = await taskQueueOf(stack);
      // Without headers, without a body, with a body of another kind: none of them may stop the agent.
      await publisher.publish('tasks', queue, Buffer.from('garbage'), { mandatory: true });
      await publisher.publish('tasks', queue, Buffer.alloc(0), { headers: { task_uuid: 7 } });
      await publisher.publish(
        'tasks',
        queue,
        packTask({ task_id: randomUUID(), task_buffer: '' }),
        {},
      );
      await publisher.publish('tasks', queue, Buffer.from('\x01{}'), {
        headers: { task_uuid: randomUUID(), function_uuid: randomUUID() },
      });
      await publisher.close();
    } finally {
      await connection.close();
    }
    assert.equal(await executor.submit(() => 'alive'), 'alive');
    assert.match(await stack.agentLog('default'), /rejected a message that is no task/);
  });

  it('runs what was submitted while it was away, and answers after a kill', async () => {
    const pid = await stack.agentPid('default');
    const waits = await client.registerFunction(async () => {
      await new Promise((resolve) => {
        setTimeout(resolve, 60_000);
      });
    });
    const lost = await client.run(waits, stack.endpointId, []);
    await eventually(async () => {
      assert.equal((await agentStatus()).tasks['running'], 1);
    });
    process.kill(pid, 'SIGKILL');
    const double = await client.registerFunction((n: number) => n * 2);
    const waiting = await client.run(double, stack.endpointId, [21]);
    await stack.startAgent('default');
    assert.equal(await client.waitForResult(waiting, { timeoutMs: 60_000 }), 42);
    const failure = await failureOf(client.waitForResult(lost, { timeoutMs: 60_000 }));
    assert.equal(failure.code, 'AGENT_RESTARTED');
  });

  it('stops cleanly: nothing alive, the endpoint offline, results of running tasks delivered', async () => {
    const gate = join(stack.home, 'stopping');
    const taskId = await client.run(await client.registerFunction(untilFile), stack.endpointId, [
      gate,
      'let go',
    ]);
    await eventually(async () => {
      assert.equal((await agentStatus()).tasks['running'], 1);
    });
    const pid = await stack.agentPid('default');
    const stopped = stack.stopAgent('default');
    await eventually(async () => {
      assert.equal((await agentStatus()).state, 'draining');
    });
    await writeFile(gate, '');
    await stopped;
    assert.equal(isAlive(pid), false);
    assert.equal(await client.waitForResult(taskId, { timeoutMs: 60_000 }), 'let go');
    await eventually(async () => {
      assert.equal((await client.getEndpointStatus(stack.endpointId)).status, 'offline');
    });
    assert.deepEqual(await commandLinesWith(stack.home), []);
    assert.equal(await stack.startAgent('default'), stack.endpointId);
  });

  it('keeps the secret out of logs, arguments and the environment of workers', async () => {
    assert.ok(!(await stack.agentLog('default')).includes(stack.client.secret));
    const pid = await stack.agentPid('default');
    for (const file of ['environ', 'cmdline']) {
      assert.ok(!(await readFile(`/proc/${pid}/${file}`, 'latin1')).includes(stack.client.secret));
    }
    const environment = await client.registerPythonFunction(
      'def environment():\n    import os\n    return dict(os.environ)\n',
    );
    const seen = JSON.stringify(await executor.submitToRegisteredFunction(environment, []));
    assert.ok(!seen.includes(stack.client.secret));
    assert.ok(!seen.includes('OUTPOST_CLIENT'));
  });
});

/** Command lines of living processes that contain a text. */
async function commandLinesWith(text: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) {
      continue;
    }
    try {
      const commandLine = await readFile(`/proc/${entry}/cmdline`, 'latin1');
      if (commandLine.includes(text)) {
        found.push(commandLine);
      }
    } catch (error) {
      // A process that ended while the list was read.
      assert.ok(['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? ''));
    }
  }
  return found;
}

async function taskQueueOf(stack: Stack): Promise<string> {
  const vhost = decodeURIComponent(
    new URL(stack.environment['OUTPOST_AMQP_URL'] ?? '').pathname.slice(1),
  );
  const { managementRequest } = await import('../support/services.ts');
  const queues = (await managementRequest(
    stack.environment['OUTPOST_AMQP_MANAGEMENT_URL'] ?? '',
    'GET',
    `/queues/${encodeURIComponent(vhost)}`,
  )) as { name: string }[];
  const queue = queues.find(
    ({ name }) => name.startsWith(stack.endpointId) && name.endsWith('.tasks'),
  );
  assert.ok(queue !== undefined, 'the endpoint has no task queue');
  return queue.name;
}

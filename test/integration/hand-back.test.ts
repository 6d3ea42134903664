/** An agent that stops gives the hub what it had acked and not begun, so that no task waits for a host that may be gone. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { Client, Executor } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { untilFile } from '../support/held-function.ts';
import { Stack } from '../support/stack.ts';

const TASK_COUNT = 12;

describe('an agent that stops with tasks that have not begun', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let executor: Executor;

  before(async () => {
    stack = await Stack.start({
      agent: { 'python-interpreters': 0, 'javascript-threads': 1, 'drain-grace-s': 30 },
    });
    const { hubUrl, client: credentials } = stack;
    client = new Client({
      hubUrl,
      clientId: credentials.id,
      clientSecret: credentials.secret,
    });
    executor = new Executor({ client, endpointId: stack.endpointId });
  });

  after(async () => {
    await executor.shutdown({ wait: false, cancelPending: true });
    await stack.stop();
  });

  it('finishes what runs, and the others run elsewhere, also without its journal', async () => {
    const gate = join(stack.home, 'gate');
    const futures = Array.from({ length: TASK_COUNT }, (_, index) =>
      executor.submit(untilFile, gate, index),
    );
    await eventually(async () => {
      const { stdout } = await stack.agentCommand('tasks', 'default', '--json');
      const held = JSON.parse(stdout) as { tasks?: unknown[] } | unknown[];
      const count = Array.isArray(held) ? held.length : (held.tasks?.length ?? 0);
      assert.ok(count > 2, stdout);
    });
    const stopped = stack.stopAgent('default');
    await eventually(async () => {
      const { stdout } = await stack.agentCommand('status', 'default', '--json');
      assert.equal((JSON.parse(stdout) as { state: string }).state, 'draining');
    });
    await writeFile(gate, '');
    await stopped;
    const ids = futures.map(({ taskId }) => taskId ?? '');
    const documents = await client.hub.tasks(ids);
    const waiting = ids.filter((taskId) => documents[taskId]?.status === 'waiting-for-ep');
    assert.ok(waiting.length >= TASK_COUNT - 3, JSON.stringify(documents));
    // The next run starts as on another host: nothing is left here.
    await rm(join(stack.home, '.outpost', 'default', 'journal'), { recursive: true });
    await stack.startAgent('default');
    const values = await Promise.all(futures);
    assert.deepEqual(
      values,
      Array.from({ length: TASK_COUNT }, (_, index) => index),
    );
  });
});

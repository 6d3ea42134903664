/** An agent on a host where a batch scheduler is installed: it starts, says loudly that nothing runs, and runs what its operator asks for. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { getPriority } from 'node:os';
import { join } from 'node:path';

import { Client, Executor, TaskExecutionError } from '../../src/sdk/index.ts';
import { Stack, runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

describe('an agent on a login node', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let executor: Executor;
  let environment: NodeJS.ProcessEnv;

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    const bin = join(stack.home, 'bin');
    await mkdir(bin);
    await writeFile(join(bin, 'sbatch'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const path = stack.agentEnvironment['PATH'] ?? '';
    environment = { ...stack.agentEnvironment, PATH: `${bin}:${path}` };
    await stack.configureAgent('default', { python: '/usr/bin/python3' });
    const { id: clientId, secret: clientSecret } = stack.client;
    client = new Client({ hubUrl: stack.hubUrl, clientId, clientSecret });
  });

  after(async () => {
    await executor.shutdown();
    await stack.stop();
  });

  async function agent(...args: string[]): Promise<CommandOutcome> {
    const script = join(import.meta.dirname, '../../src/cli/agent.js');
    return await runProgram(process.execPath, [script, ...args], { env: environment });
  }

  async function failureOf(work: PromiseLike<unknown>): Promise<string> {
    try {
      await work;
    } catch (error) {
      assert.ok(error instanceof TaskExecutionError, String(error));
      return error.message;
    }
    return assert.fail('the task succeeded');
  }

  it('starts without workers, and says so when it starts, in status and in its log', async () => {
    const started = await agent('start', '--json');
    assert.equal(started.code, 0, started.stderr);
    assert.match(started.stderr, /^Warning: No tasks will run on this host: .*\/bin\/sbatch/);
    stack.endpointId = (JSON.parse(started.stdout) as { endpoint_id: string }).endpoint_id;
    executor = new Executor({ client, endpointId: stack.endpointId });
    const status = await agent('status');
    assert.match(status.stdout, /^Warning: +No tasks will run on this host/m);
    assert.match(status.stdout, /^State: +online$/m);
    const document = JSON.parse((await agent('status', '--json')).stdout) as { notices: string[] };
    assert.equal(document.notices.length, 1);
    assert.match(await stack.agentLog('default'), /"warn".*No tasks will run on this host/);
  });

  it('fails each task at once, with what its operator can set', async () => {
    const python = await client.registerPythonFunction('def f():\n    return 1\n');
    const [inJavascript, inPython] = await Promise.all([
      failureOf(executor.submit(() => 1)),
      failureOf(executor.submitToRegisteredFunction(python, [])),
    ]);
    assert.match(inJavascript, /LANGUAGE_NOT_AVAILABLE.*batch scheduler.*set javascript_threads/);
    assert.match(inPython, /LANGUAGE_NOT_AVAILABLE.*batch scheduler.*set python_interpreters/);
  });

  it('runs what it is told to run, and stands back with it', async () => {
    const restarted = await agent('restart', '--python-interpreters', '1');
    assert.equal(restarted.code, 0, restarted.stderr);
    assert.match(restarted.stderr, /^Warning: No JavaScript functions will run/m);
    const nice = await client.registerPythonFunction(
      'import os\ndef f():\n    return os.nice(0)\n',
    );
    assert.equal(await executor.submitToRegisteredFunction(nice, []), Math.max(10, getPriority()));
    assert.equal(getPriority(await stack.agentPid('default')), getPriority());
  });
});

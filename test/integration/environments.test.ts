/** Execution environments from end to end: registered at the hub by the SDK, named by a function, and what the function then runs in. */
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { EnvironmentType } from '../../src/protocol/sharing.ts';
import { Client, TaskExecutionError } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { Stack, runProgram } from '../support/stack.ts';

const PYTHON = '/usr/bin/python3';
const SOURCE = 'def f(x):\n    import only_here, sys\n    return [only_here.NAME, sys.prefix, x]\n';

describe('functions in execution environments', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let venv: string;
  let endpointId: string;
  let metricsPort: number;

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    const { id, secret } = stack.client;
    client = new Client({ hubUrl: stack.hubUrl, clientId: id, clientSecret: secret });
    venv = join(stack.home, 'science');
    const made = await runProgram(PYTHON, ['-m', 'venv', '--without-pip', venv]);
    assert.equal(made.code, 0, made.stderr);
    for (const version of readdirSync(join(venv, 'lib'))) {
      writeFileSync(join(venv, 'lib', version, 'site-packages/only_here.py'), 'NAME = "science"\n');
    }
    metricsPort = await freePort();
    await stack.configureAgent('default', {
      python: PYTHON,
      'javascript-threads': 1,
      'python-interpreters': 1,
      environments: JSON.stringify({
        allow: [`venv:${venv}`, `venv:${join(stack.home, 'broken')}`],
      }),
      'metrics-listen': `127.0.0.1:${metricsPort}`,
    });
    endpointId = await stack.startAgent('default');
  });

  after(async () => {
    await stack.stopAgent('default');
    await stack.stop();
  });

  async function run(type: EnvironmentType, location: string, source = SOURCE): Promise<unknown> {
    const container = await client.registerContainer(location, type, 'science');
    const language = source === SOURCE ? 'python' : 'javascript';
    const fn = await client.registerFunction(source, { name: 'f', language, container });
    const taskId = await client.run(fn, endpointId, [7]);
    return await client.waitForResult(taskId, { timeoutMs: 60_000 });
  }

  it('run there, with what only that environment has', async () => {
    assert.deepEqual(await run('venv', venv), ['science', venv, 7]);
    const plain = await client.registerFunction(SOURCE, { name: 'f', language: 'python' });
    const taskId = await client.run(plain, endpointId, [7]);
    await assert.rejects(client.waitForResult(taskId), /No module named 'only_here'/);
  });

  it('are seen by the operator: in the status and in the metrics, and why one does not start', async () => {
    await run('venv', venv);
    await assert.rejects(run('venv', join(stack.home, 'broken')), { code: 'WORKER_START_FAILED' });
    await eventually(async () => {
      const { stdout: json } = await stack.agentCommand('status', 'default', '--json');
      const { environments } = JSON.parse(json) as { environments: Record<string, unknown>[] };
      const shown = environments.map(({ location, idle, reason }) => [location, idle, typeof reason]); // prettier-ignore
      assert.deepEqual(shown, [
        [join(stack.home, 'broken'), 0, 'string'],
        // One for each time that it was registered.
        [venv, 2, 'undefined'],
      ]);
    }, 30_000);
    const { stdout } = await stack.agentCommand('status', 'default');
    assert.match(stdout, new RegExp(`^Environment: +venv ${venv}: 2 idle$`, 'm'));
    assert.match(stdout, /^Environment: +venv .*broken: does not start: .*broken/m);
    const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    assert.match(text, /^outpost_environment_interpreters\{type="venv",state="idle"\} 2$/m);
    assert.match(text, /^outpost_environments_failing 1$/m);
  });

  it('fail at once, with what the operator can set, where the environment is not allowed', async () => {
    await assert.rejects(run('venv', '/opt/other'), (error: unknown) => {
      assert.ok(error instanceof TaskExecutionError);
      assert.match(
        error.message,
        /does not run functions in environment .*\(venv \/opt\/other\).*"venv:\/opt\/other" to `allow`/,
      );
      return true;
    });
  });

  it('are refused by the hub where the endpoint has no environment of that type', async () => {
    await assert.rejects(run('docker', 'python:3.11'), /endpoint .* has only venv/);
  });

  it('are not run outside of it when they are JavaScript', async () => {
    await assert.rejects(
      run('venv', venv, 'function f(x) { return x; }'),
      /JavaScript functions run in no execution environment/,
    );
  });
});

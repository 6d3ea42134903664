/** The programs as `npm run build` leaves them for people, in few files: everything that one of them loads or starts by a path is found. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { Client, Executor, TaskExecutionError } from '../../src/sdk/index.ts';
import { Stack, runProgram } from '../support/stack.ts';

const PROGRAMS = join(packageRoot(), 'dist/cli');

describe('the built programs', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let executor: Executor;

  before(async () => {
    assert.ok(existsSync(join(packageRoot(), 'dist/chunks')), 'not built: npm run build');
    stack = await Stack.start({
      programs: PROGRAMS,
      agent: { 'python-interpreters': 1, 'javascript-threads': 1 },
    });
    const { id: clientId, secret: clientSecret } = stack.client;
    client = new Client({ hubUrl: stack.hubUrl, clientId, clientSecret });
    executor = new Executor({ client, endpointId: stack.endpointId });
  });

  after(async () => {
    await executor.shutdown();
    await stack.stop();
  });

  it('run functions in JavaScript and Python', async () => {
    assert.equal(await executor.submit((a: number, b: number) => a + b, 2, 3), 5);
    const square = await client.registerPythonFunction('def square(x):\n    return x * x\n');
    assert.equal(await executor.submitToRegisteredFunction(square, [12]), 144);
  });

  it('show people their own stack frames and none of ours', async () => {
    const work = executor.submit(() => {
      throw new RangeError('too far');
    });
    await assert.rejects(work, (error) => {
      assert.ok(error instanceof TaskExecutionError, String(error));
      assert.match(error.message, /RangeError: too far/);
      assert.doesNotMatch(error.message, /dist\/|thread-worker|chunks/);
      return true;
    });
  });

  it('have all that any command loads', async () => {
    const chunks = join(packageRoot(), 'dist/chunks');
    const files = (await readdir(chunks)).filter((file) => file.endsWith('.js'));
    assert.ok(files.length > 20, files.join(' '));
    const imports = files.map((file) => `await import(${JSON.stringify(join(chunks, file))});`);
    const { code, stderr } = await runProgram(
      process.execPath,
      ['--input-type=module', '--eval', imports.join('')],
      { env: stack.agentEnvironment },
    );
    assert.equal(code, 0, stderr);
  });

  it('answer while the agent runs', async () => {
    for (const args of [['status'], ['journal'], ['config', 'show'], ['whoami']]) {
      const { code, stdout, stderr } = await stack.agentCommand(...args, '--json');
      assert.equal(code, 0, `agent ${args.join(' ')}: ${stderr}`);
      JSON.parse(stdout);
    }
  });
});

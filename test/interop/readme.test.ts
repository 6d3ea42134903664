/**
 * The README's own code, run: what stands there in TypeScript, and in Python with the unmodified SDK and with outpost_sdk. A block is
 * taken as it is; only what it leaves to its reader is filled in.
 */
import assert from 'node:assert/strict';
import { cpSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import ts from 'typescript';

import { packageRoot } from '../../src/base/package-root.ts';
import { Stack, runProgram } from '../support/stack.ts';

/** The unmodified SDK knows no other port. */
const SDK_PORT = 5000;

/** The blocks of a language, in their order. */
function blocks(language: string): string[] {
  const readme = readFileSync(join(packageRoot(), 'README.md'), 'utf8');
  const found = [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))];
  return found.map(([, code = '']) => code);
}

/** The lines that import stand first in a module. */
function withImportsFirst(code: string): string {
  const isImport = (line: string): boolean => line.startsWith('import ');
  const lines = code.split('\n');
  return [...lines.filter(isImport), ...lines.filter((line) => !isImport(line))].join('\n');
}

/** A program as Node.js runs it; the package is the one under test. */
function javascript(code: string): string {
  const { outputText } = ts.transpileModule(withImportsFirst(code), {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
  });
  const sdk = new URL('../../src/sdk/index.js', import.meta.url).href;
  return outputText.replace("from 'outpost'", `from ${JSON.stringify(sdk)}`);
}

describe('the README', function () {
  this.timeout(180_000);
  let stack: Stack;
  let environment: NodeJS.ProcessEnv;

  before(async () => {
    stack = await Stack.start({ port: SDK_PORT });
    const password = join(stack.home, 'password');
    await writeFile(password, 'correct horse battery staple', { mode: 0o600 });
    const user = await stack.hubCommand('user', 'create', 'ada', '--password-file', password);
    assert.equal(user.code, 0, user.stderr);
    environment = {
      ...{ PATH: process.env['PATH'], LANG: 'C.UTF-8', HOME: stack.home },
      OUTPOST_HUB_URL: stack.hubUrl,
      OUTPOST_CLIENT_ID: stack.client.id,
      OUTPOST_CLIENT_SECRET: stack.client.secret,
      PYTHONDONTWRITEBYTECODE: '1',
    };
  });

  after(async () => {
    await stack.stop();
  });

  async function run(program: string, name: string, code: string): Promise<unknown> {
    const file = join(stack.home, name);
    await writeFile(file, code);
    const outcome = await runProgram(program, [file], { env: environment, limitMs: 120_000 });
    assert.equal(outcome.code, 0, `${outcome.stdout}${outcome.stderr}\n${code}`);
    return JSON.parse(outcome.stdout.trim().split('\n').at(-1) ?? '');
  }

  it('has a program for the unmodified SDK that runs', async () => {
    const [first = ''] = blocks('python');
    Object.assign(environment, stack.sdkEnvironment);
    const python = process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '';
    assert.equal(await run(python, 'readme.py', first.replace('…', stack.endpointId)), 42);
  });

  it('has a tour with outpost_sdk that runs', async () => {
    const [, ...tour] = blocks('python');
    assert.equal(tour.length, 5, 'registration, sharing, discovery, batches, results');
    const group = await stack.hubCommand('group', 'create', 'lab', '--admin', 'tester', '--json');
    assert.equal(group.code, 0, group.stderr);
    environment['PYTHONPATH'] = join(packageRoot(), 'python');
    const told = await run(
      process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '',
      'tour.py',
      `
group_id = ${JSON.stringify((JSON.parse(group.stdout) as { group_id: string }).group_id)}
endpoint_ids = [${JSON.stringify(stack.endpointId)}] * 2
${tour.join('\n')}
import json
import time

while any(record["pending"] for record in records.values()):
    time.sleep(0.2)
    records = client.get_batch_result(task_ids)
print(json.dumps({"means": [records[task_id]["result"] for task_id in task_ids]}))
`,
    );
    assert.deepEqual(told, { means: [0.5, 1.5] });
  });

  it('has a tour in TypeScript that runs', async () => {
    const [first = '', many = '', ...tour] = blocks('ts');
    assert.equal(tour.length, 5, 'registration, sharing, discovery, batches, results');
    cpSync(join(packageRoot(), 'examples/word-count'), stack.home, { recursive: true });
    const told = await run(
      process.execPath,
      'readme.mjs',
      javascript(`
const endpointId = ${JSON.stringify(stack.endpointId)};
const endpointIds = [endpointId, endpointId];
${first}
await (async () => {
  const simulate = (x: number) => x + 1;
  const millionsOfCases = () => [1, 2, 3];
  const oneCase = 4;
  const { signal } = new AbortController();
  const futures = [executor.submit(simulate, 5), executor.submit(simulate, 6)];
  const { taskGroupId } = executor;
  ${many.replaceAll('{ … }', '{ outcome }').replace('(futures)) { outcome }', '(futures)) { await future }')}
  await future;
  await Promise.all(theirs);
  await later.shutdown();
})();
${tour.join('\n')}
const last = await Promise.all(taskIds.map((id) => client.waitForResult(id)));
const words = await executor.submitToRegisteredFunction(count, ['to be or not to be']);
console.log(JSON.stringify({ sum, squares, found: total >= results.length, one: await client.waitForResult(taskId), last, be: words.counts.be, records: records.size }));
`),
    );
    assert.deepEqual(told, {
      sum: 42,
      squares: [1, 4, 9],
      found: true,
      one: 2,
      last: [0.5, 1.5],
      be: 2,
      records: 2,
    });
  });
});

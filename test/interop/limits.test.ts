/** The unmodified globus-compute-sdk at a hub that limits it: it waits as it is told, and learns where a large result is. */
import assert from 'node:assert/strict';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { Stack, runProgram } from '../support/stack.ts';
import { startWireRecorder } from './wire-recorder.ts';
import type { WireRecorder } from './wire-recorder.ts';

/** The unmodified SDK knows no other port. */
const SDK_PORT = 5000;
const CASES_DIR = join(packageRoot(), 'test/interop/python');
const REQUESTS_MAX = 20;

interface Outcome {
  readonly requests: number;
  readonly failure: string;
  readonly client_failure: string;
  readonly records: number;
  readonly logged: string;
  readonly task_id: string;
}

describe('the unmodified globus-compute-sdk at its limits', function () {
  this.timeout(180_000);
  let stack: Stack;
  let recorder: WireRecorder;
  let outcome: Outcome;

  before(async () => {
    const python = process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '';
    assert.notEqual(python, '', 'OUTPOST_TEST_SDK_PYTHON is not set');
    stack = await Stack.start({
      hub: {
        OUTPOST_HUB_RATE_LIMIT: String(REQUESTS_MAX),
        OUTPOST_HUB_RATE_WINDOW_S: '2',
        OUTPOST_HUB_RESULT_INLINE_BYTES_MAX: '65536',
      },
    });
    recorder = await startWireRecorder(SDK_PORT, stack.hubUrl);
    outcome = (await run('limits.py', {
      ...stack.sdkEnvironment,
      GLOBUS_SDK_SERVICE_URL_AUTH: `http://localhost:${SDK_PORT}/`,
      REQUESTS: String(3 * REQUESTS_MAX),
    })) as Outcome;
  });
  after(async () => {
    await recorder.stop();
    await stack.stop();
  });

  async function run(program: string, env: NodeJS.ProcessEnv): Promise<unknown> {
    const { code, stdout, stderr } = await runProgram(
      process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '',
      [join(CASES_DIR, program)],
      { env: { ...env, PYTHONDONTWRITEBYTECODE: '1' }, cwd: CASES_DIR, limitMs: 120_000 },
    );
    assert.equal(code, 0, stdout + stderr);
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
  }

  it('waits as long as Retry-After asks, and gets every answer', () => {
    const lists = recorder.requests.filter(({ route }) => route === '/v2/endpoints');
    assert.equal(outcome.requests, 3 * REQUESTS_MAX);
    assert.ok(lists.length > outcome.requests, 'no request was refused and sent again');
  });

  it('is told by the failure where a result is that is too large for a message', async () => {
    const { failure, task_id: taskId } = outcome;
    const authorization = recorder.requests.at(-1)?.headers.authorization ?? '';
    assert.match(failure, /MaxResultSizeExceeded: .*larger than the 65536/);
    const url = /curl .* (http:\S+\/result)/.exec(failure)?.[1];
    assert.equal(url, `${stack.hubUrl}/v1/tasks/${taskId}/result`);
    const response = await fetch(url, { headers: { authorization } });
    const message = (await response.json()) as { data: { data: string } };
    assert.ok(message.data.data.length > 200_000);
  });

  it('has the same failure in a Client, and in the log for a batch, which leaves out what failed', () => {
    const { failure, client_failure: ofClient, records, logged } = outcome;
    assert.equal(ofClient, failure);
    assert.equal(records, 0);
    assert.ok(logged.includes(failure.trim()), logged);
  });

  it('is given such results by outpost_sdk as any other', async () => {
    const came = await run('large_results.py', {
      ...{ PATH: process.env['PATH'], LANG: 'C.UTF-8', HOME: stack.home },
      OUTPOST_HUB_URL: stack.hubUrl,
      OUTPOST_CLIENT_ID: stack.client.id,
      OUTPOST_CLIENT_SECRET: stack.client.secret,
      ENDPOINT_ID: stack.endpointId,
      // Names that the cases of the documents read.
      SECOND_ENDPOINT_ID: '',
      GROUP_ID: '',
      PYTHONPATH: join(packageRoot(), 'python'),
    });
    const { exception, ...results } = came as { exception: number };
    assert.deepEqual(results, {
      client: 200_000,
      batch: [1, 200_000, 200_001],
      executor: [200_000, 2, 200_002],
      reloaded: [2, 200_000, 200_002],
    });
    assert.ok(exception > 200_000);
  });
});

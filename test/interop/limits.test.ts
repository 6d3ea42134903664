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
    const run = await runProgram(python, [join(CASES_DIR, 'limits.py')], {
      env: {
        ...stack.sdkEnvironment,
        GLOBUS_SDK_SERVICE_URL_AUTH: `http://localhost:${SDK_PORT}/`,
        REQUESTS: String(3 * REQUESTS_MAX),
        PYTHONDONTWRITEBYTECODE: '1',
      },
      cwd: CASES_DIR,
      limitMs: 120_000,
    });
    assert.equal(run.code, 0, run.stdout + run.stderr);
    outcome = JSON.parse(run.stdout.trim().split('\n').at(-1) ?? '') as Outcome;
  });
  after(async () => {
    await recorder.stop();
    await stack.stop();
  });

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
});

/** The metrics of tasks: how many time series they can become. */
import assert from 'node:assert/strict';

import { Registry } from 'prom-client';

import type { HeldTask } from '../../../src/agent/held-task.ts';
import { taskMetrics } from '../../../src/agent/metrics/task-metrics.ts';
import type { TaskFailure } from '../../../src/agent/task-failure.ts';
import { systemClock } from '../../../src/base/clock.ts';

describe('metrics of tasks', () => {
  it('keep the codes that there are apart, and put what a worker host invents together', async () => {
    const registry = new Registry();
    const observer = taskMetrics(registry, systemClock);
    const task: HeldTask = {
      taskId: 't',
      meta: { functionId: 'f', language: 'python' },
      phase: 'done',
      attempts: 1,
      nonce: '',
      receivedAtMs: 0,
      begunAtMs: 0,
      endedAtMs: 0,
      bodyBytes: 0,
      body: undefined,
      accepted: Promise.resolve(),
    };
    const invented = Array.from({ length: 50 }, (_, index) => `CODE_${index}`);
    for (const code of ['WORKER_EXITED', 'constructor', ...invented]) {
      const failure = { code, message: 'm' } as TaskFailure;
      observer.onEnded?.({ task, failed: true, failure, output: undefined, isRetried: false });
    }
    const lines = (await registry.metrics())
      .split('\n')
      .filter((line) => line.startsWith('outpost_task_failures_total{'));
    assert.deepEqual(lines.sort(), [
      'outpost_task_failures_total{code="WORKER_EXITED",language="python"} 1',
      'outpost_task_failures_total{code="other",language="python"} 51',
    ]);
  });
});

import assert from 'node:assert/strict';

import type { WorkerHostEvents } from '../../../src/agent/host-link.ts';
import { RestartCounts } from '../../../src/agent/restart-counts.ts';

const ignore = (): void => undefined;

describe('counts of restarts', () => {
  it('go on when the host that counted is replaced', () => {
    const told: string[] = [];
    const counts = new RestartCounts();
    const events: WorkerHostEvents = counts.counting({
      onReady: () => told.push('ready'),
      onResult: ignore,
      onFailed: ignore,
      onReturned: ignore,
      onDegraded: ignore,
      onLost: () => told.push('lost'),
      onBroken: ignore,
    });
    const ready = (python: number): void => {
      events.onReady({
        type: 'ready',
        javascript: 1,
        python: 1,
        restarts: { javascript: 0, python },
      });
    };
    ready(0);
    ready(2);
    assert.deepEqual([counts.hosts, counts.workers], [0, { javascript: 0, python: 2 }]);
    events.onLost('killed');
    assert.deepEqual([counts.hosts, counts.workers], [1, { javascript: 0, python: 2 }]);
    ready(1);
    assert.deepEqual(counts.workers, { javascript: 0, python: 3 });
    assert.deepEqual(told, ['ready', 'ready', 'lost', 'ready']);
  });
});

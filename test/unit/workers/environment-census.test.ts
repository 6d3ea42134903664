/** What the operator is told of interpreters in execution environments. */
import assert from 'node:assert/strict';

import { environmentReports } from '../../../src/workers/environments/environment-census.ts';
import type { Counted } from '../../../src/workers/environments/environment-census.ts';

const at = (location: string, state: Counted['state'], id = location): Counted => ({
  environment: { id, type: 'venv', location },
  state,
});

describe('reports of execution environments', () => {
  it('count interpreters by state, under whatever id an environment was registered', () => {
    const counted = [at('/a', 'idle', '1'), at('/a', 'running', '2'), at('/b', 'starting')];
    assert.deepEqual(environmentReports(counted), [
      { type: 'venv', location: '/a', running: 1, idle: 1, starting: 0 },
      { type: 'venv', location: '/b', running: 0, idle: 0, starting: 1 },
    ]);
  });

  it('are bounded, in number and in length, and begin with those that do not start', () => {
    const many = Array.from({ length: 100 }, (_, index) => at(`/${index}`, 'idle'));
    const reports = environmentReports([...many, at('/broken', { reason: 'x'.repeat(100_000) })]);
    assert.equal(reports.length, 32);
    assert.deepEqual([reports[0]?.location, reports[0]?.reason?.length], ['/broken', 1000]);
  });
});

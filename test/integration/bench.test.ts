/** `npm run bench` in small: that it measures at all, and that its JSON has the keys that others read. Figures mean nothing here. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { runProgram } from '../support/stack.ts';

const BENCH = fileURLToPath(new URL('../../bench/bench.js', import.meta.url));

async function bench(
  ...args: string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return await runProgram(process.execPath, [BENCH, ...args], {
    env: process.env,
    limitMs: 200_000,
  });
}

function assertFigures(section: unknown, keys: readonly string[]): void {
  const figures = section as Record<string, unknown>;
  for (const key of keys) {
    const value = figures[key];
    assert.ok(typeof value === 'number' && value > 0, `${key} is ${String(value)}`);
  }
}

describe('the bench', function () {
  this.timeout(240_000);

  it('measures echo, agent and start on one broker and says it as JSON', async () => {
    const outcome = await bench(
      ...['--quick', '--tasks', '200', '--only', 'echo,javascript,journal,start', '--json'],
    );
    assert.equal(outcome.code, 0, outcome.stderr);
    const report = JSON.parse(outcome.stdout) as Record<string, unknown>;
    assert.deepEqual(Object.keys(report).toSorted(), [
      'conditions',
      'echo',
      'javascript',
      'journal',
      'start',
    ]);
    const throughputKeys = ['tasksPerSecond', 'idleP50Ms', 'idleP99Ms', 'ratioToEcho'];
    assertFigures(report['echo'], throughputKeys);
    assertFigures(report['javascript'], throughputKeys);
    assertFigures(report['start'], ['readyMs']);
    assertFigures(report['journal'], ['tasksPerSecond', 'nullTasksPerSecond']);
    assertFigures(report['conditions'], ['cores', 'tasks', 'runs']);
  });

  it('refuses a section that does not exist, with those that do', async () => {
    const outcome = await bench('--only', 'ecko');
    assert.equal(outcome.code, 64);
    assert.match(outcome.stderr, /ecko.*echo, javascript/s);
  });

  it('refuses a report that is not there', async () => {
    const outcome = await bench('--from', join('/', 'nowhere', 'report.json'));
    assert.equal(outcome.code, 64);
    assert.match(outcome.stderr, /report\.json/);
  });
});

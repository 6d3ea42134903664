/** Processor time and memory of a process with what it has started, from a real /proc. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

import { ProcessTreeUsage } from '../../src/agent/metrics/process-tree-usage.ts';
import { eventually } from '../support/eventually.ts';

/** Burns processor time in a grandchild that a worker thread has started. */
const BURNS = `
  const { Worker } = require('node:worker_threads');
  new Worker("require('node:child_process').spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'inherit' })", { eval: true });
  setInterval(() => {}, 1000);
`;

function start(code: string): ChildProcess {
  return spawn(process.execPath, ['-e', code], { detached: true, stdio: 'ignore' });
}

async function end(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  process.kill(-(child.pid ?? 0), 'SIGKILL');
  await exited;
}

describe('usage of a tree of processes', () => {
  it('has the grandchildren in it, and never shrinks when processes end or are replaced', async () => {
    const usage = new ProcessTreeUsage();
    assert.deepEqual(await usage.read(undefined), { cpuSeconds: 0, residentBytes: 0 });
    const first = start(BURNS);
    let before = 0;
    try {
      await eventually(async () => {
        const { cpuSeconds, residentBytes } = await usage.read(first.pid);
        before = cpuSeconds;
        assert.ok(cpuSeconds > 0.5, String(cpuSeconds));
        assert.ok(residentBytes > 60 * 1024 * 1024, String(residentBytes));
      });
    } finally {
      await end(first);
    }
    const gone = await usage.read(first.pid);
    assert.ok(gone.cpuSeconds >= before);
    assert.equal(gone.residentBytes, 0);
    const second = start('setInterval(() => {}, 1000)');
    try {
      assert.ok((await usage.read(second.pid)).cpuSeconds >= gone.cpuSeconds);
    } finally {
      await end(second);
    }
  });
});

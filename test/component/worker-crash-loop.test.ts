/** Worker hosts and interpreters that do not do their work: those that die again and again, and those that fall silent. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Watchdog } from '../../src/agent/watchdog.ts';
import { hostLoop } from '../../src/agent/watched-loops.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { packTask } from '../../src/protocol/messages.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import { eventually } from '../support/eventually.ts';
import { supervisedHost } from '../support/supervised-host.ts';
import { PYTHON, TestHost, interpretersOf } from '../support/worker-host.ts';

/** Long enough for a busy machine to let the host answer. */
const LIMIT_MS = 6_000;
const PERIOD_MS = 250;

describe('a worker host that falls silent', () => {
  it('is replaced by the watchdog, unlike one that only has a long task', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'outpost-silent-host-'));
    const lost: string[] = [];
    let readyCount = 0;
    const host = supervisedHost({
      directory,
      cookie: `silent-${process.pid}`,
      threads: 0,
      interpreters: 1,
      events: { onReady: () => (readyCount += 1), onLost: (reason) => lost.push(reason) },
    });
    const watchdog = new Watchdog({
      loops: [hostLoop(host, LIMIT_MS)],
      clock: systemClock,
      logger: silentLogger,
      periodMs: PERIOD_MS,
    });
    await host.start();
    try {
      await eventually(() => {
        assert.equal(readyCount, 1);
      });
      const taskId = randomUUID();
      const sleeps = 'st\nf:def f():\n    import time\n    time.sleep(60)\n';
      host.send(
        { type: 'task', task_id: taskId, nonce: 'n', language: 'python' },
        packTask({ task_id: taskId, task_buffer: packBuffers([sleeps, '11\n[]', '11\n{}']) }),
      );
      watchdog.start();
      const frames = host.frameCount;
      const { pid = 0 } = host;
      // Longer than the limit: it is the answers to the pings that count.
      await eventually(() => {
        assert.ok(host.frameCount >= frames + (1.2 * LIMIT_MS) / PERIOD_MS);
      });
      assert.deepEqual([lost, watchdog.stalls], [[], []]);
      process.kill(pid, 'SIGSTOP');
      await eventually(() => {
        assert.equal(readyCount, 2);
      });
      assert.equal(lost.length, 1);
      assert.match(lost[0] ?? '', /had not answered for \d+ s and was replaced/);
      assert.deepEqual(
        watchdog.stalls.map(({ loop, count }) => [loop, count]),
        [['worker host', 1]],
      );
      assert.notEqual(host.pid, pid);
    } finally {
      watchdog.stop();
      await host.stop();
      await rm(directory, { recursive: true, force: true });
    }
  });
});

describe('workers that die soon after they were ready', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-crash-loop-'));
  });

  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  it('as hosts, are replaced also when the system refuses a new process for a while', async () => {
    const environment: Record<string, string> = {};
    const events: string[] = [];
    const host = supervisedHost({
      directory,
      cookie: `refused-${process.pid}`,
      threads: 0,
      interpreters: 0,
      environment,
      events: {
        onReady: () => events.push('ready'),
        onLost: (reason) => events.push(reason),
        onBroken: () => events.push('broken'),
      },
    });
    await host.start();
    try {
      await eventually(() => {
        assert.deepEqual(events, ['ready']);
      });
      // More than one variable can have.
      environment['LARGE'] = 'x'.repeat(200_000);
      host.replace('it is to go');
      await eventually(() => {
        assert.ok(events.includes('broken'), events.join());
      });
      assert.match(events.join(), /it is to go,it could not be started: spawn E2BIG/);
      delete environment['LARGE'];
      await eventually(() => {
        assert.equal(events.at(-1), 'ready');
      });
    } finally {
      await host.stop();
    }
  });

  it('as hosts, are reported with what they said, and taken back by one that stays', async () => {
    const script = join(directory, 'crash.cjs');
    // Dies when the file with its process id is made.
    await writeFile(
      script,
      `const { existsSync } = require('node:fs');
if (require('node:worker_threads').isMainThread) {
  setInterval(() => {
    if (existsSync(${JSON.stringify(directory)} + '/' + process.pid)) {
      process.stderr.write('a bad library');
      process.exit(3);
    }
  }, 20).unref();
}`,
    );
    await mkdir(join(directory, 'tasks'));
    const events: string[] = [];
    let isBroken = true;
    const host = supervisedHost({
      directory,
      cookie: `crash-loop-${process.pid}`,
      threads: 0,
      interpreters: 0,
      config: { workingDir: join(directory, 'tasks') },
      environment: { NODE_OPTIONS: `--require ${script}` },
      events: {
        onReady: () => {
          events.push('ready');
          if (isBroken) {
            writeFileSync(join(directory, String(host.pid)), '');
          }
        },
        onLost: () => events.push('lost'),
        onBroken: (reason) => events.push(reason),
      },
    });
    await host.start();
    try {
      await eventually(() => {
        assert.match(events.at(-1) ?? '', /it exited with code 3; it said: a bad library/);
      });
      assert.ok(events.filter((event) => event === 'ready').length >= 3, events.join());
      isBroken = false;
      await eventually(() => {
        assert.equal(events.at(-1), 'ready');
        assert.ok(host.connected);
      });
    } finally {
      await host.stop();
    }
  });

  it('as interpreters, stop being launched, and tasks fail with what they said', async () => {
    await writeFile(
      join(directory, 'sitecustomize.py'),
      // Dies when the file with its process id is made.
      `import os, sys, threading, time
def crash():
    while not os.path.exists(f"${directory}/{os.getpid()}"):
        time.sleep(0.02)
    sys.stderr.write('a bad library')
    sys.stderr.flush()
    os._exit(42)
threading.Thread(target=crash, daemon=True).start()
`,
    );
    const host = await TestHost.start({
      python: { interpreters: 1, executable: PYTHON },
      environment: { PYTHONPATH: directory },
    });
    try {
      await host.when(() => {
        if (host.ready.at(-1)?.python === 1) {
          for (const pid of interpretersOf(host)) {
            writeFileSync(join(directory, String(pid)), '');
          }
        }
        return host.degraded.length > 0;
      });
      assert.ok(host.ready.filter(({ python }) => python === 1).length >= 9);
      assert.match(host.degraded[0]?.reason ?? '', /10 workers died.*code 42.*a bad library/s);
      const { frame } = await host.py('def f():\n    pass\n');
      assert.ok(frame.type === 'failed');
      assert.equal(frame.code, 'WORKER_START_FAILED');
      assert.match(frame.message, /a bad library/);
      assert.equal(frame.worker_lost, false);
    } finally {
      await host.dispose();
    }
  });
});

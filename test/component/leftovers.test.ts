/** What is left of a worker host that was lost: found by its cookie, ended, and reported. Real hosts, real functions. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { COOKIE_VARIABLE, agentCookie, sweepLeftovers } from '../../src/agent/leftovers.ts';
import type { WorkerHost } from '../../src/agent/worker-host.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { packTask } from '../../src/protocol/messages.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import { eventually } from '../support/eventually.ts';
import { isAlive } from '../support/processes.ts';
import { supervisedHost } from '../support/supervised-host.ts';
import { recordingLogger } from '../support/task-plane.ts';

/** Leaves its session and both its parents, as a daemon does. */
const PYTHON_DAEMON = `def f(path):
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(path + '.new', 'w') as file:
                file.write(str(os.getpid()))
            os.rename(path + '.new', path)
            time.sleep(300)
        os._exit(0)
    os.wait()
`;

const JAVASCRIPT_DAEMON = `(path) => {
  const { spawn } = require('node:child_process');
  const { renameSync, writeFileSync } = require('node:fs');
  const child = spawn('sleep', ['300'], { detached: true, stdio: 'ignore' });
  child.unref();
  writeFileSync(path + '.new', String(child.pid));
  renameSync(path + '.new', path);
}`;

describe('leftovers of a worker host', () => {
  let directory: string;
  let cookie: string;
  let lost: string[];
  const children: ChildProcess[] = [];
  const hosts: WorkerHost[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-leftovers-'));
    cookie = await agentCookie(directory);
    lost = [];
  });

  afterEach(async () => {
    for (const host of hosts.splice(0)) {
      await host.stop();
    }
    for (const child of children.splice(0)) {
      child.kill('SIGKILL');
    }
    await rm(directory, { recursive: true, force: true });
  });

  async function startHost(): Promise<WorkerHost> {
    let isReady = false;
    const host = supervisedHost({
      directory,
      cookie,
      threads: 1,
      interpreters: 1,
      config: { killGraceMs: 500 },
      events: {
        onReady: ({ javascript, python }) => {
          isReady = javascript + python === 2;
        },
        onLost: (reason) => {
          isReady = false;
          lost.push(reason);
        },
      },
    });
    hosts.push(host);
    await host.start();
    await eventually(() => {
      assert.ok(isReady);
    });
    return host;
  }

  /** Has a function start a daemon; returns its process id. */
  async function startDaemon(host: WorkerHost, language: 'javascript' | 'python'): Promise<number> {
    const path = join(directory, `${language}.pid`);
    const taskId = randomUUID();
    const code = language === 'python' ? `st\nf:${PYTHON_DAEMON}` : `js\nf:${JAVASCRIPT_DAEMON}`;
    const buffers = packBuffers([code, `11\n${JSON.stringify([path])}`, '11\n{}']);
    host.send(
      { type: 'task', task_id: taskId, nonce: randomUUID(), language },
      packTask({ task_id: taskId, task_buffer: buffers }),
    );
    await eventually(() => {
      assert.ok(existsSync(path));
    });
    const pid = Number(await readFile(path, 'utf8'));
    assert.ok(isAlive(pid));
    return pid;
  }

  it('are ended when it stops, daemons of functions too', async () => {
    const host = await startHost();
    const pids = [
      host.pid ?? 0,
      await startDaemon(host, 'python'),
      await startDaemon(host, 'javascript'),
    ];
    await host.stop();
    assert.deepEqual(pids.filter(isAlive), []);
  });

  it('are ended before the next host starts when it was killed', async () => {
    const host = await startHost();
    const pid = host.pid ?? 0;
    const daemon = await startDaemon(host, 'python');
    process.kill(pid, 'SIGKILL');
    await eventually(() => {
      assert.ok(host.pid !== undefined && host.pid !== pid);
    });
    assert.deepEqual([isAlive(pid), isAlive(daemon)], [false, false]);
    assert.equal(lost.length, 1);
  });

  it('include a host that is stopped and so cannot notice that its agent is gone', async () => {
    const host = await startHost();
    const { pid = 0 } = host;
    const daemon = await startDaemon(host, 'python');
    process.kill(pid, 'SIGSTOP');
    const { logger, lines } = recordingLogger();
    const { killed, survivors } = await sweepLeftovers(cookie, systemClock, logger);
    assert.deepEqual([isAlive(pid), isAlive(daemon)], [false, false]);
    assert.deepEqual(survivors, []);
    for (const found of [pid, daemon]) {
      assert.ok(killed.some((leftover) => leftover.pid === found));
      assert.ok(lines.some((line) => line['pid'] === found && typeof line['command'] === 'string'));
    }
    const second = await sweepLeftovers(cookie, systemClock, logger);
    assert.deepEqual(
      second.killed.filter(({ pid: one }) => one === pid || one === daemon),
      [],
    );
  });

  it('are told from the processes of other endpoints, by the real path of the directory', async () => {
    const other = spawn('sleep', ['300'], { env: { [COOKIE_VARIABLE]: `${cookie}0` } });
    children.push(other);
    await once(other, 'spawn');
    const alias = `${directory}.alias`;
    await symlink(directory, alias);
    try {
      assert.equal(await agentCookie(alias), cookie);
    } finally {
      await rm(alias);
    }
    assert.deepEqual(await sweepLeftovers(cookie, systemClock, silentLogger), {
      killed: [],
      survivors: [],
    });
    assert.ok(isAlive(other.pid ?? 0));
  });

  it('that outlive the time they are given are reported as survivors', async () => {
    const child = spawn('sleep', ['300'], { env: { [COOKIE_VARIABLE]: cookie } });
    children.push(child);
    await once(child, 'spawn');
    const { logger, lines } = recordingLogger();
    const { killed, survivors } = await sweepLeftovers(cookie, systemClock, logger, 0);
    assert.deepEqual(killed, []);
    assert.deepEqual(
      survivors.map(({ pid }) => pid),
      [child.pid],
    );
    assert.match(String(lines.at(-1)?.['message']), /cannot be ended/);
  });
});

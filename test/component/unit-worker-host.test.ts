/** A worker host that the agent does not start: `agent worker`, as its unit runs it, against the agent's side of it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { UnitWorkerHost, unitHostPaths } from '../../src/agent/unit-worker-host.ts';
import { systemClock } from '../../src/base/clock.ts';
import { ConfigError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { encodeFrame } from '../../src/protocol/frames.ts';
import { HOST_PROTOCOL_VERSION } from '../../src/protocol/host-frames.ts';
import { eventually } from '../support/eventually.ts';
import { ENDPOINT_ID } from '../support/worker-host.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));

describe('a worker host that is a unit of its own', () => {
  let directory: string;
  let host: UnitWorkerHost;
  let told: string[];
  let absence: string | undefined;
  const children: ChildProcess[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'outpost-unit-host-'));
    told = [];
    absence = undefined;
  });

  afterEach(async () => {
    await (host as UnitWorkerHost | undefined)?.stop();
    for (const child of children.splice(0)) {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, 'exit');
        child.kill('SIGKILL');
        await ended;
      }
    }
    rmSync(directory, { recursive: true, force: true });
  });

  function agentSide(place = directory, absentLimitMs = 60_000): UnitWorkerHost {
    host = new UnitWorkerHost(
      {
        name: 'main',
        config: {
          endpointId: ENDPOINT_ID,
          javascript: { threads: 1, heapMb: 64 },
          python: { interpreters: 0, executable: '/usr/bin/python3' },
          workingDir: 'tasks',
          resultCharsMax: 1000,
          outputBytesMax: 1000,
          killGraceMs: 200,
          startTimeoutMs: 10_000,
          environment: {},
        },
        paths: unitHostPaths(place, 'main'),
        clock: systemClock,
        logger: silentLogger,
        onAbsence: (reason) => (absence = reason),
        absentLimitMs,
      },
      {
        onReady: ({ javascript }) => told.push(`ready ${javascript}`),
        onResult: () => told.push('result'),
        onFailed: () => told.push('failed'),
        onReturned: () => undefined,
        onDegraded: () => told.push('degraded'),
        onLost: (reason) => told.push(`lost: ${reason}`),
        onBroken: (reason) => told.push(`broken: ${reason}`),
      },
    );
    return host;
  }

  /** As its unit starts it. */
  function startWorker(): ChildProcess {
    const state = join(directory, 'state');
    mkdirSync(state, { recursive: true });
    const child = spawn(process.execPath, [AGENT, 'worker', 'main'], {
      env: { PATH: process.env['PATH'], OUTPOST_WORKER_DIR: directory, STATE_DIRECTORY: state },
      detached: true,
      stdio: 'ignore',
    });
    children.push(child);
    return child;
  }

  async function isTold(...expected: (string | RegExp)[]): Promise<void> {
    await eventually(() => {
      assert.equal(told.length, expected.length, told.join(' | '));
    });
    expected.forEach((one, index) => {
      assert.match(told[index] ?? '', one instanceof RegExp ? one : new RegExp(`^${one}$`));
    });
  }

  it('waits for its agent, serves it, and ends in peace when that says so', async () => {
    const worker = startWorker();
    const agent = agentSide();
    await agent.start();
    await isTold('ready 1');
    assert.equal(agent.pid, worker.pid);
    assert.ok(statSync(join(directory, 'state/tasks')).isDirectory());
    const ended = once(worker, 'exit');
    await agent.stop();
    assert.deepEqual(await ended, [0, null]);
  });

  it('ends when the agent is done with it, and another takes its place with another token', async () => {
    const agent = agentSide();
    await agent.start();
    const { token } = unitHostPaths(directory, 'main');
    const first = readFileSync(token, 'utf8');
    assert.equal(statSync(token).mode & 0o777, 0o640);
    const worker = startWorker();
    await isTold('ready 1');
    const ended = once(worker, 'exit');
    agent.replace('it was silent');
    assert.deepEqual(await ended, [null, 'SIGKILL']);
    assert.notEqual(readFileSync(token, 'utf8'), first);
    startWorker();
    await isTold('ready 1', 'lost: it was silent', 'ready 1');
  });

  it('is lost only when it has gone, because one that hangs may still begin what it was sent', async () => {
    const agent = agentSide();
    await agent.start();
    const worker = startWorker();
    await isTold('ready 1');
    worker.kill('SIGSTOP');
    agent.replace('it hangs');
    assert.equal(agent.connected, false);
    assert.equal(agent.ping(), false);
    // Another one is not taken in its place before.
    const early = startWorker();
    await once(early, 'exit');
    assert.deepEqual(told, ['ready 1']);
    worker.kill('SIGKILL');
    await isTold('ready 1', 'lost: it hangs');
    startWorker();
    await isTold('ready 1', 'lost: it hangs', 'ready 1');
  });

  it('lets what runs end before it ends itself, told by its service manager', async () => {
    const agent = agentSide();
    await agent.start();
    const worker = startWorker();
    await isTold('ready 1');
    const ended = once(worker, 'exit');
    worker.kill('SIGTERM');
    await isTold('ready 1', 'ready 0', 'lost: it closed its connection');
    assert.deepEqual(await ended, [0, null]);
  });

  it('is missed after a while, with what to do about it, and no task fails for that', async () => {
    await agentSide(directory, 100).start();
    await eventually(() => {
      assert.match(absence ?? '', /no worker host has come .* systemctl start agent-worker@main$/);
    });
    startWorker();
    await isTold('ready 1');
    assert.equal(absence, undefined);
  });

  it('is given up when one after the other comes and dies before it is ready', async () => {
    await agentSide().start();
    const { socket: path, token: tokenPath } = unitHostPaths(directory, 'main');
    let used = '';
    for (let died = 1; died <= 3; died += 1) {
      const token = await eventually(() => {
        const text = readFileSync(tokenPath, 'utf8').trim();
        assert.notEqual(text, used);
        return text;
      });
      used = token;
      const hello = { type: 'hello', version: HOST_PROTOCOL_VERSION, token, pid: 1 } as const;
      const one = connect(path);
      one.once('data', () => one.destroy());
      one.write(Buffer.concat(encodeFrame(hello)));
      await eventually(() => {
        assert.equal(told.filter((text) => text.startsWith('lost')).length, died);
      });
    }
    await isTold(/^lost/, /^lost/, /^lost/, /^broken: .*journalctl -u agent-worker@main/);
    startWorker();
    await isTold(/^lost/, /^lost/, /^lost/, /^broken/, 'ready 1');
  });

  it('is no stranger: who knows no token is turned away', async () => {
    await agentSide().start();
    const { socket: path } = unitHostPaths(directory, 'main');
    assert.equal(statSync(path).mode & 0o777, 0o660);
    const stranger = connect(path);
    const closed = once(stranger, 'close');
    const hello = {
      type: 'hello',
      version: HOST_PROTOCOL_VERSION,
      token: 'guess',
      pid: 1,
    } as const;
    stranger.write(Buffer.concat(encodeFrame(hello)));
    await closed;
    assert.deepEqual(told, []);
  });

  it('is no stranger: who sends much and says nothing is turned away', async () => {
    const agent = agentSide();
    await agent.start();
    const { socket: path } = unitHostPaths(directory, 'main');
    const hello = {
      type: 'hello',
      version: HOST_PROTOCOL_VERSION,
      token: 'guess',
      pid: 1,
    } as const;
    const frame = Buffer.concat(encodeFrame(hello, Buffer.alloc(1024 * 1024)));
    const stranger = connect(path).on('error', () => undefined);
    const closed = new Promise((resolve) => {
      stranger.once('close', resolve);
    });
    // Never whole: it would be kept until then.
    stranger.write(frame.subarray(0, 256 * 1024));
    await closed;
    const strangers = Array.from({ length: 20 }, () => connect(path).on('error', () => undefined));
    await eventually(() => {
      assert.ok(strangers.filter(({ destroyed }) => destroyed).length >= 12);
    });
    for (const one of strangers) {
      one.destroy();
    }
    startWorker();
    await isTold('ready 1');
  });

  it('is not waited for where others could put a socket in the place of ours', async () => {
    for (const mode of [0o2770, 0o1777]) {
      chmodSync(directory, mode);
      await assert.rejects(agentSide().start(), /others than its owner can write to it/);
    }
    chmodSync(directory, 0o2750);
    await agentSide().start();
  });

  it('cannot be waited for where nobody has made the meeting place', async () => {
    const agent = agentSide(join(directory, 'nowhere'));
    await assert.rejects(agent.start(), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, /systemd-tmpfiles --create/);
      return true;
    });
  });
});

/** agent.lock: one agent per directory and host, whatever was left behind. */
import assert from 'node:assert/strict';
import type { ChildProcessByStdio } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

import { acquireLock, readLock, thisProcess } from '../../src/agent/agent-lock.ts';
import { systemClock } from '../../src/base/clock.ts';
import { ConflictError } from '../../src/base/errors.ts';
import { eventually } from '../support/eventually.ts';

const PROGRAM = fileURLToPath(new URL('../support/agent-lock-process.js', import.meta.url));

interface Starter {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  readonly lines: () => string[];
}

function startStarter(directory: string): Starter {
  const child = spawn(process.execPath, [PROGRAM, directory], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (chunk: string) => {
    text += chunk;
  });
  child.stdin.on('error', () => {
    // A loser has ended already; what it said is what counts.
  });
  return { child, lines: () => text.split('\n').slice(0, -1) };
}

async function killAll(starters: readonly Starter[]): Promise<void> {
  await Promise.all(
    starters.map(async ({ child }) => {
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit');
        child.kill('SIGKILL');
        await exited;
      }
    }),
  );
}

describe('the lock of an endpoint directory', () => {
  let directory = '';

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-lock-'));
  });

  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  /** A lock as another process would have left it. */
  async function leave(changes: Record<string, unknown>): Promise<void> {
    const lock = await acquireLock(directory, systemClock);
    const text = JSON.stringify({ ...lock.holder, nonce: 'x', ...changes });
    await writeFile(join(directory, 'agent.lock'), text);
  }

  it('says who holds it, and refuses a second start by that name', async () => {
    const lock = await acquireLock(directory, systemClock);
    const state = await readLock(directory);
    assert.deepEqual(state, { state: 'running', holder: lock.holder });
    assert.equal(lock.holder.pid, process.pid);
    await assert.rejects(acquireLock(directory, systemClock), (error) => {
      assert.ok(error instanceof ConflictError);
      assert.equal(error.code, 'ALREADY_RUNNING');
      for (const part of [String(process.pid), lock.holder.host, lock.holder.since]) {
        assert.ok(error.message.includes(part));
      }
      return true;
    });
    await lock.release();
    await lock.release();
    assert.deepEqual(await readLock(directory), { state: 'absent' });
    assert.deepEqual(await readdir(directory), []);
  });

  it('is stale when the process id now belongs to another process', async () => {
    await leave({ startTicks: thisProcess().start_ticks - 1 });
    assert.equal((await readLock(directory)).state, 'stale');
    const lock = await acquireLock(directory, systemClock);
    assert.equal(lock.foreign, undefined);
    assert.deepEqual(await readdir(directory), ['agent.lock']);
  });

  it('is stale when the machine was booted since', async () => {
    await leave({ bootId: 'another boot' });
    assert.equal((await readLock(directory)).state, 'stale');
    await acquireLock(directory, systemClock);
  });

  it('is stale when its contents are not a lock', async () => {
    for (const text of ['', 'null', '{"pid": 1}', '\u0000\u0000']) {
      await writeFile(join(directory, 'agent.lock'), text);
      assert.equal((await readLock(directory)).state, 'stale');
      await (await acquireLock(directory, systemClock)).release();
    }
  });

  it('is reported, not obeyed, when another host or container holds it', async () => {
    for (const change of [{ host: 'login03', bootId: 'other' }, { pidNamespace: 'pid:[1]' }]) {
      await leave({ ...change, pid: 1 });
      assert.equal((await readLock(directory)).state, 'foreign');
      const lock = await acquireLock(directory, systemClock);
      assert.equal(lock.foreign?.pid, 1);
      assert.equal((await readLock(directory)).state, 'running');
      await lock.release();
    }
  });

  it('goes back to the other host when the hub has not granted the endpoint', async () => {
    await leave({ host: 'login03', bootId: 'other', pid: 1 });
    const before = await readFile(join(directory, 'agent.lock'), 'utf8');
    const lock = await acquireLock(directory, systemClock);
    await lock.release({ toForeign: true });
    assert.equal(await readFile(join(directory, 'agent.lock'), 'utf8'), before);
    assert.deepEqual(await readdir(directory), ['agent.lock']);
  });

  it('is not removed by a former holder', async () => {
    const lock = await acquireLock(directory, systemClock);
    await writeFile(
      join(directory, 'agent.lock'),
      JSON.stringify({ ...lock.holder, host: 'login03' }),
    );
    await lock.release();
    assert.equal((await readLock(directory)).state, 'foreign');
  });

  it('goes to the next starter when one died half-way through replacing a stale lock', async () => {
    await leave({ startTicks: 1, pid: 1 });
    const stale = await readFile(join(directory, 'agent.lock'), 'utf8');
    const { createHash } = await import('node:crypto');
    const hash = createHash('sha256').update(stale).digest('hex').slice(0, 16);
    await writeFile(join(directory, `agent.lock.after-${hash}`), stale.replace('"x"', '"y"'));
    await acquireLock(directory, systemClock);
    assert.equal((await readLock(directory)).state, 'running');
    assert.deepEqual(await readdir(directory), ['agent.lock']);
  });

  it('is won by exactly one of many that start at once, with and without a stale lock', async () => {
    for (const stale of [false, true, true]) {
      await rm(join(directory, 'agent.lock'), { force: true });
      if (stale) {
        await leave({ startTicks: 1, pid: 1 });
      }
      const starters = Array.from({ length: 12 }, () => startStarter(directory));
      try {
        await eventually(() => {
          assert.ok(starters.every(({ lines }) => lines().length === 1));
        });
        starters.forEach(({ child }) => child.stdin.write('go\n'));
        await eventually(() => {
          assert.ok(starters.every(({ lines }) => lines().length === 2));
        });
        const outcomes = starters.map(({ lines }) => lines()[1]).sort();
        assert.deepEqual(outcomes, [...Array<string>(11).fill('ALREADY_RUNNING'), 'won']);
        const winner = starters.find(({ lines }) => lines()[1] === 'won');
        const state = await readLock(directory);
        assert.equal(state.state === 'running' ? state.holder.pid : undefined, winner?.child.pid);
      } finally {
        await killAll(starters);
      }
      assert.equal((await readLock(directory)).state, 'stale');
    }
  }).timeout(120_000);

  it('is won by exactly one of many callers in one process, over and over', async () => {
    for (let round = 0; round < 30; round += 1) {
      await leave({ startTicks: 1, pid: 1 });
      const attempts = await Promise.allSettled(
        Array.from({ length: 20 }, async () => await acquireLock(directory, systemClock)),
      );
      assert.equal(attempts.filter((attempt) => attempt.status === 'fulfilled').length, 1);
      await rm(join(directory, 'agent.lock'));
    }
    assert.deepEqual(await readdir(directory), []);
  });
});

/** The kept output of tasks, on a real disk: what is kept, how much of it, and that no disk can hurt a task. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  appendFile,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { HeldTask } from '../../src/agent/held-task.ts';
import { readTaskLog } from '../../src/agent/task-logs/read-task-log.ts';
import { cleanTaskLogs } from '../../src/agent/task-logs/task-log-files.ts';
import type { TaskLogBounds } from '../../src/agent/task-logs/task-log-files.ts';
import { TaskLogs } from '../../src/agent/task-logs/task-logs.ts';
import type { TaskEnd } from '../../src/agent/task-observer.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { eventually } from '../support/eventually.ts';

const DAY_MS = 24 * 3600 * 1000;
const MIB = 1024 * 1024;

function ended(taskId: string, end: Partial<TaskEnd> = {}): TaskEnd {
  const nowMs = systemClock.monotonicMs();
  const task: HeldTask = {
    taskId,
    meta: { functionId: 'f', language: 'python' },
    phase: 'done',
    attempts: 1,
    nonce: '',
    receivedAtMs: nowMs - 20,
    begunAtMs: nowMs - 10,
    endedAtMs: nowMs,
    bodyBytes: 0,
    body: undefined,
    accepted: Promise.resolve(),
  };
  return { task, failed: false, isRetried: false, ...end };
}

describe('kept output of tasks', () => {
  let root: string;
  let directory: string;
  let open: TaskLogs[];

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'outpost-task-logs-'));
    directory = join(root, 'logs', 'tasks');
    open = [];
  });

  afterEach(async () => {
    await Promise.all(open.map(async (logs) => { await logs.close(); })); // prettier-ignore
    await rm(root, { recursive: true });
  });

  function logs(bounds: Partial<TaskLogBounds> = {}, clock: Clock = systemClock): TaskLogs {
    const made = new TaskLogs({
      directory,
      bounds: { days: 7, bytesMax: 64 * MIB, ...bounds },
      clock,
      logger: silentLogger,
    });
    open.push(made);
    return made;
  }

  async function bytesKept(): Promise<number> {
    const sizes = await Promise.all(
      (await readdir(directory)).map(async (name) => (await stat(join(directory, name))).size),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  it('is what was printed and how it ended; a task that printed nothing and succeeded leaves no trace', async () => {
    const kept = logs();
    const [quiet, loud, broken] = [randomUUID(), randomUUID(), randomUUID()];
    kept.onEnded(ended(quiet));
    await kept.flush();
    await assert.rejects(readdir(directory), { code: 'ENOENT' });
    kept.onEnded(ended(loud, { output: { stdout: 'hé\n', stderr: 'oh\n', truncated: true } }));
    const failure = { code: 'WORKER_EXITED', message: 'it exited' } as const;
    kept.onEnded(ended(broken, { failed: true, failure, isRetried: true }));
    kept.onEnded(ended(broken, { failed: true, failure }));
    await kept.flush();
    const [entry] = await readTaskLog(directory, loud);
    assert.deepEqual(
      [entry?.stdout, entry?.stderr, entry?.truncated, entry?.outcome, entry?.language],
      ['hé\n', 'oh\n', true, 'succeeded', 'python'],
    );
    const times = [entry?.received_at, entry?.began_at, entry?.ended_at].map((at) =>
      Date.parse(at ?? ''),
    );
    assert.deepEqual([...times].sort(), times);
    assert.ok(Math.abs((times[2] ?? 0) - Date.now()) < 300_000);
    assert.deepEqual(
      (await readTaskLog(directory, broken)).map(({ outcome, code }) => [outcome, code]),
      [
        ['started again', 'WORKER_EXITED'],
        ['failed', 'WORKER_EXITED'],
      ],
    );
    assert.deepEqual(await readTaskLog(directory, quiet), []);
    for (const name of await readdir(directory)) {
      assert.equal((await stat(join(directory, name))).mode & 0o777, 0o600);
    }
    assert.equal((await stat(directory)).mode & 0o777, 0o700);
  });

  it('is written without being asked for, and holds no password', async () => {
    const kept = logs();
    const taskId = randomUUID();
    kept.onEnded(ended(taskId, { output: { stdout: 'dialling amqp://me:hunter2@host/\n' } }));
    const [entry] = await eventually(async () => {
      const found = await readTaskLog(directory, taskId);
      assert.equal(found.length, 1);
      return found;
    });
    assert.equal(entry?.stdout, 'dialling amqp://me:[secret]@host/\n');
  });

  it('stays within its budget, the oldest going first', async () => {
    const kept = logs({ bytesMax: 2 * MIB });
    const ids: string[] = [];
    for (let index = 0; index < 100; index += 1) {
      const taskId = randomUUID();
      ids.push(taskId);
      kept.onEnded(ended(taskId, { output: { stdout: 'x'.repeat(64 * 1024) } }));
      await kept.flush();
      assert.ok((await bytesKept()) <= 2 * MIB);
    }
    assert.ok((await bytesKept()) > MIB);
    assert.equal((await readTaskLog(directory, ids.at(-1) ?? '')).length, 1);
    assert.equal((await readTaskLog(directory, ids[0] ?? '')).length, 0);
  });

  it('goes when its days are over, and is not made when there are none', async () => {
    let nowMs = Date.now();
    const clock = { ...systemClock, now: (): number => nowMs };
    const kept = logs({ days: 2 }, clock);
    const taskId = randomUUID();
    kept.onEnded(ended(taskId, { output: { stdout: 'x' } }));
    await kept.flush();
    nowMs += 2 * DAY_MS;
    assert.deepEqual(await kept.clean(), []);
    nowMs += DAY_MS;
    const other = randomUUID();
    kept.onEnded(ended(other, { output: { stdout: 'x' } }));
    await kept.flush();
    assert.equal((await kept.clean()).length, 1);
    assert.equal((await readTaskLog(directory, other)).length, 1);
    kept.configure({ days: 0, bytesMax: MIB });
    kept.onEnded(ended(taskId, { output: { stdout: 'x' } }));
    await kept.close();
    await cleanTaskLogs(directory, { days: 0, bytesMax: MIB }, nowMs);
    assert.deepEqual(await readdir(directory), []);
  });

  it('goes on in the file of the run before, behind the half line that a crash has left', async () => {
    const [first, second] = [randomUUID(), randomUUID()];
    const kept = logs();
    kept.onEnded(ended(first, { output: { stdout: 'one' } }));
    await kept.close();
    const [name = ''] = await readdir(directory);
    await appendFile(join(directory, name), `{"task_id":"${second}","stdo`);
    const again = logs();
    again.onEnded(ended(second, { output: { stdout: 'two' } }));
    await again.close();
    assert.deepEqual(await readdir(directory), [name]);
    assert.deepEqual(
      (await readTaskLog(directory, second)).map(({ stdout }) => stdout),
      ['two'],
    );
  });

  it('is dropped where it cannot be written, with one word about it, and kept again later', async () => {
    const lines: string[] = [];
    const note = (_fields: object, message: string): void => {
      lines.push(message);
    };
    const kept = new TaskLogs({
      directory,
      bounds: { days: 7, bytesMax: 64 * MIB },
      clock: systemClock,
      logger: { ...silentLogger, warn: note, info: note },
    });
    open.push(kept);
    await mkdir(join(root, 'logs'));
    await writeFile(directory, 'in the way');
    for (let index = 0; index < 3; index += 1) {
      kept.onEnded(ended(randomUUID(), { output: { stdout: 'lost' } }));
      await kept.flush();
    }
    assert.equal(kept.droppedCount, 3);
    await rm(directory);
    const taskId = randomUUID();
    kept.onEnded(ended(taskId, { output: { stdout: 'kept' } }));
    await kept.flush();
    assert.equal((await readTaskLog(directory, taskId)).length, 1);
    assert.equal(lines.length, 2);
    // Somebody has tidied up while the file was open.
    await rm(directory, { recursive: true });
    kept.onEnded(ended(taskId, { output: { stdout: 'kept' } }));
    await kept.flush();
    assert.equal((await readTaskLog(directory, taskId)).length, 1);
  });

  it('is bounded in memory while the disk is slower than what is printed', async () => {
    const kept = logs();
    for (let index = 0; index < 400; index += 1) {
      kept.onEnded(ended(randomUUID(), { output: { stdout: 'x'.repeat(64 * 1024) } }));
    }
    assert.ok(kept.droppedCount > 250);
    await kept.flush();
    const text = await readFile(join(directory, (await readdir(directory))[0] ?? ''), 'utf8');
    assert.equal(text.trimEnd().split('\n').length, 400 - kept.droppedCount);
  });

  it('is bounded in memory by why tasks failed, too', async () => {
    const kept = logs();
    const failure = { code: 'WORKER_EXITED', message: 'x'.repeat(64 * 1024) } as const;
    for (let index = 0; index < 400; index += 1) {
      kept.onEnded(ended(randomUUID(), { failed: true, failure }));
    }
    assert.ok(kept.droppedCount > 250);
    await kept.flush();
  });
});

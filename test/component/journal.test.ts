/** The task journal on a real disk: what it promises across restarts, crashes, damage and growth. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { appendFile, mkdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import fc from 'fast-check';

import type { Journal, RecoveredTask } from '../../src/agent/journal/journal.ts';
import { systemClock } from '../../src/base/clock.ts';
import { errorCode } from '../../src/base/errors.ts';
import { eventually } from '../support/eventually.ts';
import { filesEnding, JournalFixture, makeTask } from '../support/journal-fixture.ts';

const RESULT = { body: Buffer.from('result'), headers: { task_uuid: 'x', n: 1 } };

function states(recovered: readonly RecoveredTask[]): string[] {
  return recovered.map((task) => `${task.taskId} ${task.state} ${task.attempts}`).sort();
}

/** Lets a task go through its whole life. */
async function complete(journal: Journal, taskId: string, bodyBytes: number): Promise<void> {
  await journal.received(makeTask(bodyBytes, taskId), true);
  await journal.done(taskId, RESULT);
  journal.confirmed(taskId);
}

describe('the task journal', () => {
  const fixture = new JournalFixture();

  afterEach(async () => {
    await fixture.release();
  });

  it('recovers every task in the state it had reached, with its body or result', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory);
    for (const taskId of ['waits', 'runs', 'ran-twice', 'is-done', 'is-confirmed', 'went-back']) {
      await journal.received(makeTask(100, taskId), taskId === 'runs');
    }
    await journal.started('ran-twice');
    await journal.started('ran-twice');
    await journal.started('is-done');
    await journal.done('is-done', RESULT);
    await journal.done('is-confirmed', RESULT);
    journal.confirmed('is-confirmed');
    await journal.handedBack(['went-back']);
    await journal.close();

    const { journal: next, recovered, notices } = await fixture.open(directory, { epoch: 2 });
    assert.deepEqual(states(recovered), [
      'is-done done 1',
      'ran-twice started 2',
      'runs started 1',
      'waits received 0',
    ]);
    assert.deepEqual(notices, []);
    assert.deepEqual(recovered[0]?.meta, { function_id: 'f-1', n: 1 });
    assert.deepEqual(await next.readTask('waits'), makeTask(100, 'waits').body);
    assert.deepEqual(await next.readResult('is-done'), RESULT);
    assert.deepEqual(
      ['waits', 'is-done', 'is-confirmed', 'went-back', 'other'].map((id) => next.lookup(id)),
      ['live', 'live', 'confirmed', 'new', 'new'],
    );
  });

  it('leaves only tombstones behind when nothing is live', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory);
    await complete(journal, 'a', 1000);
    await journal.close();
    assert.deepEqual(await filesEnding(directory, '.seg'), []);
    const { journal: next } = await fixture.open(directory);
    assert.equal(next.lookup('a'), 'confirmed');
    assert.equal(next.stats.liveCount, 0);
  });

  it('knows a task from the moment it is handed in, and forgets one that was handed back at once', async () => {
    const { journal } = await fixture.open(await fixture.directory());
    const received = journal.received(makeTask(10, 'a'), false);
    assert.equal(journal.lookup('a'), 'live');
    await received;
    const back = journal.handedBack(['a']);
    assert.equal(journal.lookup('a'), 'new');
    await journal.received(makeTask(10, 'a'), false);
    await back;
    assert.equal(journal.lookup('a'), 'live');
  });

  it('refuses to take a task twice', async () => {
    const { journal } = await fixture.open(await fixture.directory());
    await journal.received(makeTask(10, 'a'), false);
    await assert.rejects(journal.received(makeTask(10, 'a'), false), { code: 'INVARIANT' });
  });

  it('keeps the first of two results', async () => {
    const { journal } = await fixture.open(await fixture.directory());
    await journal.received(makeTask(10, 'a'), true);
    await Promise.all([
      journal.done('a', RESULT),
      journal.done('a', { body: Buffer.from('other'), headers: {} }),
    ]);
    assert.deepEqual(await journal.readResult('a'), RESULT);
  });

  it('gives the body back from the disk when the cache has no room', async () => {
    const { journal } = await fixture.open(await fixture.directory(), { bodyCacheBytesMax: 1500 });
    const tasks = [makeTask(1000), makeTask(1000), makeTask(50_000), makeTask(400)];
    await Promise.all(
      tasks.map(async (task) => {
        await journal.received(task, false);
      }),
    );
    for (const task of tasks) {
      assert.ok((await journal.readTask(task.taskId)).equals(task.body));
      await journal.started(task.taskId);
      assert.ok((await journal.readTask(task.taskId)).equals(task.body));
    }
  });

  it('journals bodies larger than a segment', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory, { segmentBytesMax: 10_000 });
    const large = makeTask(300_000);
    await Promise.all([
      journal.received(makeTask(5000), false),
      journal.received(large, false),
      journal.received(makeTask(5000), false),
    ]);
    await journal.close();
    const { journal: next, recovered } = await fixture.open(directory);
    assert.equal(recovered.length, 3);
    assert.ok((await next.readTask(large.taskId)).equals(large.body));
  });

  it('drops segments that nothing keeps alive, and remembers what was confirmed in them', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory, { segmentBytesMax: 20_000 });
    const taskIds = Array.from({ length: 400 }, () => randomUUID());
    for (let at = 0; at < taskIds.length; at += 20) {
      const chunk = taskIds.slice(at, at + 20);
      await Promise.all(
        chunk.map(async (taskId) => {
          await complete(journal, taskId, 500);
        }),
      );
    }
    await eventually(() => {
      assert.ok(journal.stats.segments <= 3, `${journal.stats.segments} segments are left`);
    });
    await journal.close();
    const { journal: closed } = await fixture.open(directory, { epoch: 2 });
    assert.ok(taskIds.every((taskId) => closed.lookup(taskId) === 'confirmed'));
  });

  it('gives space back in a quiet hour that a few open tasks keep, and loses none of them', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory);
    const open = makeTask(1000, 'open');
    await journal.received(open, false);
    const taskIds = Array.from({ length: 40 }, () => randomUUID());
    await Promise.all(
      taskIds.map(async (taskId) => {
        await complete(journal, taskId, 50_000);
      }),
    );
    const before = journal.stats.bytes;
    assert.ok(before > 2_000_000, `${before} bytes`);
    assert.ok((await journal.compact()) > 1_900_000);
    assert.ok(journal.stats.bytes < 100_000, `${journal.stats.bytes} bytes are left`);
    assert.equal(await journal.compact(), 0);
    await journal.close();
    const { journal: next, recovered } = await fixture.open(directory, { epoch: 2 });
    assert.deepEqual(
      recovered.map(({ taskId }) => taskId),
      [open.taskId],
    );
    assert.ok((await next.readTask(open.taskId)).equals(open.body));
    assert.ok(taskIds.every((taskId) => next.lookup(taskId) === 'confirmed'));
  });

  it('is not filled by one old task: what is live is carried forward', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory, { segmentBytesMax: 20_000 });
    const old = makeTask(3000, 'old');
    await journal.received(old, false);
    await journal.started('old');
    await journal.received(makeTask(10, 'old-result'), true);
    await journal.done('old-result', RESULT);
    for (let n = 0; n < 600; n += 20) {
      const ids = Array.from({ length: 20 }, () => randomUUID());
      await Promise.all(
        ids.map(async (taskId) => {
          await complete(journal, taskId, 500);
        }),
      );
    }
    await eventually(() => {
      assert.ok(journal.stats.bytes < 140_000, `${journal.stats.bytes} bytes are left`);
    });
    assert.ok((await journal.readTask('old')).equals(old.body));
    assert.deepEqual(await journal.readResult('old-result'), RESULT);
    await journal.close();
    const { journal: next, recovered } = await fixture.open(directory);
    assert.deepEqual(states(recovered), ['old started 1', 'old-result done 1']);
    assert.ok((await next.readTask('old')).equals(old.body));
  });

  it('replays the epochs of this host, and removes their directories when they are empty', async () => {
    const directory = await fixture.directory();
    for (const epoch of [1, 2, 3]) {
      const { journal } = await fixture.open(directory, { epoch });
      await journal.received(makeTask(10, `task-${epoch}`), false);
      await journal.close();
    }
    // An epoch can go back: a hub with a new database counts from one again.
    const { journal, recovered } = await fixture.open(directory, { epoch: 1 });
    assert.deepEqual(
      recovered.map((task) => task.taskId),
      ['task-1', 'task-2', 'task-3'],
    );
    assert.equal((await filesEnding(directory, '.seg')).length, 3);
    await journal.handedBack(['task-1', 'task-2', 'task-3']);
    await journal.close();
    assert.deepEqual(await filesEnding(directory, '.seg'), []);
    await assert.rejects(stat(join(directory, 'node-a', '2')), { code: 'ENOENT' });
  });

  it('leaves the journals of other hosts alone until it is told to take them over', async () => {
    const directory = await fixture.directory();
    const { journal: other } = await fixture.open(directory, { host: 'node-b', epoch: 1 });
    await other.received(makeTask(100, 'waits'), false);
    await other.received(makeTask(100, 'done-by-b'), true);
    await other.done('done-by-b', RESULT);
    await complete(other, 'confirmed-by-b', 10);
    await other.started('waits');

    const alone = await fixture.open(directory, { epoch: 2 });
    assert.deepEqual(alone.recovered, []);
    await alone.journal.close();

    const { journal, recovered } = await fixture.open(directory, { epoch: 3, includeHosts: 'all' });
    assert.deepEqual(states(recovered), ['done-by-b done 1', 'waits started 1']);
    assert.ok((await journal.readTask('waits')).equals(makeTask(100, 'waits').body));
    // The old holder is fenced, but it may still be alive and writing.
    await other.done('waits', RESULT);
    assert.deepEqual(await other.readResult('waits'), RESULT);
    await journal.done('waits', RESULT);
    journal.confirmed('waits');
    journal.confirmed('done-by-b');
    await journal.close();

    const { journal: again, recovered: rest } = await fixture.open(directory, {
      host: 'node-b',
      epoch: 4,
      includeHosts: 'all',
    });
    assert.deepEqual(rest, []);
    assert.deepEqual(
      ['waits', 'done-by-b'].map((taskId) => again.lookup(taskId)),
      ['confirmed', 'confirmed'],
    );
    assert.deepEqual(await filesEnding(directory, '.adopted'), []);
  });

  it('yields a state that it once had when it is cut at any byte', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory);
    const history: string[][] = [[]];
    const seen = new Map<string, string>();
    const note = (taskId: string, state: string | undefined): void => {
      if (state === undefined) {
        seen.delete(taskId);
      } else {
        seen.set(taskId, `${taskId} ${state}`);
      }
      history.push([...seen.values()].sort());
    };
    await journal.received(makeTask(20, 'a'), false);
    note('a', 'received 0');
    await journal.started('a');
    note('a', 'started 1');
    await journal.done('a', RESULT);
    note('a', 'done 1');
    journal.confirmed('a');
    // The confirmation goes along with this one, behind it.
    await journal.received(makeTask(1, 'z'), true);
    note('z', 'started 1');
    note('a', undefined);
    const [segment = ''] = await filesEnding(directory, '.seg');
    const bytes = await readFile(join(directory, segment));
    let last = -1;
    const snapshots = history.map((state) => state.join());
    for (let end = 0; end <= bytes.length; end += 1) {
      const copy = await fixture.directory();
      await mkdir(join(copy, 'node-a', '1'), { recursive: true });
      await writeFile(join(copy, segment), bytes.subarray(0, end));
      const { journal: cut, recovered } = await fixture.open(copy, { epoch: 2, reserveBytes: 0 });
      await cut.close();
      const at = snapshots.indexOf(states(recovered).join());
      assert.notEqual(at, -1, `cut at ${end}: ${states(recovered).join()}`);
      assert.ok(at >= last, `cut at ${end} knows less than one byte before`);
      last = at;
      await rm(copy, { recursive: true });
    }
    assert.equal(last, snapshots.length - 1);
  });

  it('cuts a torn tail, says so once, and loses nothing that was acknowledged', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory);
    await journal.received(makeTask(100, 'a'), false);
    await journal.close();
    const [segment = ''] = await filesEnding(directory, '.seg');
    await appendFile(join(directory, segment), Buffer.alloc(5000));
    const first = await fixture.open(directory, { epoch: 2 });
    assert.match(first.notices.join(), /5000 bytes were not written to their end and were cut off/);
    assert.equal(first.recovered.length, 1);
    await first.journal.close();
    const second = await fixture.open(directory, { epoch: 3 });
    assert.deepEqual(second.notices, []);
    assert.equal(second.recovered.length, 1);
  });

  it('keeps a damaged segment aside, reports it, and uses what is good in it', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory);
    for (const taskId of ['a', 'b', 'c']) {
      await journal.received(makeTask(1000, taskId), false);
    }
    await journal.close();
    const [segment = ''] = await filesEnding(directory, '.seg');
    const bytes = await readFile(join(directory, segment));
    bytes.writeUInt8(bytes.readUInt8(1500) ^ 1, 1500);
    await writeFile(join(directory, segment), bytes);
    const { recovered, notices } = await fixture.open(directory, { epoch: 2 });
    assert.deepEqual(
      recovered.map((task) => task.taskId),
      ['a', 'c'],
    );
    assert.match(
      notices.join(),
      /are damaged and were skipped, and kept as .*\.seg\.corrupt; check the disk/,
    );
    assert.deepEqual(await filesEnding(directory, '.corrupt'), [`${segment}.corrupt`]);
  });

  it('opens whatever lies in its directory', async () => {
    const directory = await fixture.directory();
    const epoch = join(directory, 'node-a', '1');
    await mkdir(epoch, { recursive: true });
    await writeFile(join(epoch, '00000001.seg'), '');
    await writeFile(join(epoch, '00000002.seg'), Buffer.alloc(5000, 'not a segment'));
    await writeFile(join(epoch, 'notes.txt'), 'hello');
    await writeFile(join(directory, 'node-a', '00000001.tomb'), 'garbage');
    await writeFile(join(directory, 'stray'), 'file');
    const { journal, recovered, notices } = await fixture.open(directory, { includeHosts: 'all' });
    assert.deepEqual(recovered, []);
    assert.equal(notices.length, 3);
    await journal.received(makeTask(10, 'a'), false);
    assert.deepEqual(await filesEnding(directory, '.seg'), ['node-a/1/00000003.seg']);
  });

  it('refuses a journal of a newer format instead of losing its tasks', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory);
    await journal.received(makeTask(10, 'a'), false);
    await journal.close();
    const [segment = ''] = await filesEnding(directory, '.seg');
    const bytes = await readFile(join(directory, segment));
    bytes.writeUInt16LE(2, 4);
    const { crc32 } = await import('node:zlib');
    const headerBytes = bytes.readUInt16LE(6);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, headerBytes - 4)), headerBytes - 4);
    await writeFile(join(directory, segment), bytes);
    await assert.rejects(fixture.open(directory), { code: 'PRECONDITION_FAILED' });
  });

  it('says that a record is unreadable rather than returning other bytes', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory, { bodyCacheBytesMax: 0 });
    await journal.received(makeTask(1000, 'a'), false);
    const [segment = ''] = await filesEnding(directory, '.seg');
    await truncate(join(directory, segment), 600);
    await assert.rejects(journal.readTask('a'), { code: 'JOURNAL_UNREADABLE' });
  });

  it('takes no new task at its bound, finishes what it has, and goes on by itself', async () => {
    const directory = await fixture.directory();
    const changes: boolean[] = [];
    const { journal } = await fixture.open(directory, { bytesMax: 100_000 });
    journal.onFullChange((full) => changes.push(full));
    const taken: string[] = [];
    let refusal: unknown;
    while (refusal === undefined) {
      const task = makeTask(3000);
      try {
        await journal.received(task, true);
        taken.push(task.taskId);
      } catch (error) {
        refusal = error;
        assert.equal(journal.lookup(task.taskId), 'new');
      }
    }
    assert.equal(errorCode(refusal), 'JOURNAL_FULL');
    assert.ok(taken.length >= 30);
    assert.deepEqual([journal.stats.full, ...changes], [true, true]);
    for (const taskId of taken) {
      await journal.done(taskId, RESULT);
      journal.confirmed(taskId);
    }
    await eventually(() => {
      assert.deepEqual(changes, [true, false]);
    });
    await journal.received(makeTask(3000), true);
    assert.ok(journal.stats.bytes < 60_000);
  });

  it('forgets confirmed tasks after their time to live, on disk too', async () => {
    const directory = await fixture.directory();
    let at = 1_000_000;
    const clock = { ...systemClock, now: () => at };
    const { journal } = await fixture.open(directory, { clock, tombstoneTtlMs: 60_000 });
    await complete(journal, 'a', 10);
    await journal.close();
    const soon = await fixture.open(directory, { clock, tombstoneTtlMs: 60_000 });
    assert.equal(soon.journal.lookup('a'), 'confirmed');
    await soon.journal.close();
    at += 61_000;
    const late = await fixture.open(directory, { clock, tombstoneTtlMs: 60_000 });
    assert.equal(late.journal.lookup('a'), 'new');
    assert.deepEqual(await filesEnding(directory, '.tomb'), []);
  });

  it('agrees with a model over random lives and restarts', async () => {
    const operation = fc.tuple(
      fc.constantFrom('receive', 'receive-started', 'start', 'done', 'confirm', 'back', 'reopen'),
      fc.nat(7),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 60 }), async (operations) => {
        const directory = await fixture.directory();
        const options = { segmentBytesMax: 700, bodyCacheBytesMax: 200 };
        let epoch = 1;
        let { journal } = await fixture.open(directory, options);
        const live = new Map<string, { state: string; attempts: number }>();
        const confirmed = new Set<string>();
        for (const [name, n] of operations) {
          const taskId = `task-${n}`;
          const task = live.get(taskId);
          if (name === 'reopen') {
            await journal.close();
            epoch += 1;
            const opened = await fixture.open(directory, { ...options, epoch });
            journal = opened.journal;
            assert.deepEqual(opened.notices, []);
            assert.deepEqual(
              states(opened.recovered),
              [...live].map(([id, { state, attempts }]) => `${id} ${state} ${attempts}`).sort(),
            );
          } else if (name === 'receive' || name === 'receive-started') {
            if (task === undefined && !confirmed.has(taskId)) {
              const started = name === 'receive-started';
              await journal.received(makeTask(100, taskId), started);
              live.set(taskId, {
                state: started ? 'started' : 'received',
                attempts: started ? 1 : 0,
              });
            }
          } else if (task !== undefined) {
            if (name === 'start' && task.state !== 'done') {
              await journal.started(taskId);
              live.set(taskId, { state: 'started', attempts: task.attempts + 1 });
            } else if (name === 'done') {
              await journal.done(taskId, RESULT);
              live.set(taskId, { ...task, state: 'done' });
            } else if (name === 'confirm' && task.state === 'done') {
              journal.confirmed(taskId);
              live.delete(taskId);
              confirmed.add(taskId);
            } else if (name === 'back' && task.state === 'received') {
              await journal.handedBack([taskId]);
              live.delete(taskId);
            }
          }
          for (let id = 0; id < 8; id += 1) {
            const expected = live.has(`task-${id}`)
              ? 'live'
              : confirmed.has(`task-${id}`)
                ? 'confirmed'
                : 'new';
            assert.equal(journal.lookup(`task-${id}`), expected);
          }
        }
        for (const [taskId, { state }] of live) {
          if (state === 'done') {
            assert.deepEqual(await journal.readResult(taskId), RESULT);
          } else {
            assert.ok((await journal.readTask(taskId)).equals(makeTask(100, taskId).body));
          }
        }
        await journal.close();
      }),
      { numRuns: 40 },
    );
  });
});

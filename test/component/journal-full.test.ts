/** A full disk under the journal: on a file system of one megabyte, which takes root to mount. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { openJournal } from '../../src/agent/journal/journal.ts';
import type { Journal } from '../../src/agent/journal/journal.ts';
import { errorCode, errorText } from '../../src/base/errors.ts';
import { eventually } from '../support/eventually.ts';
import type { OpenedJournal } from '../support/journal-fixture.ts';
import { JOURNAL_DEFAULTS, JournalFixture, makeTask } from '../support/journal-fixture.ts';

const OPTIONS = { ...JOURNAL_DEFAULTS, segmentBytesMax: 128 * 1024, reserveBytes: 32 * 1024 };

/** Takes tasks until one is refused; returns those that were taken. */
async function fill(journal: Journal): Promise<string[]> {
  const taken: string[] = [];
  for (;;) {
    const task = makeTask(10_000);
    try {
      await journal.received(task, true);
      taken.push(task.taskId);
    } catch (error) {
      assert.equal(errorCode(error), 'JOURNAL_FULL', errorText(error));
      assert.equal(journal.lookup(task.taskId), 'new');
      return taken;
    }
  }
}

describe('the task journal on a full disk', () => {
  const fixture = new JournalFixture();
  let directory = '';
  let mounted = false;
  const held: Journal[] = [];

  beforeEach(async function () {
    directory = await fixture.directory();
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory], {
        stdio: 'pipe',
      });
      mounted = true;
    } catch (error) {
      // Counted by the reporter as pending, with this reason.
      if (this.currentTest !== undefined) {
        this.currentTest.title += ` (cannot mount a tmpfs: ${errorText(error).split('\n')[0] ?? ''})`;
      }
      this.skip();
    }
  });

  afterEach(async () => {
    for (const journal of held.splice(0)) {
      await journal.close();
    }
    if (mounted) {
      execFileSync('umount', [directory]);
      mounted = false;
    }
    await fixture.release();
  });

  async function open(epoch = 1): Promise<OpenedJournal> {
    const opened = await openJournal({ ...OPTIONS, directory, epoch });
    held.push(opened.journal);
    return opened;
  }

  it('refuses new tasks, still takes results from its reserve, and goes on when there is room', async () => {
    const changes: boolean[] = [];
    const { journal } = await open();
    journal.onFullChange((full) => changes.push(full));
    const taken = await fill(journal);
    assert.ok(taken.length > 50);
    assert.deepEqual(changes, [true]);
    assert.match(journal.stats.lastError ?? '', /ENOSPC/);

    // More than a refused task left free: it fits only into what the reserve gave back.
    const [first = ''] = taken;
    await journal.done(first, { body: Buffer.alloc(20_000), headers: {} });
    assert.equal(journal.stats.full, true);
    for (const taskId of taken) {
      await journal.done(taskId, { body: Buffer.from('small'), headers: {} });
      journal.confirmed(taskId);
    }
    await eventually(() => {
      assert.deepEqual(changes, [true, false]);
    });
    await journal.received(makeTask(10_000), true);
    assert.equal(journal.stats.lastError, undefined);
  });

  it('keeps results in memory while nothing at all can be written, and writes them later', async () => {
    const ballast = join(directory, 'ballast');
    const { journal } = await open();
    const task = makeTask(1000, 'a');
    await journal.received(task, true);
    await journal.received(makeTask(1000, 'b'), true);
    assert.throws(() => {
      writeFileSync(ballast, Buffer.alloc(2 * 1024 * 1024));
    });
    const settled: string[] = [];
    const result = { body: Buffer.alloc(100_000, 'r'), headers: { h: 1 } };
    const done = journal.done('a', result).then(() => settled.push('a'));
    const other = journal.done('b', result).then(() => settled.push('b'));
    await eventually(() => {
      assert.equal(journal.stats.full, true);
    });
    assert.match(journal.stats.lastError ?? '', /ENOSPC/);
    assert.deepEqual(settled, []);
    assert.deepEqual(await journal.readResult('a'), result);
    await assert.rejects(journal.received(makeTask(10), true), { code: 'JOURNAL_FULL' });
    rmSync(ballast);
    await done;
    await other;
    await eventually(() => {
      assert.equal(journal.stats.full, false);
    });
    await journal.close();

    const { journal: next, recovered } = await open(2);
    assert.deepEqual(
      recovered.map((one) => one.state),
      ['done', 'done'],
    );
    assert.deepEqual(await next.readResult('a'), result);
  });

  it('does not write a result that was delivered while it waited', async () => {
    const ballast = join(directory, 'ballast');
    const { journal } = await open();
    await journal.received(makeTask(1000, 'a'), true);
    assert.throws(() => {
      writeFileSync(ballast, Buffer.alloc(2 * 1024 * 1024));
    });
    const done = journal.done('a', { body: Buffer.alloc(400_000), headers: {} });
    await eventually(() => {
      assert.match(journal.stats.lastError ?? '', /ENOSPC/);
    });
    journal.confirmed('a');
    await done;
    assert.equal(journal.lookup('a'), 'confirmed');
    rmSync(ballast);
    await eventually(() => {
      assert.equal(journal.stats.full, false);
    });
    assert.ok(journal.stats.bytes < 100_000);
  });

  it('opens on a full disk, publishes what it holds, and recovers', async () => {
    const { journal } = await open();
    await journal.received(makeTask(1000, 'a'), true);
    await journal.done('a', { body: Buffer.from('r'), headers: {} });
    await journal.close();
    rmSync(join(directory, 'node-a', 'reserve'));
    // Without the table of running tasks too: it cannot be made then, and the journal does without it.
    rmSync(join(directory, 'node-a', 'running'));
    const ballast = join(directory, 'ballast');
    assert.throws(() => {
      writeFileSync(ballast, Buffer.alloc(2 * 1024 * 1024));
    });
    const { journal: next } = await open(2);
    assert.deepEqual((await next.readResult('a')).body, Buffer.from('r'));
    await eventually(() => {
      assert.equal(next.stats.full, true);
    });
    next.confirmed('a');
    rmSync(ballast);
    await eventually(() => {
      assert.equal(next.stats.full, false);
    });
    await next.received(makeTask(10), true);
  });
});

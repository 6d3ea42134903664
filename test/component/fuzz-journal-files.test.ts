/**
 * A journal whose files were torn, flipped, swapped, repeated or replaced by noise: it opens, says what it found, never invents a
 * task, and works. Segments, tombstones and the table of running tasks alike.
 */
import assert from 'node:assert/strict';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import fc from 'fast-check';

import { readBegunTasks } from '../../src/agent/journal/running-table.ts';
import { FUZZ_SEED, fuzzed, patienceMs, seedNote } from '../support/fuzz.ts';
import { JOURNAL_DEFAULTS, JournalFixture, makeTask } from '../support/journal-fixture.ts';
import { damagedBytes } from '../support/wire-arbitraries.ts';

const EXAMPLES = 25;
const SMALL = { segmentBytesMax: 600, bodyCacheBytesMax: 200 };
const BOOT_ID = JOURNAL_DEFAULTS.bootId;

async function filesOf(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

describe(`journal files, fuzzed ${seedNote}`, function () {
  this.timeout(patienceMs(60_000, EXAMPLES));
  const fixture = new JournalFixture();
  afterEach(async () => {
    await fixture.release();
  });

  /** A journal with tasks in every state, in several segments; returns the ids that it has ever seen. */
  async function written(directory: string): Promise<Set<string>> {
    const { journal } = await fixture.open(directory, { ...SMALL, bootId: BOOT_ID });
    const ids = new Set<string>();
    for (let number = 0; number < 12; number += 1) {
      const task = makeTask(40 * number);
      ids.add(task.taskId);
      await journal.received(task, number % 3 === 0);
      if (number % 4 === 0) {
        await journal.done(task.taskId, {
          headers: { n: number },
          body: Buffer.alloc(50 * number),
        });
      }
      if (number % 8 === 0) {
        journal.confirmed(task.taskId);
      }
    }
    await journal.close();
    return ids;
  }

  it('cost what was damaged, and nothing is made up', async () => {
    const harm = fc.tuple(fc.nat(), fc.constantFrom('damage', 'swap', 'repeat', 'drop'), fc.nat());
    await fc.assert(
      fc.asyncProperty(fc.array(harm, { minLength: 1, maxLength: 3 }), async (harms) => {
        const directory = await fixture.directory();
        const ids = await written(directory);
        for (const [which, kind, seed] of harms) {
          const files = await filesOf(directory);
          const file = files[which % files.length] ?? '';
          const other = files[seed % files.length] ?? '';
          if (kind === 'swap') {
            await rename(file, `${file}.x`);
            await rename(other, file).catch(() => undefined);
            await rename(`${file}.x`, other);
          } else if (kind === 'repeat') {
            await writeFile(other, await readFile(file));
          } else if (kind === 'drop') {
            await rm(file, { force: true });
          } else {
            const bytes = fc.constant(await readFile(file));
            const [damaged] = fc.sample(damagedBytes(bytes), {
              seed: seed ^ FUZZ_SEED,
              numRuns: 1,
            });
            await writeFile(file, damaged ?? Buffer.alloc(0));
          }
        }
        const { journal, recovered } = await fixture.open(directory, { bootId: BOOT_ID, epoch: 2 });
        for (const { taskId, attempts } of recovered) {
          assert.ok(ids.has(taskId), taskId);
          assert.ok(attempts < 100);
        }
        const task = makeTask();
        await journal.received(task, true);
        await journal.close();
        const again = await fixture.open(directory, { bootId: BOOT_ID, epoch: 3 });
        assert.ok(again.recovered.some(({ taskId }) => taskId === task.taskId));
        await again.journal.close();
      }),
      fuzzed(EXAMPLES),
    );
  });

  it('that are no table of running tasks count as none', async () => {
    const directory = await fixture.directory();
    await written(directory);
    const table = (await filesOf(directory)).find((file) => file.endsWith('running')) ?? '';
    const whole = await readFile(table);
    const path = join(directory, 'damaged');
    for (const bytes of fc.sample(damagedBytes(fc.constant(whole)), {
      seed: FUZZ_SEED,
      numRuns: 200,
    })) {
      await writeFile(path, bytes);
      const begun = readBegunTasks(path, BOOT_ID);
      assert.ok(begun === undefined || bytes.length === whole.length);
    }
  });
});

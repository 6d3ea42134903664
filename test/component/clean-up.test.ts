import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { removeLeftovers } from '../../src/agent/clean-up.ts';

const DAY_MS = 24 * 3600 * 1000;

describe('nightly clean-up', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-clean-up-'));
  });

  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  async function file(path: string, ageDays: number): Promise<void> {
    const full = join(directory, path);
    await mkdir(dirname(full), { recursive: true });
    await writeFile(full, '');
    const time = (Date.now() - ageDays * DAY_MS) / 1000;
    await utimes(full, time, time);
  }

  it('removes old leftovers and nothing else', async () => {
    await file('journal/host/1/00000001.seg', 30);
    await file('journal/host/1/00000002.seg.corrupt', 15);
    await file('journal/host/1/00000003.seg.corrupt', 13);
    await file('journal/other/1/00000001.seg.adopted', 15);
    await file('agent.lock', 30);
    await file('agent.lock.4711.0a1b', 30);
    await file('tasks/mine.seg.corrupt', 30);
    const removed = await removeLeftovers(directory, Date.now());
    assert.equal(removed.length, 3);
    const left = (await readdir(directory, { recursive: true })).filter((name) =>
      /\.(seg|lock|corrupt)/.test(name),
    );
    assert.deepEqual(left.sort(), [
      'agent.lock',
      'journal/host/1/00000001.seg',
      'journal/host/1/00000003.seg.corrupt',
      'tasks/mine.seg.corrupt',
    ]);
  });

  it('is content with an endpoint that has no journal yet', async () => {
    assert.deepEqual(await removeLeftovers(join(directory, 'none'), Date.now()), []);
  });

  it('ends when it is told to', async () => {
    await file('agent.lock.4711.0a1b', 30);
    const signal = AbortSignal.abort();
    await assert.rejects(removeLeftovers(directory, Date.now(), signal), { name: 'AbortError' });
  });
});

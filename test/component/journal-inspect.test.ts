/** `agent journal` underneath: what it says of a journal that is in use, left, damaged, or somebody else's, and that it changes nothing. */
import assert from 'node:assert/strict';
import { appendFile, mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

import { inspectJournal } from '../../src/agent/journal/inspect.ts';
import type { InspectedJournal } from '../../src/agent/journal/inspect.ts';
import {
  JOURNAL_DEFAULTS,
  JournalFixture,
  filesEnding,
  makeTask,
} from '../support/journal-fixture.ts';

const { host: HOST, bootId: BOOT } = JOURNAL_DEFAULTS;

describe('looking into a journal', () => {
  const fixture = new JournalFixture();

  afterEach(async () => {
    await fixture.release();
  });

  async function snapshot(directory: string): Promise<string[]> {
    const names = (await readdir(directory, { recursive: true })).sort();
    return await Promise.all(
      names.map(async (name) => {
        const { size, mtimeMs } = await stat(join(directory, name));
        return `${name} ${size} ${mtimeMs}`;
      }),
    );
  }

  /** Inspects, and makes sure that nothing on the disk has changed. */
  async function inspect(directory: string, host: string = HOST): Promise<InspectedJournal> {
    const before = await snapshot(directory);
    const found = await inspectJournal(directory, host, BOOT);
    assert.deepEqual(await snapshot(directory), before);
    return found;
  }

  /** A journal that is open, with a task in every state. */
  async function fill(directory: string): Promise<Record<string, string>> {
    const { journal } = await fixture.open(directory, { bootId: BOOT });
    const [waiting, armed, done, confirmed] = [makeTask(100), makeTask(), makeTask(), makeTask()];
    await journal.received(waiting, false);
    await journal.received(armed, true);
    journal.cell(armed.taskId);
    for (const task of [done, confirmed]) {
      await journal.received(task, true);
      await journal.done(task.taskId, { body: Buffer.from('result'), headers: {} });
    }
    journal.confirmed(confirmed.taskId);
    // The confirmation travels with it.
    await journal.received(makeTask(0, 'last'), false);
    return { waiting: waiting.taskId, armed: armed.taskId, done: done.taskId };
  }

  it('shows every live task with its state, attempts and size, while the journal is in use', async () => {
    const directory = await fixture.directory();
    const ids = await fill(directory);
    const { hosts, tasks, notices, bytes, free_bytes: free } = await inspect(directory);
    assert.deepEqual(notices, []);
    const [own] = hosts;
    assert.ok(own !== undefined && hosts.length === 1);
    assert.deepEqual(
      [own.host, own.is_own, own.tasks, own.tombstones, own.kept_aside],
      [HOST, true, { received: 2, started: 1, done: 1 }, 1, []],
    );
    assert.deepEqual(
      own.segments.map(({ epoch, live }) => [epoch, live]),
      [[1, 4]],
    );
    assert.ok(bytes === own.bytes && bytes > (own.segments[0]?.bytes ?? 0));
    assert.ok((free ?? 0) > 0);
    const byId = new Map(tasks.map((task) => [task.task_id, task]));
    assert.deepEqual(
      [ids['waiting'], ids['armed'], ids['done']].map((id) => {
        const task = byId.get(id ?? '');
        return [task?.state, task?.begun, task?.attempts];
      }),
      [
        ['received', null, 0],
        ['started', false, 1],
        ['done', null, 1],
      ],
    );
    assert.ok((byId.get(ids['waiting'] ?? '')?.bytes ?? 0) > 100);
  });

  it('takes what is being written for what it is', async () => {
    const directory = await fixture.directory();
    await fill(directory);
    const [segment] = await filesEnding(directory, '.seg');
    const whole = await inspect(directory);
    await appendFile(join(directory, segment ?? ''), Buffer.from([40, 0, 0, 0, 1, 2, 3]));
    const { tasks, notices } = await inspect(directory);
    assert.equal(tasks.length, whole.tasks.length);
    assert.equal(notices.length, 1);
    assert.match(notices[0] ?? '', /last 7 bytes are not written to their end, or not yet/);
  });

  it('reports damage and whatever else lies there, and shows what is good', async () => {
    const directory = await fixture.directory();
    await fill(directory);
    const [segment = ''] = await filesEnding(directory, '.seg');
    const path = join(directory, segment);
    const bytes = await readFile(path);
    // In the body of the first task: the others are whole.
    bytes.fill(0xff, 150, 160);
    await writeFile(path, bytes);
    await writeFile(`${path}.corrupt`, 'kept');
    await writeFile(join(directory, HOST, '00000009.tomb'), 'no tombstones');
    await writeFile(join(directory, HOST, 'running'), 'no table');
    await writeFile(join(directory, 'a file'), 'not a host');
    await mkdir(join(directory, 'other', '3'), { recursive: true });
    await writeFile(join(directory, 'other', '3', '00000001.seg'), Buffer.alloc(4096, 7));
    const { hosts, tasks, notices } = await inspect(directory);
    assert.deepEqual(hosts.map(({ host }) => host).sort(), [HOST, 'other'].sort());
    assert.equal(tasks.length, 3);
    assert.equal(tasks.find(({ state }) => state === 'started')?.begun, null);
    assert.deepEqual(
      hosts.flatMap(({ kept_aside: kept }) => kept.map(({ file }) => file)),
      [`${path}.corrupt`],
    );
    for (const expected of [/damaged and were skipped/, /no file of tombstones/, /not a segment/]) {
      assert.ok(
        notices.some((notice) => expected.test(notice)),
        notices.join('\n'),
      );
    }
  });

  it('says of a journal of a newer version that it cannot read it', async () => {
    const other = await fixture.directory();
    const { journal } = await fixture.open(other);
    await journal.received(makeTask(), false);
    const [segment = ''] = await filesEnding(other, '.seg');
    const bytes = await readFile(join(other, segment));
    bytes.writeUInt16LE(99, 4);
    const headerBytes = bytes.readUInt16LE(6);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, headerBytes - 4)), headerBytes - 4);
    await writeFile(join(other, segment), bytes);
    const { tasks, notices } = await inspect(other);
    assert.deepEqual(tasks, []);
    assert.match(notices[0] ?? '', /has format 99/);
  });

  it('tells other hosts from this one, and does not guess what has begun there', async () => {
    const directory = await fixture.directory();
    await fill(directory);
    const { hosts, tasks } = await inspect(directory, 'node-b');
    assert.equal(hosts[0]?.is_own, false);
    assert.deepEqual([...new Set(tasks.map(({ begun }) => begun))], [null]);
  });

  it('finds nothing where there is no journal', async () => {
    const directory = join(await fixture.directory(), 'journal');
    const found = await inspectJournal(directory, HOST, BOOT);
    assert.deepEqual([found.hosts, found.tasks, found.notices], [[], [], []]);
  });
});

/** Which started tasks had begun: after the death of the process this is known exactly, after a reboot it is not assumed. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { Journal } from '../../src/agent/journal/journal.ts';
import { BegunMarks } from '../../src/workers/begun-marks.ts';
import { JournalFixture, makeTask } from '../support/journal-fixture.ts';

const BOOT = 'b0072000-0000-4000-8000-000000000001';
const OTHER_BOOT = 'b0072000-0000-4000-8000-000000000002';

/** What the worker host does right before a worker gets a task. */
function begin(journal: Journal, taskId: string): void {
  const cell = journal.cell(taskId);
  assert.ok(cell !== undefined, 'there is no table');
  new BegunMarks(journal.runningTablePath).mark({ cell, taskId });
}

describe('tasks that were started ahead of time', () => {
  const fixture = new JournalFixture();

  afterEach(async () => {
    await fixture.release();
  });

  /** Leaves one task armed, one begun and one finished; the journal is not closed, as after kill -9. */
  async function crashed(
    directory: string,
  ): Promise<{ armed: string; begun: string; done: string }> {
    const { journal } = await fixture.open(directory, { bootId: BOOT });
    const [armed, begun, done] = [makeTask(), makeTask(), makeTask()];
    await journal.received(armed, false);
    await journal.started(armed.taskId);
    await journal.received(begun, true);
    begin(journal, begun.taskId);
    await journal.received(done, true);
    begin(journal, done.taskId);
    await journal.done(done.taskId, { body: Buffer.from('result'), headers: {} });
    return { armed: armed.taskId, begun: begun.taskId, done: done.taskId };
  }

  async function statesAfter(
    directory: string,
    options: { bootId?: string; trustRunningTable?: boolean } = {},
  ): Promise<Map<string, string>> {
    const { recovered } = await fixture.open(directory, { epoch: 2, bootId: BOOT, ...options });
    return new Map(
      recovered.map(({ taskId, state, attempts }) => [taskId, `${state} ${attempts}`]),
    );
  }

  it('wait again when they had not begun, and are told apart from those that had', async () => {
    const directory = await fixture.directory();
    const ids = await crashed(directory);
    const states = await statesAfter(directory);
    assert.equal(states.get(ids.armed), 'received 0');
    assert.equal(states.get(ids.begun), 'started 1');
    assert.equal(states.get(ids.done), 'done 1');
  });

  it('all count as begun after a reboot', async () => {
    const directory = await fixture.directory();
    const ids = await crashed(directory);
    const states = await statesAfter(directory, { bootId: OTHER_BOOT });
    assert.equal(states.get(ids.armed), 'started 1');
    assert.equal(states.get(ids.begun), 'started 1');
  });

  it('all count as begun while a worker host of the last run may be alive', async () => {
    const directory = await fixture.directory();
    const ids = await crashed(directory);
    const states = await statesAfter(directory, { trustRunningTable: false });
    assert.equal(states.get(ids.armed), 'started 1');
    assert.equal(states.get(ids.begun), 'started 1');
  });

  it('wait again after a clean end, also when the machine was rebooted', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory, { bootId: BOOT });
    const armed = makeTask();
    await journal.received(armed, false);
    await journal.started(armed.taskId);
    await journal.close();
    const states = await statesAfter(directory, { bootId: OTHER_BOOT });
    assert.equal(states.get(armed.taskId), 'received 0');
  });

  it('all count as begun when the table is missing', async () => {
    const directory = await fixture.directory();
    const ids = await crashed(directory);
    await rm(join(directory, 'node-a', 'running'));
    assert.equal((await statesAfter(directory)).get(ids.armed), 'started 1');
  });

  it('are still known as begun when the next run dies before it has decided about them', async () => {
    const directory = await fixture.directory();
    const ids = await crashed(directory);
    await fixture.open(directory, { epoch: 2, bootId: BOOT });
    const { recovered } = await fixture.open(directory, { epoch: 3, bootId: BOOT });
    assert.equal(recovered.find(({ taskId }) => taskId === ids.begun)?.state, 'started');
    assert.equal(recovered.find(({ taskId }) => taskId === ids.armed)?.state, 'received');
  });

  it('are known as begun or not while the agent lives, also in another attempt', async () => {
    const { journal } = await fixture.open(await fixture.directory(), { bootId: BOOT });
    const task = makeTask();
    await journal.received(task, true);
    journal.cell(task.taskId);
    assert.equal(journal.hasBegun(task.taskId), false);
    begin(journal, task.taskId);
    assert.equal(journal.hasBegun(task.taskId), true);
    await journal.started(task.taskId);
    journal.cell(task.taskId);
    assert.equal(journal.hasBegun(task.taskId), false);
  });

  it('have begun when a worker could not mark its cell and deleted the table', async () => {
    const { journal } = await fixture.open(await fixture.directory(), { bootId: BOOT });
    const task = makeTask();
    await journal.received(task, true);
    journal.cell(task.taskId);
    assert.equal(journal.hasBegun(task.taskId), false);
    await rm(journal.runningTablePath);
    assert.equal(journal.hasBegun(task.taskId), true);
  });

  it('have begun when they were handed over without a cell', async () => {
    const { journal } = await fixture.open(await fixture.directory(), { bootId: BOOT });
    const task = makeTask();
    await journal.received(task, true);
    assert.equal(journal.hasBegun(task.taskId), true);
  });

  it('keep their cell until the result is durable, however many run', async () => {
    const directory = await fixture.directory();
    const { journal } = await fixture.open(directory, { bootId: BOOT });
    const first = makeTask();
    await journal.received(first, true);
    begin(journal, first.taskId);
    for (let count = 0; count < 5000; count += 100) {
      const tasks = Array.from({ length: 100 }, () => makeTask());
      await Promise.all(
        tasks.map(async (task) => {
          await journal.received(task, true);
        }),
      );
      const results = tasks.map(async ({ taskId }) => {
        begin(journal, taskId);
        await journal.done(taskId, { body: Buffer.alloc(1), headers: {} });
        journal.confirmed(taskId);
      });
      await Promise.all(results);
    }
    assert.equal((await statesAfter(directory)).get(first.taskId), 'started 1');
  });
});

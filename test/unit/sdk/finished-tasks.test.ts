import assert from 'node:assert/strict';

import type { TaskDocument } from '../../../src/protocol/rest.ts';
import { FinishedTasks } from '../../../src/sdk/finished-tasks.ts';
import { taskRecord } from '../../../src/sdk/task-record.ts';

function success(taskId: string, result: string): TaskDocument {
  return { task_id: taskId, status: 'success', result, completion_t: '1632876695.6450012' };
}

describe('finished tasks', () => {
  it('keeps what has ended for good, and nothing else', () => {
    const tasks = new FinishedTasks(1_000_000);
    tasks.add('a', success('a', '11\n1'));
    tasks.add('b', { task_id: 'b', status: 'running' });
    tasks.add('c', {
      task_id: 'c',
      status: 'failed',
      exception: 'x',
      outpost: { provisional: true },
    });
    tasks.add('d', { task_id: 'd', status: 'failed', exception: 'x' });
    const known = ['a', 'b', 'c', 'd'].filter((id) => tasks.get(id) !== undefined);
    assert.deepEqual(known, ['a', 'd']);
    tasks.clear();
    assert.equal(tasks.get('a'), undefined);
  });

  it('drops what was not used for longest when there is too much', () => {
    const tasks = new FinishedTasks(10_000);
    const text = 'x'.repeat(1_500);
    for (const id of ['a', 'b', 'c']) {
      tasks.add(id, success(id, text));
      tasks.get('a');
    }
    assert.equal(tasks.get('b'), undefined);
    assert.notEqual(tasks.get('a'), undefined);
    tasks.add('a', success('a', text));
    assert.notEqual(tasks.get('c'), undefined, 'one that is told again takes no more room');
    tasks.add('large', success('large', 'x'.repeat(10_000)));
    assert.equal(tasks.get('large'), undefined);
  });
});

describe('record of a task', () => {
  it('has the shape of the batch results of the guide', () => {
    assert.deepEqual(taskRecord(success('a', '11\n0')), {
      pending: false,
      status: 'success',
      result: 0,
      completion_t: '1632876695.6450012',
    });
    assert.deepEqual(taskRecord({ task_id: 'a', status: 'waiting-for-ep' }), {
      pending: true,
      status: 'waiting-for-ep',
    });
    assert.deepEqual(taskRecord(undefined), { pending: true, status: 'unknown' });
  });
});

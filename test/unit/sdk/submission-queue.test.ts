import assert from 'node:assert/strict';

import { SubmissionQueue } from '../../../src/sdk/submission-queue.ts';
import type { QueuedTask } from '../../../src/sdk/submission-queue.ts';

function task(payload: string, resultSerializers: readonly string[] = []): QueuedTask {
  return { functionId: 'f', payload, resultSerializers };
}

describe('submission queue', () => {
  let batches: string[][];
  let inFlight: number;
  let release: (() => void)[];

  const makeQueue = (batchSize: number, batchBytes = 1000): SubmissionQueue<QueuedTask> =>
    new SubmissionQueue<QueuedTask>({
      batchSize,
      batchBytes,
      send: async (batch) => {
        inFlight += 1;
        assert.equal(inFlight, 1);
        batches.push(batch.map(({ payload }) => payload));
        await new Promise<void>((resolve) => {
          release.push(resolve);
          if (batches.length > 1) {
            resolve();
          }
        });
        inFlight -= 1;
      },
    });

  const nextTurn = async (): Promise<void> => {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  };

  beforeEach(() => {
    batches = [];
    inFlight = 0;
    release = [];
  });

  it('sends together what was added in one turn, and then what was added meanwhile', async () => {
    const queue = makeQueue(10);
    queue.add(task('a'));
    queue.add(task('b'));
    await nextTurn();
    await nextTurn();
    queue.add(task('c'));
    await nextTurn();
    queue.add(task('d'));
    assert.deepEqual(batches, [['a', 'b']]);
    release[0]?.();
    await queue.idle();
    assert.deepEqual(batches, [['a', 'b'], ['c', 'd']]); // prettier-ignore
  });

  it('bounds a batch in tasks and in bytes, and sends a larger task alone', async () => {
    const queue = makeQueue(2, 10);
    const large = 'x'.repeat(11);
    for (const payload of ['1', '2', '3', large, 'ééé', 'ééé']) {
      queue.add(task(payload));
    }
    await nextTurn();
    release[0]?.();
    await queue.idle();
    assert.deepEqual(batches, [['1', '2'], ['3'], [large], ['ééé'], ['ééé']]); // prettier-ignore
  });

  it('does not mix tasks that want different results', async () => {
    const queue = makeQueue(10);
    queue.add(task('a'));
    queue.add(task('b', ['json']));
    queue.add(task('c'));
    await nextTurn();
    release[0]?.();
    await queue.idle();
    assert.deepEqual(batches, [['a', 'c'], ['b']]); // prettier-ignore
  });

  it('starts again after it was idle, and gives back what was not sent', async () => {
    const queue = makeQueue(10);
    queue.add(task('a'));
    await nextTurn();
    release[0]?.();
    await queue.idle();
    queue.add(task('b'));
    assert.deepEqual(queue.clear().map(({ payload }) => payload), ['b']); // prettier-ignore
    await queue.idle();
    queue.add(task('c'));
    await queue.idle();
    assert.deepEqual(batches, [['a'], ['c']]); // prettier-ignore
  });
});

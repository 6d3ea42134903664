import assert from 'node:assert/strict';

import { SubmissionQueue } from '../../../src/sdk/submission-queue.ts';
import type { QueuedTask } from '../../../src/sdk/submission-queue.ts';

function task(payload: string, resultSerializers: readonly string[] = []): QueuedTask {
  return { functionId: 'f', payload, bytes: payload.length, resultSerializers };
}

describe('submission queue', () => {
  let batches: string[][];
  let answers: (() => void)[];

  const makeQueue = (
    batchSize: number,
    batchBytes = 1000,
    concurrency = 1,
  ): SubmissionQueue<QueuedTask> =>
    new SubmissionQueue<QueuedTask>({
      batchSize,
      batchBytes,
      concurrency: () => concurrency,
      send: async (batch) => {
        batches.push(batch.map(({ payload }) => payload));
        await new Promise<void>((resolve) => {
          answers.push(resolve);
        });
      },
    });

  const nextTurn = async (): Promise<void> => {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  };

  /** Answers every request, and those that follow from it. */
  const answerAll = async (queue: SubmissionQueue<QueuedTask>): Promise<void> => {
    const state = { isIdle: false };
    const idle = queue.idle().then(() => {
      state.isIdle = true;
    });
    while (!state.isIdle) {
      answers.splice(0).forEach((answer) => {
        answer();
      });
      await nextTurn();
    }
    await idle;
  };

  beforeEach(() => {
    batches = [];
    answers = [];
  });

  it('sends together what was added in one turn, and then what was added meanwhile', async () => {
    const queue = makeQueue(10);
    queue.add(task('a'));
    queue.add(task('b'));
    await nextTurn();
    queue.add(task('c'));
    await nextTurn();
    queue.add(task('d'));
    await nextTurn();
    assert.deepEqual(batches, [['a', 'b']]);
    await answerAll(queue);
    assert.deepEqual(batches, [['a', 'b'], ['c', 'd']]); // prettier-ignore
  });

  it('sends a full batch at once, by count or by bytes, up to the bound of requests', async () => {
    const queue = makeQueue(2, 10, 2);
    queue.add(task('a'));
    assert.deepEqual(batches, []);
    queue.add(task('b'));
    assert.deepEqual(batches, [['a', 'b']]);
    queue.add(task('0123456789'));
    assert.deepEqual(batches.slice(1), [['0123456789']]);
    for (const payload of ['c', 'd', 'e']) {
      queue.add(task(payload));
    }
    await nextTurn();
    assert.equal(batches.length, 2);
    answers[0]?.();
    await nextTurn();
    // The other request is still in flight, so the smaller batch goes on gathering.
    assert.deepEqual(batches.slice(2), [['c', 'd']]);
    await answerAll(queue);
    assert.deepEqual(batches.slice(3), [['e']]);
  });

  it('bounds a batch in tasks and in bytes, and sends a larger task alone', async () => {
    const queue = makeQueue(2, 10);
    const large = 'x'.repeat(11);
    for (const payload of ['1', '2', '3', large, 'éééééé', 'éééééé']) {
      queue.add(task(payload));
    }
    await answerAll(queue);
    assert.deepEqual(batches, [['1', '2'], ['3'], [large], ['éééééé'], ['éééééé']]); // prettier-ignore
  });

  it('does not mix tasks that want different results, and lets the kinds take turns', async () => {
    const queue = makeQueue(2);
    queue.add(task('a'));
    queue.add(task('b', ['json']));
    queue.add(task('c'));
    queue.add(task('d'));
    queue.add(task('e', ['json']));
    await answerAll(queue);
    assert.deepEqual(batches, [['a', 'c'], ['b', 'e'], ['d']]); // prettier-ignore
  });

  it('drops what is called off before it is sent, and gives back what was not sent', async () => {
    const queue = makeQueue(10);
    const [a, b, c] = [task('a'), task('b'), task('c')];
    queue.add(a);
    queue.add(b);
    assert.equal(queue.remove(a), true);
    assert.equal(queue.remove(a), false);
    await nextTurn();
    assert.deepEqual(batches, [['b']]);
    assert.equal(queue.remove(b), false);
    queue.add(c);
    assert.deepEqual(queue.clear(), [c]);
    await answerAll(queue);
    queue.add(c);
    await answerAll(queue);
    assert.deepEqual(batches, [['b'], ['c']]); // prettier-ignore
  });

  it('does not count the bytes of what was called off', async () => {
    const queue = makeQueue(10, 10);
    const large = task('12345678');
    queue.add(large);
    queue.remove(large);
    queue.add(task('abcdefgh'));
    assert.deepEqual(batches, []);
    await answerAll(queue);
    assert.deepEqual(batches, [['abcdefgh']]);
  });
});

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { systemClock } from '../../../src/base/clock.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import type { PublishableTask } from '../../../src/hub/tasks/task-message.ts';
import { TaskPublisher } from '../../../src/hub/tasks/task-publisher.ts';
import type { TaskPublisherOptions } from '../../../src/hub/tasks/task-publisher.ts';
import { eventually } from '../../support/eventually.ts';

const FUNCTION_CODE = '2\n11\n1';

function someTask(): PublishableTask {
  return {
    id: randomUUID(),
    endpointId: randomUUID(),
    queue: 'tasks',
    functionId: randomUUID(),
    functionCode: FUNCTION_CODE,
    payload: '3\n11\n1',
    options: null,
    createdAt: new Date(),
  };
}

/** A publisher whose broker confirms everything at once. */
function publishing(relay: TaskPublisherOptions['relay']): {
  readonly publisher: TaskPublisher;
  readonly published: string[];
} {
  const published: string[] = [];
  const publisher = new TaskPublisher({
    clock: systemClock,
    logger: silentLogger,
    markPublished: async () => {
      await Promise.resolve();
    },
    relay,
    repairEndpoint: async () => {
      await Promise.resolve();
    },
    failTask: async () => {
      await Promise.resolve();
    },
  });
  publisher.online({
    publish: async (_exchange, _routingKey, _body, options) => {
      published.push(String(options?.headers?.['task_uuid']));
      await Promise.resolve();
    },
    unconfirmedCount: 0,
    closed: new Promise(() => {
      // For as long as the test runs.
    }),
    close: async () => {
      await Promise.resolve();
    },
  });
  return { publisher, published };
}

describe('a publisher of tasks', () => {
  it('does not publish what was marked while the relay read it as unpublished', async () => {
    const mine = someTask();
    const foreign = someTask();
    let giveBack: (() => void) | undefined;
    const { publisher, published } = publishing(async (_since, publishPage) => {
      await new Promise<void>((resolve) => {
        giveBack = resolve;
      });
      await publishPage([mine, foreign]);
      return 'done';
    });
    await eventually(() => {
      assert.ok(giveBack !== undefined);
    });
    publisher.offer([mine]);
    await eventually(() => {
      assert.deepEqual([published, publisher.heldCount], [[mine.id], 0]);
    });
    giveBack?.();
    await eventually(() => {
      assert.deepEqual([published, publisher.heldCount], [[mine.id, foreign.id], 0]);
    });
    await publisher.stop();
  });

  it('publishes a marked task again when the relay finds it later', async () => {
    const task = someTask();
    const pages: PublishableTask[][] = [[task], [task]];
    const { publisher, published } = publishing(async (_since, publishPage) => {
      await publishPage(pages.shift() ?? []);
      return 'done';
    });
    await eventually(() => {
      assert.deepEqual([published.length, publisher.heldCount], [1, 0]);
    });
    publisher.relayAll();
    await eventually(() => {
      assert.deepEqual(published, [task.id, task.id]);
    });
    await publisher.stop();
  });
});

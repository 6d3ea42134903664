/** The dispatcher between a journal on disk and a consumer and a host that only take notes. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import type { Dispatcher } from '../../src/agent/dispatcher.ts';
import type { Journal, RecoveredTask } from '../../src/agent/journal/journal.ts';
import type { Clock, Timer } from '../../src/base/clock.ts';
import type { TaskFrame } from '../../src/protocol/host-frames.ts';
import { packTask, unpackResult } from '../../src/protocol/messages.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import type { AmqpConsumer, Delivery } from '../../src/transport/amqp/consumer.ts';
import { BegunMarks } from '../../src/workers/begun-marks.ts';
import { makeDispatcher } from '../support/dispatcher-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { JournalFixture } from '../support/journal-fixture.ts';

const MINUTE_MS = 60_000;

/** Time that is turned by hand. */
class ManualClock implements Clock {
  #nowMs = 1_700_000_000_000;
  #timers: { dueMs: number; callback: () => void }[] = [];

  readonly now = (): number => this.#nowMs;
  readonly monotonicMs = (): number => this.#nowMs;
  readonly after = (delayMs: number, callback: () => void): Timer => {
    const timer = { dueMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return {
      cancel: (): void => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  };

  turn(ms: number): void {
    this.#nowMs += ms;
    const due = this.#timers.filter(({ dueMs }) => dueMs <= this.#nowMs);
    this.#timers = this.#timers.filter((timer) => !due.includes(timer));
    for (const { callback } of due) {
      callback();
    }
  }
}

/** Notes what became of deliveries. */
class NotedConsumer {
  readonly acked: number[] = [];
  readonly requeued: number[] = [];
  readonly #ended = new Promise<never>(() => {
    // It never ends.
  });

  get consumer(): AmqpConsumer {
    return {
      ack: (tag) => this.acked.push(tag) > 0,
      heldCount: 0,
      probe: async () => await Promise.resolve({ messageCount: 0, consumerCount: 1 }),
      requeue: (tag) => this.requeued.push(tag) > 0,
      reject: () => true,
      setPrefetch: async () => {
        await Promise.resolve();
      },
      cancel: async () => {
        await Promise.resolve();
      },
      ended: this.#ended,
      close: async () => {
        await Promise.resolve();
      },
    };
  }
}

function delivery(deliveryTag: number, taskId: string = randomUUID()): Delivery {
  const body = packTask({
    task_id: taskId,
    task_buffer: packBuffers(['js\nf:() => 1', '11\n[]', '11\n{}']),
  });
  const headers = { task_uuid: taskId, function_uuid: randomUUID() };
  return { deliveryTag, redelivered: false, routingKey: 'q', body, headers };
}

describe('dispatcher', () => {
  const fixture = new JournalFixture();
  let journal: Journal;
  let clock: ManualClock;
  let dispatcher: Dispatcher;
  let noted: NotedConsumer;
  let frames: TaskFrame[];
  let pauses: string[];

  function build(reserve: number): Dispatcher {
    return makeDispatcher(journal, {
      reserve,
      clock,
      sendToHost: (frame) => {
        frames.push(frame as TaskFrame);
      },
      pauseConsuming: (reason) => pauses.push(`pause ${reason}`),
      resumeConsuming: (reason) => pauses.push(`resume ${reason}`),
    });
  }

  beforeEach(async () => {
    ({ journal } = await fixture.open(await fixture.directory()));
    clock = new ManualClock();
    noted = new NotedConsumer();
    frames = [];
    pauses = [];
    dispatcher = build(1);
    dispatcher.onHostReady({ type: 'ready', javascript: 1, python: 1 });
    pauses.length = 0;
  });

  afterEach(async () => {
    await fixture.release();
  });

  /** Offers more tasks than there are places: one runs, one is handed over ahead of time, one has no place. */
  async function fillPlaces(): Promise<void> {
    const { consumer } = noted;
    for (const tag of [1, 2, 3]) {
      dispatcher.offer(delivery(tag), consumer);
    }
    await eventually(() => {
      assert.deepEqual(noted.acked, [1, 2]);
      assert.equal(frames.length, 2);
    });
  }

  function finish(frame: TaskFrame | undefined): void {
    assert.ok(frame !== undefined);
    const result = {
      type: 'result',
      task_id: frame.task_id,
      nonce: frame.nonce,
      failed: false,
    } as const;
    dispatcher.onHostResult(result, Buffer.from('result'));
  }

  it('acks only what has a slot or a place', async () => {
    await fillPlaces();
    assert.equal(dispatcher.counts.pending, 1);
  });

  it('gives a delivery back after ten minutes without a place, and consumes again when one frees', async () => {
    await fillPlaces();
    clock.turn(10 * MINUTE_MS);
    assert.deepEqual(noted.requeued, [3]);
    assert.deepEqual(pauses, ['pause no-place']);
    finish(frames[0]);
    assert.ok(pauses.includes('resume no-place'), pauses.join(', '));
  });

  it('judges by new rules also what was delivered and waits for a place', async () => {
    await fillPlaces();
    dispatcher.applySettings({
      rules: {
        endpointId: randomUUID(),
        allowedFunctions: new Set([randomUUID()]),
        places: { javascript: 1, python: 1 },
      },
      maxRetries: 0,
      taskTimeoutMs: 0,
    });
    await eventually(() => {
      assert.deepEqual(noted.acked, [1, 2, 3]);
      assert.deepEqual([dispatcher.counts.pending, dispatcher.counts.failed], [0, 1]);
    });
    assert.equal(frames.length, 2);
  });

  it('ignores a result with the nonce of another attempt', async () => {
    await fillPlaces();
    const [frame] = frames;
    finish(frame === undefined ? undefined : { ...frame, nonce: 'forged' });
    assert.equal(dispatcher.counts.running, 1);
    assert.equal(dispatcher.counts.succeeded, 0);
  });

  it('never starts a task again because of a delivery', async () => {
    const taskId = randomUUID();
    const { consumer } = noted;
    dispatcher.offer(delivery(1, taskId), consumer);
    dispatcher.offer(delivery(2, taskId), consumer);
    await eventually(() => {
      assert.deepEqual(noted.acked, [1, 2]);
    });
    finish(frames[0]);
    dispatcher.offer(delivery(3, taskId), consumer);
    await eventually(() => {
      assert.deepEqual(noted.acked, [1, 2, 3]);
    });
    assert.equal(frames.length, 1);
  });

  it('fails a refused task also after a restart, instead of running it', async () => {
    const taskId = randomUUID();
    const refusal = { code: 'FUNCTION_NOT_ALLOWED', message: 'not permitted' };
    const meta = { functionId: '', language: 'python', refusal };
    await journal.received({ taskId, meta, body: Buffer.from('x') }, false);
    const recovered: RecoveredTask = { taskId, state: 'received', attempts: 0, meta };
    dispatcher.recover([recovered]);
    assert.deepEqual(frames, []);
    await eventually(async () => {
      const { body } = await journal.readResult(taskId);
      assert.equal(unpackResult(body).error_details?.code, 'FUNCTION_NOT_ALLOWED');
    });
  });

  describe('with short tasks and room for more of them', () => {
    const slow = { type: 'ready', javascript: 1, python: 1 } as const;

    /** The marks that the worker host would write. */
    function begin(frame: TaskFrame | undefined): void {
      assert.ok(frame?.cell !== undefined);
      const { cell, task_id: taskId } = frame;
      new BegunMarks(journal.runningTablePath).mark({ cell, taskId });
    }

    async function offerMany(count: number): Promise<void> {
      dispatcher = build(count);
      dispatcher.onHostReady(slow);
      for (let tag = 1; tag <= count; tag += 1) {
        dispatcher.offer(delivery(tag), noted.consumer);
      }
      await eventually(() => {
        assert.equal(frames.length, Math.min(count, 33));
      });
    }

    it('hands over some ahead of time, of which one runs, and more the longer they are short', async () => {
      await offerMany(50);
      assert.deepEqual(dispatcher.counts.running, 1);
      assert.deepEqual(dispatcher.counts.waiting, 49);
      // Each makes room for itself and for one more.
      for (const [index, handedOver] of [35, 37, 39].entries()) {
        finish(frames[index]);
        await eventually(() => {
          assert.equal(frames.length, handedOver);
        });
      }
      assert.deepEqual(dispatcher.counts.running, 1);
    });

    it('runs in the next host what had not begun in the one that was lost, in the old order', async () => {
      await offerMany(3);
      begin(frames[0]);
      dispatcher.onHostLost('killed');
      assert.equal(dispatcher.counts.failed, 1);
      dispatcher.onHostReady(slow);
      await eventually(() => {
        assert.equal(frames.length, 5);
      });
      const ids = frames.map(({ task_id: taskId }) => taskId);
      assert.deepEqual(ids.slice(3), ids.slice(1, 3));
      finish(frames[3]);
      finish(frames[4]);
      assert.equal(dispatcher.counts.succeeded, 2);
    });

    it('keeps what the host gives back when the agent stops', async () => {
      await offerMany(3);
      dispatcher.quiesce('stop');
      assert.deepEqual(frames.at(-1), { type: 'recall' });
      const drained = dispatcher.drained();
      const nonces = frames.slice(1, 3).map(({ nonce }) => nonce);
      dispatcher.onHostReturned({ type: 'returned', nonces });
      finish(frames[0]);
      await drained;
      assert.deepEqual(
        dispatcher.tasks().map(({ phase }) => phase),
        ['done', 'ready', 'ready'],
      );
    });

    it('counts as running what the host does not give back when the agent stops', async () => {
      await offerMany(3);
      dispatcher.quiesce('stop');
      // The second had begun in a place that the agent did not expect.
      const nonces = [frames[0]?.nonce ?? '', frames[2]?.nonce ?? ''];
      dispatcher.onHostReturned({ type: 'returned', nonces });
      dispatcher.failRunning({ code: 'AGENT_STOPPED', message: 'stopped' });
      assert.deepEqual(
        dispatcher.tasks().map(({ phase }) => phase),
        ['ready', 'done', 'ready'],
      );
    });

    it('starts again what the host gave back, when a drain is taken back', async () => {
      await offerMany(3);
      dispatcher.quiesce('drain');
      const nonces = frames.slice(1, 3).map(({ nonce }) => nonce);
      dispatcher.onHostReturned({ type: 'returned', nonces });
      await dispatcher.settled();
      assert.equal(dispatcher.unstarted.length, 2);
      finish(frames[0]);
      await dispatcher.drained();
      dispatcher.resume();
      await eventually(() => {
        assert.equal(frames.length, 6);
      });
      finish(frames[4]);
      finish(frames[5]);
      assert.equal(dispatcher.counts.succeeded, 3);
    });

    it('accepts again after a drain, and never again after a stop', async () => {
      await offerMany(1);
      const accepted = noted.acked.length;
      dispatcher.quiesce('drain');
      dispatcher.offer(delivery(7), noted.consumer);
      dispatcher.givePendingBack();
      assert.deepEqual(noted.requeued, [7]);
      dispatcher.offer(delivery(8), noted.consumer);
      dispatcher.resume();
      await eventually(() => {
        assert.equal(noted.acked.length, accepted + 1);
      });
      dispatcher.quiesce('stop');
      dispatcher.resume();
      dispatcher.offer(delivery(9), noted.consumer);
      assert.equal(dispatcher.counts.pending, 1);
    });

    it('drains when the host is lost with tasks of which none had begun', async () => {
      await offerMany(3);
      dispatcher.quiesce('stop');
      const drained = dispatcher.drained();
      dispatcher.onHostLost('killed');
      await drained;
      assert.equal(dispatcher.counts.failed, 0);
    });

    it('keeps a task that a host refuses because it ends, and fails one that it had begun', async () => {
      await offerMany(2);
      begin(frames[1]);
      dispatcher.onHostReady({ type: 'ready', javascript: 0, python: 0 });
      for (const frame of frames.splice(0, 2)) {
        const { task_id: taskId, nonce } = frame;
        const code = 'AGENT_STOPPED';
        const message = 'the worker host is stopping';
        dispatcher.onHostFailed({
          type: 'failed',
          task_id: taskId,
          nonce,
          code,
          message,
          worker_lost: false,
        });
      }
      assert.deepEqual(
        dispatcher.tasks().map(({ phase }) => phase),
        ['ready', 'done'],
      );
    });
  });
});

/**
 * Brings results to the queues of their task groups.
 *
 * A publish that was not confirmed is repeated as soon as the broker is back, until `stop`. A queue that is not there (the
 * group never had one, or nobody used it for the retention) is no error: such a group is read by polling.
 */
import { setMaxListeners } from 'node:events';

import { raceAbort } from '../../base/abort.ts';
import { backoffDelayMs } from '../../base/backoff.ts';
import { sleep } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import { ComputeError, UnavailableError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { TASK_OUTPUT_HEADER } from '../../protocol/amqp-headers.ts';
import { OUTPUT_HEADER_BYTES_MAX } from '../../protocol/limits.ts';
import type { ConfirmPublisher } from '../../transport/amqp/publisher.ts';
import { taskGroupQueueName } from '../broker/topology-table.ts';
import type { StreamableResult } from './result-store.ts';

const DEFAULT_EXCHANGE = '';
const RETRY = { baseMs: 50, maxMs: 5_000 };

/** Publishes results to task group queues. */
export class ResultStream {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stopped = new AbortController();
  #publisher: ConfirmPublisher | undefined;
  #onOnline: (() => void) | undefined;
  #isOnline: Promise<void>;

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
    this.#isOnline = this.#nextOnline();
    // Every result that waits for the broker listens; their number is bounded by the prefetch.
    setMaxListeners(0, this.#stopped.signal);
  }

  /** The broker is there. */
  online(publisher: ConfirmPublisher): void {
    this.#publisher = publisher;
    this.#onOnline?.();
    this.#onOnline = undefined;
  }

  /** The broker is gone. */
  offline(): void {
    if (this.#publisher !== undefined) {
      this.#publisher = undefined;
      this.#isOnline = this.#nextOnline();
    }
  }

  /** Gives up what is not confirmed yet: its result stays unstreamed in the database and its delivery unacked. */
  stop(): void {
    this.#stopped.abort(new UnavailableError('CHANNEL_CLOSED', 'the hub is stopping'));
  }

  /**
   * Resolves when the result is on its queue, or has none.
   *
   * @throws UnavailableError CHANNEL_CLOSED when stopped before.
   */
  async publish(result: StreamableResult): Promise<void> {
    const queue = taskGroupQueueName(result.ownerId, result.groupId);
    const timestampS = Math.floor(result.completedAt.getTime() / 1000);
    for (let attempt = 0; ; attempt += 1) {
      const publisher = await this.#online();
      try {
        await publisher.publish(DEFAULT_EXCHANGE, queue, result.body, {
          timestampS,
          mandatory: true,
          headers: outputHeaders(result),
        });
        return;
      } catch (error) {
        if (!(error instanceof ComputeError)) {
          throw error;
        }
        if (error.details['returned'] === true) {
          this.#logger.debug(
            { taskId: result.taskId, queue },
            'no result queue, the group is read by polling',
          );
          return;
        }
        this.#logger.debug(
          { taskId: result.taskId, attempt, err: error },
          'result not confirmed, trying again',
        );
      }
      // Immediately when the connection went away: what comes next is the wait for the next one.
      if (this.#publisher === publisher) {
        await sleep(this.#clock, backoffDelayMs(attempt, RETRY), this.#stopped.signal);
      }
    }
  }

  async #online(): Promise<ConfirmPublisher> {
    for (;;) {
      this.#stopped.signal.throwIfAborted();
      if (this.#publisher !== undefined) {
        return this.#publisher;
      }
      await raceAbort(this.#isOnline, this.#stopped.signal);
    }
  }

  async #nextOnline(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#onOnline = resolve;
    });
  }
}

function outputHeaders({ output }: StreamableResult): Readonly<Record<string, unknown>> {
  return output === null || Buffer.byteLength(output) > OUTPUT_HEADER_BYTES_MAX
    ? {}
    : { [TASK_OUTPUT_HEADER]: output };
}

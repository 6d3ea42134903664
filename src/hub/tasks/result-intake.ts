/**
 * Takes results from the broker: stored, copied to their group's queue, then acked.
 *
 *   delivery ─▶ arrived ─▶ one statement for what has arrived ─▶ stream ─confirm─▶ one UPDATE for many ─▶ ack
 *                                     │
 *                                     └─ no queue, or a duplicate that was streamed before ─────────────▶ ack
 *
 * R1 A delivery is acked only after its result is stored and is on its group's queue (or the group has none). What was
 *    not acked comes again, and is streamed again with the body that was stored.
 * R2 A result counts only for a task of the endpoint whose routing key it came with; the broker lets nobody else use that key.
 * R3 A database or broker that is away is waited for, with the deliveries unacked: nothing is dropped, and the prefetch
 *    bounds what is held.
 * R4 What can never be stored (malformed, unknown task, not the sender's) is logged with its reason and rejected; put back,
 *    it would come for ever.
 * R5 No timer: the next batch is what arrived while the last one was being stored.
 */
import { isUtf8 } from 'node:buffer';

import { backoffDelayMs } from '../../base/backoff.ts';
import { sleep } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import { ProtocolError, errorText } from '../../base/errors.ts';
import { detach } from '../../base/logger.ts';
import type { Logger } from '../../base/logger.ts';
import { canonicalUuid, unpackResult } from '../../protocol/messages.ts';
import type { AmqpConnection } from '../../transport/amqp/connection.ts';
import type { AmqpConsumer, Delivery } from '../../transport/amqp/consumer.ts';
import { RESULTS_QUEUE, endpointOfRoutingKey } from '../broker/topology-table.ts';
import { isDataError } from './data-error.ts';
import type { IncomingResult, StoreOutcome, StreamableResult } from './result-store.ts';
import { taskOutputText } from './task-output.ts';

/** Enough to keep batches full at the broker's own pace. */
const PREFETCH = 512;
const BATCH_BYTES_MAX = 16 * 1024 * 1024;
const RETRY = { baseMs: 100, maxMs: 5_000 };

/** Settings of a {@link ResultIntake}. */
export interface ResultIntakeOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly store: (batch: readonly IncomingResult[]) => Promise<StoreOutcome[]>;
  readonly stream: (result: StreamableResult) => Promise<void>;
  readonly markStreamed: (taskIds: readonly string[]) => Promise<void>;
}

/** A delivery and the consumer that alone can settle it: its tag means nothing to another one. */
interface Arrived {
  readonly delivery: Delivery;
  readonly consumer: Promise<AmqpConsumer>;
  readonly lost: { isLost: boolean };
}

interface Decoded {
  readonly arrived: Arrived;
  readonly incoming: IncomingResult;
}

/** Consumes the queue of results. */
export class ResultIntake {
  readonly #options: ResultIntakeOptions;
  readonly #logger: Logger;
  #arrived: Arrived[] = [];
  #storing: Promise<void> | undefined;
  #streamed: Decoded[] = [];
  #marking: Promise<void> | undefined;
  #openCount = 0;
  readonly #stopped = new AbortController();

  constructor(options: ResultIntakeOptions) {
    this.#options = options;
    this.#logger = options.logger;
  }

  /** Deliveries that are neither acked nor rejected. */
  get heldCount(): number {
    return this.#openCount;
  }

  /** Consumes on a connection; the consumer's end is the caller's to watch. */
  async consume(connection: AmqpConnection): Promise<AmqpConsumer> {
    const lost = { isLost: false };
    const consumer: Promise<AmqpConsumer> = connection.openConsumer({
      queue: RESULTS_QUEUE,
      prefetch: PREFETCH,
      onDelivery: (delivery) => {
        this.#arrived.push({ delivery, consumer, lost });
        this.#openCount += 1;
        this.#store();
      },
    });
    const opened = await consumer;
    detach(
      this.#logger,
      'forgetting what the broker delivers again',
      opened.ended.then(() => {
        lost.isLost = true;
        // Now, not when their turn comes: while the database is away every new connection brings them once more.
        const kept = this.#arrived.filter((arrived) => arrived.lost !== lost);
        this.#openCount -= this.#arrived.length - kept.length;
        this.#arrived = kept;
      }),
    );
    return opened;
  }

  /** Resolves when nothing is held. The caller bounds the wait, and has cancelled the consumer. */
  async drain(): Promise<void> {
    while (this.#openCount > 0 && !this.#stopped.signal.aborted) {
      await sleep(this.#options.clock, 20);
    }
  }

  /** Ends waiting for a database that is away; what is held stays unacked. Resolves when nothing is being stored. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#storing;
    await this.#marking;
  }

  #store(): void {
    if (this.#storing === undefined && this.#arrived.length > 0 && !this.#stopped.signal.aborted) {
      this.#storing = this.#storeArrived().finally(() => {
        this.#storing = undefined;
        this.#store();
      });
      detach(this.#logger, 'storing results', this.#storing);
    }
  }

  async #storeArrived(): Promise<void> {
    const batch = await this.#nextBatch();
    const outcomes = await this.#storeWithRetry(batch);
    for (const [index, decoded] of batch.entries()) {
      const outcome = outcomes[index];
      if (outcome !== undefined) {
        await this.#settle(decoded, outcome);
      }
    }
  }

  /** What has arrived, up to the bounds of a batch; no task twice, since one statement cannot update a row twice. */
  async #nextBatch(): Promise<Decoded[]> {
    const batch: Decoded[] = [];
    const taskIds = new Set<string>();
    const later: Arrived[] = [];
    let bytes = 0;
    let takenCount = 0;
    const arrivals = this.#arrived;
    this.#arrived = [];
    for (const arrived of arrivals) {
      if (bytes >= BATCH_BYTES_MAX) {
        break;
      }
      takenCount += 1;
      if (arrived.lost.isLost) {
        this.#openCount -= 1;
        continue;
      }
      const incoming = await this.#decode(arrived);
      if (incoming === undefined) {
        continue;
      }
      if (taskIds.has(incoming.taskId)) {
        later.push(arrived);
        continue;
      }
      taskIds.add(incoming.taskId);
      bytes += incoming.body.length;
      batch.push({ arrived, incoming });
    }
    this.#arrived = [...later, ...arrivals.slice(takenCount), ...this.#arrived];
    return batch;
  }

  async #decode(arrived: Arrived): Promise<IncomingResult | undefined> {
    const { body, routingKey, headers } = arrived.delivery;
    try {
      const endpointId = canonicalUuid(endpointOfRoutingKey(routingKey));
      if (endpointId === undefined) {
        throw new ProtocolError(
          'ENVELOPE_INVALID',
          'its routing key does not begin with an endpoint id',
        );
      }
      // The whole body is parsed, because the original SDK asks for a result that it cannot parse again at once, for ever.
      if (!isUtf8(body)) {
        throw new ProtocolError('ENVELOPE_INVALID', 'it is not UTF-8');
      }
      const result = unpackResult(body);
      return {
        taskId: result.task_id,
        endpointId,
        isError: result.error_details !== null,
        body,
        output: taskOutputText(headers),
      };
    } catch (error) {
      await this.#reject(arrived, errorText(error));
      return undefined;
    }
  }

  async #storeWithRetry(batch: readonly Decoded[]): Promise<(StoreOutcome | undefined)[]> {
    for (let attempt = 0; batch.length > 0; attempt += 1) {
      try {
        return await this.#options.store(batch.map(({ incoming }) => incoming));
      } catch (error) {
        if (isDataError(error)) {
          return await this.#storeOneByOne(batch, error);
        }
        this.#logger[attempt === 0 ? 'warn' : 'debug'](
          { err: error, resultCount: batch.length, attempt },
          'results cannot be stored, trying again',
        );
        try {
          await sleep(this.#options.clock, backoffDelayMs(attempt, RETRY), this.#stopped.signal);
        } catch {
          // Stopping: the deliveries stay unacked, and come again.
          return [];
        }
      }
    }
    return [];
  }

  /** One result that the database cannot hold must not keep the others from being stored. */
  async #storeOneByOne(
    batch: readonly Decoded[],
    error: unknown,
  ): Promise<(StoreOutcome | undefined)[]> {
    const [only] = batch;
    if (batch.length === 1 && only !== undefined) {
      await this.#reject(only.arrived, `the database cannot hold it: ${errorText(error)}`);
      return [undefined];
    }
    const outcomes: (StoreOutcome | undefined)[] = [];
    for (const decoded of batch) {
      // Exactly one each, none when stopping: outcomes stand in the order of the batch.
      const [outcome] = await this.#storeWithRetry([decoded]);
      outcomes.push(outcome);
    }
    return outcomes;
  }

  async #settle(decoded: Decoded, outcome: StoreOutcome): Promise<void> {
    switch (outcome.kind) {
      case 'stream': {
        detach(this.#logger, 'streaming a result', this.#stream(decoded, outcome.result));
        break;
      }
      case 'settled': {
        await this.#ack(decoded.arrived);
        break;
      }
      case 'contended': {
        this.#arrived.push(decoded.arrived);
        break;
      }
      case 'unknown-task': {
        await this.#reject(
          decoded.arrived,
          'there is no such task (any more)',
          decoded.incoming.taskId,
        );
        break;
      }
      case 'wrong-endpoint': {
        const reason =
          'the task was sent to another endpoint than the one that this result comes from';
        await this.#reject(decoded.arrived, reason, decoded.incoming.taskId);
        break;
      }
    }
  }

  async #stream(decoded: Decoded, result: StreamableResult): Promise<void> {
    try {
      await this.#options.stream(result);
    } catch (error) {
      // Stopping. Unacked, it comes again; without a delivery, the sweep finds it.
      this.#logger.debug({ taskId: result.taskId, err: error }, 'a result was not streamed');
      this.#openCount -= 1;
      return;
    }
    this.#streamed.push(decoded);
    this.#mark();
  }

  #mark(): void {
    if (this.#marking === undefined && this.#streamed.length > 0) {
      this.#marking = this.#markStreamed().finally(() => {
        this.#marking = undefined;
        this.#mark();
      });
      detach(this.#logger, 'marking results as streamed', this.#marking);
    }
  }

  async #markStreamed(): Promise<void> {
    const batch = this.#streamed;
    this.#streamed = [];
    try {
      await this.#options.markStreamed(batch.map(({ incoming }) => incoming.taskId));
    } catch (error) {
      // Acked all the same: it is stored and on its queue. Unmarked, the sweep streams it once more, which does no harm.
      this.#logger.warn(
        { err: error, resultCount: batch.length },
        'cannot mark results as streamed',
      );
    }
    for (const { arrived } of batch) {
      await this.#ack(arrived);
    }
  }

  async #ack(arrived: Arrived): Promise<void> {
    const consumer = await arrived.consumer;
    consumer.ack(arrived.delivery.deliveryTag);
    this.#openCount -= 1;
  }

  async #reject(arrived: Arrived, reason: string, taskId?: string): Promise<void> {
    const { routingKey, body } = arrived.delivery;
    this.#logger.warn(
      { reason, routingKey, bytes: body.length, ...(taskId !== undefined && { taskId }) },
      'a result was refused',
    );
    const consumer = await arrived.consumer;
    consumer.reject(arrived.delivery.deliveryTag);
    this.#openCount -= 1;
  }
}

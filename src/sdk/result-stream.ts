/**
 * Results of one task group as they come, over AMQP (protocol.md 6.1 to 6.5).
 *
 * A result is acked by whoever takes it, after it is taken: what was not, comes again on the next connection. A message that
 * is no result is dropped, because requeueing it would bring it back at once, for ever; the executor then asks the hub.
 *
 * The queue of a group gives each message to one of its consumers, so a second one takes results that are not its own. The
 * broker is therefore asked now and then how many there are, which costs it next to nothing.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { UnavailableError, errorText } from '../base/errors.ts';
import { detach } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import { TASK_OUTPUT_HEADER } from '../protocol/amqp-headers.ts';
import type { TaskOutput } from '../protocol/host-frames.ts';
import { unpackResult } from '../protocol/messages.ts';
import type { Result } from '../protocol/messages.ts';
import type { ResultConnection } from '../protocol/rest.ts';
import { dialAmqp } from '../transport/amqp/connection.ts';
import type { AmqpConnection } from '../transport/amqp/connection.ts';
import type { Delivery } from '../transport/amqp/consumer.ts';
import { AmqpSession } from '../transport/amqp/session.ts';

/** Results that may be held unacked at a time: those that came before the answer to their submission. */
const PREFETCH = 1024;
/** After how long the consumers of the queue are counted; doubles from the first to the longest. */
const COUNT_AFTER_MS = 500;
const COUNT_LONGEST_MS = 4_000;

/** A result that came. */
export interface StreamedResult {
  readonly result: Result;
  readonly output: TaskOutput | undefined;
  /** Call it once the result is taken. */
  readonly ack: () => void;
}

/** Settings of a {@link ResultStream}. */
export interface ResultStreamOptions {
  readonly hub: HubClient;
  readonly taskGroupId: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ca?: string;
  readonly onResult: (result: StreamedResult) => void;
  /** Results may have been missed, or will not come for now: ask the hub. */
  readonly onGap: (reason: string) => void;
  /** Another consumer of the queue has come, or the last other one has gone. */
  readonly onShared: (isShared: boolean) => void;
  /** The hub will not tell where results are, and asking again would not help. */
  readonly onRefused: (error: Error) => void;
}

/** Consumes the result queue of a task group, reconnecting for ever. */
export class ResultStream {
  readonly #options: ResultStreamOptions;
  readonly #session: AmqpSession;
  #address: ResultConnection | undefined;
  #connectionCount = 0;
  #connection: AmqpConnection | undefined;
  #isShared = false;
  #countTimer: Timer | undefined;

  constructor(options: ResultStreamOptions) {
    this.#options = options;
    this.#session = new AmqpSession({
      clock: options.clock,
      logger: options.logger,
      name: 'results',
      dial: async (attempt) => await this.#dial(attempt),
      setUp: async (connection) => await this.#setUp(connection),
      onState: (state) => {
        if (state.phase !== 'online') {
          this.#connection = undefined;
          this.#countTimer?.cancel();
        }
        if (state.phase === 'offline') {
          options.onGap(state.reason);
        }
      },
    });
  }

  /** Begins to connect. */
  start(): void {
    this.#session.start();
  }

  /** Sends the acks given and closes the connection. Bounded; never rejects. */
  async stop(): Promise<void> {
    await this.#session.stop();
  }

  async #dial({
    refused,
    signal,
  }: {
    refused: boolean;
    signal: AbortSignal;
  }): Promise<AmqpConnection> {
    const { hub, taskGroupId } = this.#options;
    const ca = this.#options.ca ?? hub.ca;
    if (refused || this.#address === undefined) {
      try {
        this.#address = await hub.resultConnection(signal);
      } catch (error) {
        if (!(error instanceof UnavailableError) && error instanceof Error) {
          this.#options.onRefused(error);
        }
        throw error;
      }
    }
    return await dialAmqp({
      url: this.#address.connection_url,
      connectionName: `outpost-sdk results ${taskGroupId}`,
      signal,
      ...(ca === undefined ? {} : { ca }),
    });
  }

  async #setUp(connection: AmqpConnection): Promise<{ broken: Promise<{ reason: string }> }> {
    this.#connection = connection;
    const consumer = await connection.openConsumer({
      queue: this.#queue,
      prefetch: PREFETCH,
      // Never called before `consumer` is there.
      onDelivery: (delivery) => {
        this.#receive(delivery, () => {
          consumer.ack(delivery.deliveryTag);
        });
      },
    });
    this.#connectionCount += 1;
    if (this.#connectionCount > 1) {
      this.#options.onGap('connected again');
    }
    this.#count(connection, COUNT_AFTER_MS);
    return { broken: consumer.ended };
  }

  get #queue(): string {
    return `${this.#address?.queue_prefix ?? ''}${this.#options.taskGroupId}`;
  }

  #count(connection: AmqpConnection, afterMs: number): void {
    const counting = this.#countConsumers(connection, afterMs);
    detach(this.#options.logger, 'counting consumers', counting);
  }

  /** Counts now, and again after `afterMs`, until the connection ends. */
  async #countConsumers(connection: AmqpConnection, afterMs: number): Promise<void> {
    let count: number;
    try {
      count = await connection.withChannel(
        async (channel) => (await channel.checkQueue(this.#queue)).consumerCount,
      );
    } catch (error) {
      // Some brokers do not let a reader ask; then only the slow check of the executor is left.
      this.#options.logger.debug({ err: error }, 'the consumers of a result queue are not known');
      return;
    }
    if (this.#connection !== connection) {
      return; // It ended meanwhile.
    }
    const isShared = count > 1;
    if (isShared !== this.#isShared) {
      this.#isShared = isShared;
      this.#options.onShared(isShared);
    }
    this.#countTimer?.cancel();
    this.#countTimer = this.#options.clock.after(afterMs, () => {
      this.#count(connection, Math.min(afterMs * 2, COUNT_LONGEST_MS));
    });
  }

  #receive(delivery: Delivery, ack: () => void): void {
    let result: Result;
    try {
      result = unpackResult(delivery.body);
    } catch (error) {
      this.#options.logger.warn(
        { err: error },
        'dropped a message of a result queue that is no result',
      );
      ack();
      this.#options.onGap(`a message was no result: ${errorText(error)}`);
      return;
    }
    this.#options.onResult({ result, output: readOutput(delivery), ack });
  }
}

/** What the task printed; a header that cannot be read is worth no result. */
function readOutput(delivery: Delivery): TaskOutput | undefined {
  const text = delivery.headers[TASK_OUTPUT_HEADER];
  if (typeof text !== 'string') {
    return undefined;
  }
  try {
    const output: unknown = JSON.parse(text);
    return typeof output === 'object' && output !== null ? output : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Results of one task group as they come, over AMQP (protocol.md 6.1 to 6.5).
 *
 * A result is acked by whoever takes it, after it is taken: what was not, comes again on the next connection. A message that
 * is no result is dropped, because requeueing it would bring it back at once, for ever; the executor then asks the hub.
 */
import type { Clock } from '../base/clock.ts';
import { UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import { TASK_OUTPUT_HEADER } from '../protocol/amqp-headers.ts';
import type { TaskOutput } from '../protocol/host-frames.ts';
import { unpackResult } from '../protocol/messages.ts';
import type { Result } from '../protocol/messages.ts';
import type { ResultConnection } from '../protocol/rest.ts';
import { dialAmqp } from '../transport/amqp/connection.ts';
import type { AmqpConnection } from '../transport/amqp/connection.ts';
import type { AmqpConsumer, Delivery } from '../transport/amqp/consumer.ts';
import { AmqpSession } from '../transport/amqp/session.ts';

/** Results that may be held unacked at a time: those that came before the answer to their submission. */
const PREFETCH = 1024;

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
  /** The hub will not tell where results are, and asking again would not help. */
  readonly onRefused: (error: Error) => void;
}

/** Consumes the result queue of a task group, reconnecting for ever. */
export class ResultStream {
  readonly #options: ResultStreamOptions;
  readonly #session: AmqpSession;
  #address: ResultConnection | undefined;
  #connectionCount = 0;

  constructor(options: ResultStreamOptions) {
    this.#options = options;
    this.#session = new AmqpSession({
      clock: options.clock,
      logger: options.logger,
      name: 'results',
      dial: async (attempt) => await this.#dial(attempt),
      setUp: async (connection) => await this.#setUp(connection),
      onState: (state) => {
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
    const { hub, ca, taskGroupId } = this.#options;
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
    const queue = `${this.#address?.queue_prefix ?? ''}${this.#options.taskGroupId}`;
    const holder: { consumer?: AmqpConsumer } = {};
    // Deliveries can come before the consumer is handed to us.
    const earlyTags: number[] = [];
    const ack = (tag: number): void => {
      if (holder.consumer === undefined) {
        earlyTags.push(tag);
      } else {
        holder.consumer.ack(tag);
      }
    };
    const consumer = await connection.openConsumer({
      queue,
      prefetch: PREFETCH,
      onDelivery: (delivery) => {
        this.#receive(delivery, ack);
      },
    });
    holder.consumer = consumer;
    earlyTags.forEach(ack);
    this.#connectionCount += 1;
    if (this.#connectionCount > 1) {
      this.#options.onGap('connected again');
    }
    return { broken: consumer.ended };
  }

  #receive(delivery: Delivery, ack: (tag: number) => void): void {
    const acked = (): void => {
      ack(delivery.deliveryTag);
    };
    let result: Result;
    try {
      result = unpackResult(delivery.body);
    } catch (error) {
      this.#options.logger.warn(
        { err: error },
        'dropped a message of a result queue that is no result',
      );
      acked();
      this.#options.onGap(`a message was no result: ${errorText(error)}`);
      return;
    }
    this.#options.onResult({ result, output: readOutput(delivery), ack: acked });
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

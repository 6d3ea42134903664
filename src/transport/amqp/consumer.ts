/**
 * Consuming one queue on a channel of its own.
 *
 * C1 Setting up (prefetch, consume) is one unit with a time-out: a queue without a leader never answers basic.consume.
 * C2 A delivery tag means something only on the channel that it came from. After the end of the channel acks do nothing
 *    and say so; the broker delivers what was not acked again, on another channel.
 * C3 No promise, timer or listener per delivery.
 * C4 The first delivery comes after the caller of `openConsumer` has its consumer in hand: the broker sends deliveries along
 *    with its consent, and an ack from inside `onDelivery` would otherwise find nothing to call.
 * C5 The acks of one turn of the loop travel as few frames: one that covers every delivery up to a tag below which nothing is
 *    unsettled, and one for each of the others. For the broker one such frame is as much work as one ack.
 */
import type { Channel, ConsumeMessage, Message } from 'amqplib';
import { IllegalOperationError } from 'amqplib';

import { systemClock } from '../../base/clock.ts';
import { withDeadline } from '../../base/deadline.ts';
import { UnavailableError, errorText } from '../../base/errors.ts';
import type { ChannelEnd, ChannelLife } from './channel-life.ts';
import { replyCode } from './channel-life.ts';

const SETUP_TIMEOUT_MS = 10_000;

const NO_HEADERS: Readonly<Record<string, unknown>> = Object.freeze({});

/** One message of the broker. */
export interface Delivery {
  readonly deliveryTag: number;
  readonly redelivered: boolean;
  readonly routingKey: string;
  /** May be a view of a larger buffer; copy it to keep it for long. */
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, unknown>>;
  /** Seconds since the Unix epoch. */
  readonly timestampS?: number;
}

/** Settings of a consumer. */
export interface ConsumerOptions {
  readonly queue: string;
  /** Deliveries that may be unacked at a time. */
  readonly prefetch: number;
  /** Whether the broker shall refuse another consumer of the queue. Default false. */
  readonly exclusive?: boolean;
  /** Called for each delivery, in order, never before `openConsumer` has resolved. Must not throw: that closes the channel. */
  readonly onDelivery: (delivery: Delivery) => void;
  /** Default 10 s. */
  readonly setupTimeoutMs?: number;
}

/** Ended: 'cancelled' by the server (queue deleted), 'channel-closed', 'connection-closed', 'local'. */
export interface ConsumerEnded {
  readonly kind: 'cancelled' | 'channel-closed' | 'connection-closed' | 'local';
  /** AMQP reply code, when the broker gave one. */
  readonly code?: number;
  readonly reason: string;
}

/** A running consumer. Acks return false, and do nothing, after the channel has ended. */
export interface AmqpConsumer {
  ack: (deliveryTag: number) => boolean;
  requeue: (deliveryTag: number) => boolean;
  /** Without requeueing. */
  reject: (deliveryTag: number) => boolean;
  /**
   * Has the broker deliver with another prefetch: what is held stays so, and does not count.
   *
   * @throws UnavailableError as `openConsumer`; the consumer is to be closed then.
   */
  setPrefetch: (prefetch: number) => Promise<void>;
  /** Stops deliveries and keeps the channel for acks of what is held. @throws UnavailableError TIMED_OUT. */
  cancel: () => Promise<void>;
  /** Deliveries that were neither acked nor given back. */
  readonly heldCount: number;
  /**
   * Asks the broker about the queue, on the consumer's own channel: whether that channel answers, and still consumes.
   *
   * @throws UnavailableError TIMED_OUT; CHANNEL_CLOSED (details.replyCode) when the broker refuses, which ends the consumer.
   */
  probe: () => Promise<{ readonly messageCount: number; readonly consumerCount: number }>;
  /** Never rejects. After 'cancelled' the channel still takes acks, until it is closed. */
  readonly ended: Promise<ConsumerEnded>;
  /** Sends the acks given so far, then closes the channel; the broker requeues what is unacked. Never rejects. */
  close: () => Promise<void>;
}

/**
 * Starts consuming on a fresh channel.
 *
 * @throws UnavailableError CHANNEL_CLOSED when the broker refuses (details.replyCode: 404 no such queue, 403 another
 * exclusive consumer or no permission), TIMED_OUT when it does not answer. The channel is closed then.
 */
export async function startConsumer(
  channel: Channel,
  life: ChannelLife,
  options: ConsumerOptions,
): Promise<AmqpConsumer> {
  const consumer = new ChannelConsumer(channel, life, options);
  await consumer.start();
  return consumer;
}

class ChannelConsumer implements AmqpConsumer {
  readonly ended: Promise<ConsumerEnded>;
  readonly #channel: Channel;
  readonly #life: ChannelLife;
  readonly #options: ConsumerOptions;
  #consumerTag: string | undefined;
  /** amqplib wants the message to ack; this one stands for all of them (C3). */
  readonly #acked = { fields: { deliveryTag: 0 } };
  /** Deliveries until the consumer is handed out (C4), `prefetch` at most; undefined from then on. */
  #early: Delivery[] | undefined = [];
  #settleEnded: (ended: ConsumerEnded) => void = () => undefined;
  /** Tags of deliveries that were neither acked nor given back, in the order of the broker, which is ascending. */
  readonly #held = new Set<number>();
  /** Acked in this turn; their frames leave at its end (C5). */
  #acks: number[] = [];

  constructor(channel: Channel, life: ChannelLife, options: ConsumerOptions) {
    this.#channel = channel;
    this.#life = life;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#settleEnded = resolve;
      life.ended.then(
        (end) => {
          resolve(describe(end));
        },
        () => undefined,
      );
    });
  }

  async start(): Promise<void> {
    try {
      await this.#consume(this.#options.prefetch);
    } catch (error) {
      if (error instanceof UnavailableError) {
        // Not awaited: a channel that hangs does not answer channel.close either.
        this.#life.close().catch(() => undefined);
        throw error;
      }
      await this.#life.close();
      throw this.#refused(error);
    }
    setImmediate(() => {
      this.#handOutEarly();
    });
  }

  async setPrefetch(prefetch: number): Promise<void> {
    await this.cancel();
    if (this.#life.isOpen()) {
      await this.#consume(prefetch);
    }
  }

  get heldCount(): number {
    return this.#held.size;
  }

  ack(deliveryTag: number): boolean {
    if (!this.#life.isOpen()) {
      return false; // C2
    }
    if (!this.#held.delete(deliveryTag)) {
      return true;
    }
    if (this.#acks.length === 0) {
      process.nextTick(() => {
        this.#sendAcks();
      });
    }
    this.#acks.push(deliveryTag);
    return true;
  }

  requeue(deliveryTag: number): boolean {
    return this.#giveBack(deliveryTag, true);
  }

  reject(deliveryTag: number): boolean {
    return this.#giveBack(deliveryTag, false);
  }

  async cancel(): Promise<void> {
    const consumerTag = this.#consumerTag;
    if (consumerTag === undefined || !this.#life.isOpen()) {
      return;
    }
    this.#consumerTag = undefined;
    const limitMs = this.#options.setupTimeoutMs ?? SETUP_TIMEOUT_MS;
    try {
      await withDeadline(
        systemClock,
        limitMs,
        this.#channel.cancel(consumerTag),
        () => new UnavailableError('TIMED_OUT', `the broker did not cancel within ${limitMs} ms`),
      );
    } catch (error) {
      // An end of the channel ends the deliveries too.
      if (this.#life.isOpen()) {
        throw error;
      }
    }
  }

  async probe(): Promise<{ readonly messageCount: number; readonly consumerCount: number }> {
    const { queue, setupTimeoutMs = SETUP_TIMEOUT_MS } = this.#options;
    try {
      const { messageCount, consumerCount } = await withDeadline(
        systemClock,
        setupTimeoutMs,
        this.#channel.checkQueue(queue),
        () =>
          new UnavailableError(
            'TIMED_OUT',
            `the broker did not answer within ${setupTimeoutMs} ms on the channel that consumes queue "${queue}"`,
            { details: { queue } },
          ),
      );
      return { messageCount, consumerCount };
    } catch (error) {
      throw error instanceof UnavailableError ? error : this.#refused(error);
    }
  }

  async close(): Promise<void> {
    this.#sendAcks();
    await this.#life.close();
  }

  /** RabbitMQ takes the prefetch for consumers that begin after it, each of which counts for itself (C1). */
  async #consume(prefetch: number): Promise<void> {
    const { queue, exclusive = false, setupTimeoutMs = SETUP_TIMEOUT_MS } = this.#options;
    const setUp = async (): Promise<string> => {
      await this.#channel.prefetch(prefetch);
      const reply = await this.#channel.consume(
        queue,
        (message) => {
          this.#onMessage(message);
        },
        { noAck: false, exclusive },
      );
      return reply.consumerTag;
    };
    this.#consumerTag = await withDeadline(
      systemClock,
      setupTimeoutMs,
      setUp(),
      () =>
        new UnavailableError(
          'TIMED_OUT',
          `the broker did not start a consumer of queue "${queue}" within ${setupTimeoutMs} ms; if this goes on, the queue has ` +
            'no leader and the operator of the broker has to look at it (rabbitmq-queues check_if_node_is_quorum_critical)',
          { details: { queue } },
        ),
    );
  }

  #giveBack(deliveryTag: number, isRequeued: boolean): boolean {
    const isSent = this.#send(deliveryTag, (message) => {
      this.#channel.reject(message, isRequeued);
    });
    if (isSent) {
      this.#held.delete(deliveryTag);
    }
    return isSent;
  }

  /** What the channel's end overtakes comes again, as with any ack that did not reach the broker. */
  #sendAcks(): void {
    const tags = this.#acks;
    this.#acks = [];
    const [firstHeld = Infinity] = this.#held;
    // Tags count from 1, and 0 would stand for everything.
    const upTo = tags.reduce((last, tag) => (tag < firstHeld && tag > last ? tag : last), 0);
    if (upTo > 0) {
      this.#send(upTo, (message) => {
        this.#channel.ack(message, true);
      });
    }
    for (const tag of tags) {
      if (tag > upTo) {
        this.#send(tag, (message) => {
          this.#channel.ack(message, false);
        });
      }
    }
  }

  #send(deliveryTag: number, send: (message: Message) => void): boolean {
    if (!this.#life.isOpen()) {
      return false; // C2
    }
    this.#acked.fields.deliveryTag = deliveryTag;
    try {
      send(this.#acked as unknown as Message);
      return true;
    } catch (error) {
      if (error instanceof IllegalOperationError) {
        return false; // The connection is closing under the channel.
      }
      throw error;
    }
  }

  #onMessage(message: ConsumeMessage | null): void {
    if (message === null) {
      this.#consumerTag = undefined;
      this.#settleEnded({
        kind: 'cancelled',
        reason: `the broker cancelled the consumer of queue "${this.#options.queue}": the queue was deleted or moved`,
      });
      return;
    }
    const { fields, properties } = message;
    const delivery = {
      deliveryTag: fields.deliveryTag,
      redelivered: fields.redelivered,
      routingKey: fields.routingKey,
      body: message.content,
      headers: properties.headers ?? NO_HEADERS,
    };
    const timestampS: unknown = properties.timestamp;
    this.#held.add(fields.deliveryTag);
    const stamped = typeof timestampS === 'number' ? { ...delivery, timestampS } : delivery;
    if (this.#early === undefined) {
      this.#deliver(stamped);
    } else {
      this.#early.push(stamped);
    }
  }

  /** Runs in a turn of its own, when all that waited for the consumer has gone on (C4). */
  #handOutEarly(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const delivery of early) {
      this.#deliver(delivery);
    }
  }

  #deliver(delivery: Delivery): void {
    if (!this.#life.isOpen()) {
      return; // Its tag means nothing any more (C2).
    }
    try {
      this.#options.onDelivery(delivery);
    } catch (error) {
      // A bug of the receiver. The delivery is neither taken nor lost: the broker requeues it with the channel.
      this.#settleEnded({
        kind: 'channel-closed',
        reason: `the receiver of deliveries threw: ${errorText(error)}`,
      });
      this.#life.close().catch(() => undefined);
    }
  }

  #refused(error: unknown): UnavailableError {
    const { queue } = this.#options;
    const cause = this.#life.error ?? error;
    const code = replyCode(cause);
    const advice =
      code === 404
        ? '; register the endpoint again, so that the hub declares its queue'
        : code === 403
          ? '; either another consumer holds the queue exclusively, or these credentials may not read it'
          : '';
    return new UnavailableError(
      'CHANNEL_CLOSED',
      `the broker refused to let us consume queue "${queue}": ${errorText(cause)}${advice}`,
      { cause, details: code === undefined ? { queue } : { queue, replyCode: code } },
    );
  }
}

function describe(end: ChannelEnd): ConsumerEnded {
  const { reason, code } = end.closed;
  const kind = (
    { local: 'local', channel: 'channel-closed', connection: 'connection-closed' } as const
  )[end.by];
  return code === undefined ? { kind, reason } : { kind, reason, code };
}

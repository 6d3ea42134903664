/**
 * Publishing with confirms on one channel.
 *
 * P1 A publish resolves only when the broker confirmed that very message on the channel that carried it, and did not return
 *    it as unroutable. (The agent's I4 stands on this.)
 * P2 When the channel or its connection ends, every publish without a confirm is rejected; none stays pending.
 * P3 Memory is bounded by what the callers hold: once the channel's write buffer is full, bodies wait here by reference,
 *    unencoded, until the buffer has drained.
 *
 * A confirm carries a number that amqplib matches to its message. A return carries none, so that each mandatory
 * message gets a message id of its own; the broker sends the return before the confirm.
 */
import type { ConfirmChannel, Message, Options } from 'amqplib';
import { IllegalOperationError } from 'amqplib';

import { systemClock } from '../../base/clock.ts';
import { withDeadline } from '../../base/deadline.ts';
import type { ErrorDetails } from '../../base/errors.ts';
import { InvariantError, UnavailableError, errorText } from '../../base/errors.ts';
import type { ChannelLife, ConnectionClosed } from './channel-life.ts';
import { replyCode } from './channel-life.ts';

/** Longest time that `close` waits for outstanding confirms. */
const CONFIRM_GRACE_MS = 1_000;

/** Properties of one message. */
export interface PublishOptions {
  readonly headers?: Record<string, unknown>;
  /** Seconds since the Unix epoch. */
  readonly timestampS?: number;
  readonly contentType?: string;
  readonly contentEncoding?: string;
  /** Whether a message that no queue takes is an error. Default false: the broker drops it and confirms. */
  readonly mandatory?: boolean;
  /** Whether the message survives a restart of the broker. Default true. */
  readonly persistent?: boolean;
  /** The broker drops it when nobody has taken it after this time. */
  readonly expirationMs?: number;
}

/** A channel in confirm mode. */
export interface ConfirmPublisher {
  /**
   * Resolves when the broker confirmed this very publish and did not return it.
   *
   * @throws UnavailableError PUBLISH_UNCONFIRMED: nack, returned as unroutable (details.returned = true), channel or
   * connection lost. Except for a return the broker may have taken the message all the same.
   */
  publish: (
    exchange: string,
    routingKey: string,
    body: Uint8Array,
    options?: PublishOptions,
  ) => Promise<void>;
  /** Publishes that are neither confirmed nor rejected yet. */
  readonly unconfirmedCount: number;
  /** Resolves (never rejects) when the channel has ended. */
  readonly closed: Promise<ConnectionClosed>;
  /** Takes nothing more, gives outstanding confirms a second, and closes. Never rejects. */
  close: () => Promise<void>;
}

interface Pending {
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Uint8Array;
  readonly options: PublishOptions;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** {@link ConfirmPublisher} on a channel that is in confirm mode already. */
export class ChannelPublisher implements ConfirmPublisher {
  readonly closed: Promise<ConnectionClosed>;
  readonly #channel: ConfirmChannel;
  readonly #life: ChannelLife;
  /** Replies to mandatory messages that came back, by message id, until their confirm arrives. */
  readonly #returned = new Map<string, string>();
  #messageSequence = 0;
  #unconfirmedCount = 0;
  /** Not handed to the channel yet, because its buffer is full. */
  readonly #waiting: Pending[] = [];
  #isBufferFull = false;
  #isClosing = false;
  #onAllConfirmed: (() => void) | undefined;

  constructor(channel: ConfirmChannel, life: ChannelLife) {
    this.#channel = channel;
    this.#life = life;
    channel.on('return', (message: Message) => {
      const { replyCode: code, replyText } = message.fields as unknown as {
        replyCode: number;
        replyText: string;
      };
      this.#returned.set(String(message.properties.messageId), `${String(code)} ${replyText}`);
    });
    channel.on('drain', () => {
      this.#isBufferFull = false;
      this.#sendWaiting();
    });
    channel.once('close', () => {
      // What was handed to the channel is rejected by its own callbacks (P2).
      for (const pending of this.#waiting.splice(0)) {
        this.#forget();
        pending.reject(this.#lost());
      }
    });
    this.closed = life.ended.then((end) => end.closed);
  }

  get unconfirmedCount(): number {
    return this.#unconfirmedCount;
  }

  async publish(
    exchange: string,
    routingKey: string,
    body: Uint8Array,
    options: PublishOptions = {},
  ): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      if (this.#isClosing || !this.#life.isOpen()) {
        reject(this.#unconfirmed('the publisher is closed', {}, this.#life.error));
        return;
      }
      this.#unconfirmedCount += 1;
      const pending = { exchange, routingKey, body, options, resolve, reject };
      if (this.#isBufferFull) {
        this.#waiting.push(pending);
      } else {
        this.#send(pending);
      }
    });
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    if (this.#unconfirmedCount > 0 && this.#life.isOpen()) {
      await this.#allConfirmed();
    }
    await this.#life.close();
  }

  async #allConfirmed(): Promise<void> {
    const confirmed = new Promise<void>((resolve) => {
      const inner = this.#onAllConfirmed;
      this.#onAllConfirmed = (): void => {
        inner?.();
        resolve();
      };
    });
    try {
      await withDeadline(
        systemClock,
        CONFIRM_GRACE_MS,
        confirmed,
        () => new UnavailableError('TIMED_OUT', 'confirms are outstanding'),
      );
    } catch {
      // Closing rejects them, which tells their callers.
    }
  }

  #sendWaiting(): void {
    let sentCount = 0;
    for (const pending of this.#waiting) {
      if (this.#isBufferFull || !this.#life.isOpen()) {
        break;
      }
      sentCount += 1;
      this.#send(pending);
    }
    this.#waiting.splice(0, sentCount);
  }

  #send(pending: Pending): void {
    const { options, body } = pending;
    let messageId: string | undefined;
    const properties: Options.Publish = {
      persistent: options.persistent ?? true,
      mandatory: options.mandatory === true,
    };
    if (options.mandatory === true) {
      this.#messageSequence += 1;
      messageId = String(this.#messageSequence);
      properties.messageId = messageId;
    }
    if (options.headers !== undefined) {
      properties.headers = options.headers;
    }
    if (options.timestampS !== undefined) {
      properties.timestamp = options.timestampS;
    }
    if (options.contentType !== undefined) {
      properties.contentType = options.contentType;
    }
    if (options.expirationMs !== undefined) {
      properties.expiration = options.expirationMs;
    }
    if (options.contentEncoding !== undefined) {
      properties.contentEncoding = options.contentEncoding;
    }
    const content = Buffer.isBuffer(body)
      ? body
      : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    try {
      this.#isBufferFull = !this.#channel.publish(
        pending.exchange,
        pending.routingKey,
        content,
        properties,
        (error: unknown) => {
          this.#settle(pending, messageId, error);
        },
      );
    } catch (error) {
      // amqplib encodes before it sends: nothing of this message has left, and the channel is as it was.
      this.#forget();
      pending.reject(
        error instanceof IllegalOperationError
          ? this.#lost()
          : new InvariantError(`a message cannot be encoded: ${errorText(error)}`, {
              cause: error,
            }),
      );
    }
  }

  /** `error` is null for a confirm; the error itself says nothing that is not known here. */
  #settle(pending: Pending, messageId: string | undefined, error: unknown): void {
    this.#forget();
    const reply = messageId === undefined ? undefined : this.#returned.get(messageId);
    if (messageId !== undefined && reply !== undefined) {
      this.#returned.delete(messageId);
      const { exchange, routingKey } = pending;
      pending.reject(
        this.#unconfirmed(
          `the broker returned the message (${reply}): no queue is bound to exchange "${exchange}" with routing key ` +
            `"${routingKey}"; the hub declares its queues when it starts`,
          { returned: true, exchange, routingKey },
          undefined,
        ),
      );
    } else if (error === null) {
      pending.resolve();
    } else if (this.#life.hasEnded()) {
      pending.reject(this.#lost());
    } else {
      pending.reject(
        this.#unconfirmed('the broker refused the message (nack)', { nacked: true }, error),
      );
    }
  }

  #forget(): void {
    this.#unconfirmedCount -= 1;
    if (this.#unconfirmedCount === 0) {
      this.#onAllConfirmed?.();
    }
  }

  #lost(): UnavailableError {
    const cause = this.#life.error;
    return this.#unconfirmed(
      cause === undefined
        ? 'the channel ended before the broker confirmed the message'
        : `the channel ended before the broker confirmed the message: ${cause.message}`,
      {},
      cause,
    );
  }

  #unconfirmed(message: string, details: ErrorDetails, cause: unknown): UnavailableError {
    const code = replyCode(cause);
    return new UnavailableError('PUBLISH_UNCONFIRMED', message, {
      cause,
      details: code === undefined ? details : { ...details, replyCode: code },
    });
  }
}

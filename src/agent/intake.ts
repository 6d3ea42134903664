/**
 * The connection that consumes: one consumer on the endpoint's task queue, paused while there is a reason to.
 *
 * Prefetch is fixed at slots + reserve, so a backlog stays at the broker (I1, I6). The consumer is exclusive as a courtesy; who may
 * run the endpoint is decided by the lease.
 */
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import type { AmqpConnection } from '../transport/amqp/connection.ts';
import type { AmqpConsumer, Delivery } from '../transport/amqp/consumer.ts';

/** Settings and collaborators. */
export interface IntakeOptions {
  readonly prefetch: number;
  readonly logger: Logger;
  readonly onDelivery: (delivery: Delivery, consumer: AmqpConsumer) => void;
  /** The consumer is gone: what it delivered cannot be acked any more. */
  readonly onForget: (consumer: AmqpConsumer) => void;
}

/** Something that ends a session. */
interface Broken {
  readonly reason: string;
}

/** Consumes tasks; knows when not to. */
export class Intake {
  readonly #options: IntakeOptions;
  readonly #pauses = new Set<string>();
  #connection: AmqpConnection | undefined;
  #queue = '';
  #consumer: AmqpConsumer | undefined;
  #breakSession: (broken: Broken) => void = () => undefined;
  /** Changes of the consumer happen one after the other. */
  #changing: Promise<void> = Promise.resolve();

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** Whether tasks are being consumed. */
  get consuming(): boolean {
    return this.#consumer !== undefined && this.#pauses.size === 0;
  }

  /** Why consuming is paused, for `status`. */
  get pauses(): readonly string[] {
    return [...this.#pauses];
  }

  /** Starts consuming on a new connection; `broken` tells when this has come to an end. */
  async begin(connection: AmqpConnection, queue: string): Promise<{ broken: Promise<Broken> }> {
    this.#connection = connection;
    this.#queue = queue;
    const broken = new Promise<Broken>((resolve) => {
      this.#breakSession = resolve;
    });
    if (this.#pauses.size === 0) {
      await this.#open();
    }
    return { broken };
  }

  /** The connection is gone. */
  end(): void {
    this.#connection = undefined;
    this.#dropConsumer();
  }

  /** Stops consuming for a reason; what was delivered can still be acked. */
  pause(reason: string): void {
    if (this.#pauses.has(reason)) {
      return;
    }
    this.#pauses.add(reason);
    this.#options.logger.warn({ reason }, 'consuming is paused');
    this.#change(async () => {
      await this.#consumer?.cancel();
    });
  }

  /** Takes a reason back; consuming goes on when it was the last one. */
  resume(reason: string): void {
    if (!this.#pauses.delete(reason) || this.#pauses.size > 0) {
      return;
    }
    this.#options.logger.info({ reason }, 'consuming goes on');
    this.#change(async () => {
      if (this.#connection === undefined || this.#pauses.size > 0) {
        return;
      }
      // What the cancelled consumer still holds comes again on the new one.
      const old = this.#consumer;
      this.#dropConsumer();
      await old?.close();
      await this.#open();
    });
  }

  /** Waits until pending changes are done; for the shutdown. */
  async idle(): Promise<void> {
    await this.#changing;
  }

  #change(work: () => Promise<void>): void {
    this.#changing = this.#changing.then(work).catch((error: unknown) => {
      this.#options.logger.debug({ err: error }, 'changing the consumer failed, reconnecting');
      this.#breakSession({ reason: 'the consumer could not be changed' });
    });
  }

  async #open(): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) {
      return;
    }
    // No delivery comes before `openConsumer` has resolved.
    const opened: AmqpConsumer = await connection.openConsumer({
      queue: this.#queue,
      prefetch: this.#options.prefetch,
      exclusive: true,
      onDelivery: (delivery) => {
        this.#options.onDelivery(delivery, opened);
      },
    });
    this.#consumer = opened;
    detach(
      this.#options.logger,
      'watching the consumer',
      opened.ended.then((ended) => {
        if (this.#consumer === opened) {
          this.#dropConsumer();
          this.#breakSession({ reason: ended.reason });
        }
      }),
    );
  }

  #dropConsumer(): void {
    const consumer = this.#consumer;
    this.#consumer = undefined;
    if (consumer !== undefined) {
      this.#options.onForget(consumer);
    }
  }
}

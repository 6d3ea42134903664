/**
 * The connection that consumes: one consumer on the endpoint's task queue, paused while there is a reason to.
 *
 * Prefetch is at most slots + reserve, so a backlog stays at the broker (I1, I6). What is delivered and has no place lies in memory, and
 * a prefetch counts messages, not bytes: so it is no more than PREFETCH_OF_ANY_SIZE_MAX until WIDE_AFTER_COUNT messages in a row were
 * small. From then on a backlog moves in batches that are several times as large. The consumer is exclusive as a courtesy; who may
 * run the endpoint is decided by the lease.
 *
 * N1 The consumer is changed by one thing at a time: beginning on a new connection, pausing and resuming wait for each other, and
 *    each looks at what is wanted when its turn comes.
 * N2 A consumer that lives but gets nothing is found out: every PROBE_PERIOD_MS the broker is asked on the consumer's own channel.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { PERIOD_TOLERANCE, systemClock } from '../base/clock.ts';
import { ComputeError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import type { AmqpConnection } from '../transport/amqp/connection.ts';
import type { AmqpConsumer, Delivery } from '../transport/amqp/consumer.ts';
import type { SetUpEnded } from '../transport/amqp/end-cause.ts';

/** Two frames each: an idle agent has 6 ms of processor time for this long. */
const PROBE_PERIOD_MS = 30_000;

/** Deliveries without an ack, of whatever size. Enough for any number of places, since an ack waits for the journal and not for the task. */
const PREFETCH_OF_ANY_SIZE_MAX = 64;
/** A message up to this size is small: as many as the prefetch allows fit into memory. */
const SMALL_BYTES_MAX = 64 * 1024;
const WIDE_AFTER_COUNT = 256;

/** Settings and collaborators. */
export interface IntakeOptions {
  /** Deliveries without an ack, while they are small. */
  readonly prefetch: number;
  readonly logger: Logger;
  readonly onDelivery: (delivery: Delivery, consumer: AmqpConsumer) => void;
  /** The consumer is gone: what it delivered cannot be acked any more. */
  readonly onForget: (consumer: AmqpConsumer) => void;
  /** Default: the system's. */
  readonly clock?: Clock;
}

/** Consumes tasks; knows when not to. */
export class Intake {
  readonly #options: IntakeOptions;
  readonly #clock: Clock;
  readonly #pauses = new Set<string>();
  #connection: AmqpConnection | undefined;
  #queue = '';
  #consumer: AmqpConsumer | undefined;
  /** Whether the broker was told to stop delivering to it. */
  #isCancelled = false;
  #deliveryCount = 0;
  /** Small messages since the last one that was not. */
  #smallCount = 0;
  #isWide = false;
  #isChanging = false;
  #changeCount = 0;
  #probeTimer: Timer | undefined;
  #breakSession: (broken: SetUpEnded) => void = () => undefined;
  /** Changes of the consumer, one after the other (N1). */
  #changing: Promise<void> = Promise.resolve();

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Whether tasks are being consumed. */
  get consuming(): boolean {
    return this.#consumer !== undefined && !this.#isCancelled;
  }

  /** Why consuming is paused, for `status`. */
  get pauses(): readonly string[] {
    return [...this.#pauses];
  }

  /** Starts consuming on a new connection; `broken` tells when this has come to an end. */
  async begin(connection: AmqpConnection, queue: string): Promise<{ broken: Promise<SetUpEnded> }> {
    this.#connection = connection;
    const begun = this.#changing.then(async () => {
      this.#queue = queue;
      const broken = new Promise<SetUpEnded>((resolve) => {
        this.#breakSession = resolve;
      });
      if (this.#connection === connection && this.#pauses.size === 0) {
        await this.#open();
      }
      return { broken };
    });
    // The caller has the failure; what comes next only waits for its turn.
    this.#changing = begun.then(
      () => undefined,
      () => undefined,
    );
    return await begun;
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
      if (this.consuming && this.#pauses.size > 0) {
        this.#isCancelled = true;
        await this.#consumer?.cancel();
      }
    });
  }

  /** Takes a reason back; consuming goes on when it was the last one. */
  resume(reason: string): void {
    if (!this.#pauses.delete(reason) || this.#pauses.size > 0) {
      return;
    }
    this.#options.logger.info({ reason }, 'consuming goes on');
    this.#change(async () => {
      if (this.#connection === undefined || this.#pauses.size > 0 || this.consuming) {
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
    const inTurn = async (): Promise<void> => {
      this.#isChanging = true;
      try {
        await work();
      } finally {
        this.#isChanging = false;
        this.#changeCount += 1;
      }
    };
    this.#changing = this.#changing.then(inTurn).catch((error: unknown) => {
      this.#options.logger.debug({ err: error }, 'changing the consumer failed, reconnecting');
      this.#breakSession(endOf(error));
    });
  }

  get #prefetch(): number {
    const { prefetch } = this.#options;
    return this.#isWide ? prefetch : Math.min(prefetch, PREFETCH_OF_ANY_SIZE_MAX);
  }

  /** Looks whether the prefetch still suits what is delivered. */
  #noteBytes(bytes: number): void {
    this.#smallCount = bytes > SMALL_BYTES_MAX ? 0 : this.#smallCount + 1;
    const isWide = this.#smallCount >= WIDE_AFTER_COUNT;
    if (isWide === this.#isWide) {
      return;
    }
    const before = this.#prefetch;
    this.#isWide = isWide;
    if (this.#prefetch !== before) {
      this.#change(async () => {
        if (this.consuming) {
          await this.#consumer?.setPrefetch(this.#prefetch);
        }
      });
    }
  }

  async #open(): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) {
      return;
    }
    // No delivery comes before `openConsumer` has resolved.
    const opened: AmqpConsumer = await connection.openConsumer({
      queue: this.#queue,
      prefetch: this.#prefetch,
      exclusive: true,
      onDelivery: (delivery) => {
        this.#deliveryCount += 1;
        this.#noteBytes(delivery.body.length);
        this.#options.onDelivery(delivery, opened);
      },
    });
    this.#consumer = opened;
    this.#isCancelled = false;
    this.#scheduleProbe(opened, undefined);
    detach(
      this.#options.logger,
      'watching the consumer',
      opened.ended.then((ended) => {
        if (this.#consumer === opened) {
          this.#dropConsumer();
          this.#breakSession(ended);
        }
      }),
    );
  }

  #dropConsumer(): void {
    const consumer = this.#consumer;
    this.#consumer = undefined;
    this.#probeTimer?.cancel();
    if (consumer !== undefined) {
      this.#options.onForget(consumer);
    }
  }

  #scheduleProbe(consumer: AmqpConsumer, idleSince: number | undefined): void {
    this.#probeTimer?.cancel();
    const probe = (): void => {
      detach(this.#options.logger, 'probing the consumer', this.#probe(consumer, idleSince));
    };
    const tolerance = { toleranceMs: PROBE_PERIOD_MS * PERIOD_TOLERANCE };
    this.#probeTimer = this.#clock.after(PROBE_PERIOD_MS, probe, tolerance);
  }

  /** `idleSince`: the count of deliveries when messages were last found waiting for a consumer that held none. */
  async #probe(consumer: AmqpConsumer, idleSince: number | undefined): Promise<void> {
    let found: SetUpEnded | undefined;
    let nextIdleSince: number | undefined;
    const changes = this.#changeCount;
    try {
      if (this.consuming) {
        const { messageCount, consumerCount } = await consumer.probe();
        const isIdle = messageCount > 0 && consumer.heldCount === 0;
        nextIdleSince = isIdle ? this.#deliveryCount : undefined;
        // A change takes the consumer away for a moment.
        const isChanged = this.#isChanging || changes !== this.#changeCount;
        if (consumerCount === 0 && !isChanged) {
          found = notConsuming('the broker does not know our consumer any more');
        } else if (isIdle && idleSince === this.#deliveryCount) {
          found = notConsuming('tasks wait in the queue and the broker delivers none');
        }
      }
    } catch (error) {
      found = endOf(error);
    }
    if (this.#consumer !== consumer) {
      return; // It ended meanwhile.
    }
    if (found !== undefined && this.consuming) {
      this.#options.logger.warn({ reason: found.reason }, 'alive but not consuming, reconnecting');
      this.#breakSession(found);
      return;
    }
    this.#scheduleProbe(consumer, nextIdleSince);
  }
}

function notConsuming(reason: string): SetUpEnded {
  return { kind: 'not-consuming', reason };
}

function endOf(error: unknown): SetUpEnded {
  const reason = errorText(error);
  const code = error instanceof ComputeError ? error.details['replyCode'] : undefined;
  // A request without an answer on a connection whose heartbeats go on.
  return typeof code === 'number' ? { reason, code } : { reason, kind: 'not-consuming' };
}

/**
 * Publishes results and lets go of them only when the broker has them.
 *
 * I4: a result leaves the journal only after the confirm of that very publish, on the channel that carried it, and when it was
 * not returned as unroutable. Whatever was in flight when a channel ended is published again on the next one.
 * I6: at most WINDOW_COUNT results and WINDOW_BYTES bytes are in flight; beyond that, and while the broker is away, only task
 * ids are kept here and the bodies are read back from the journal.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import type { PublishQueueInfo } from '../protocol/rest.ts';
import type { ConfirmPublisher } from '../transport/amqp/publisher.ts';
import type { Journal } from './journal/journal.ts';

const WINDOW_COUNT = 1024;
const WINDOW_BYTES = 64 * 1024 * 1024;
/** The results queue is missing or unbound: only the hub's operator can mend it, so asking often helps nobody. */
const RETURNED_RETRY_MS = 5_000;

/** A result on its way out. */
export interface OutgoingResult {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** Where results go at the moment. */
interface Route {
  readonly publisher: ConfirmPublisher;
  readonly info: PublishQueueInfo;
}

/** Publishes results with confirms, from memory when it can and from the journal otherwise. */
export class ResultOutbox {
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onConfirmed: (taskId: string) => void;
  readonly #onUnreadable: (taskId: string, reason: string) => OutgoingResult;
  #route: Route | undefined;
  #inFlightCount = 0;
  #inFlightBytes = 0;
  /** Task ids whose result waits, in order, each with the promise that its record can be read. */
  readonly #backlog = new Map<string, Promise<void>>();
  #pumping = false;
  #retryTimer: Timer | undefined;
  readonly #settled: (() => void)[] = [];

  /** `onUnreadable` makes the failure that takes the place of a result that the journal cannot give back (I2). */
  constructor(
    journal: Journal,
    clock: Clock,
    logger: Logger,
    onConfirmed: (taskId: string) => void,
    onUnreadable: (taskId: string, reason: string) => OutgoingResult,
  ) {
    this.#onUnreadable = onUnreadable;
    this.#journal = journal;
    this.#clock = clock;
    this.#logger = logger;
    this.#onConfirmed = onConfirmed;
  }

  /** Results published and not confirmed yet. */
  get inFlightCount(): number {
    return this.#inFlightCount;
  }

  /** Results that wait for a connection or for room. */
  get backlogCount(): number {
    return this.#backlog.size;
  }

  /** Tells where to publish from now on; undefined while there is no connection. */
  setRoute(route: Route | undefined): void {
    this.#route = route;
    this.#pump();
  }

  /** Publishes a result, now if possible. `durable` resolves when the journal can give it back. */
  publish(taskId: string, result: OutgoingResult, durable: Promise<void>): void {
    if (this.#route === undefined || this.#backlog.size > 0 || !this.#hasRoom()) {
      this.#backlog.set(taskId, durable);
      this.#pump();
      return;
    }
    this.#send(this.#route, taskId, result, durable);
  }

  /** Publishes a result that an earlier run of the agent left in the journal. */
  republish(taskId: string): void {
    this.#backlog.set(taskId, Promise.resolve());
    this.#pump();
  }

  /** Resolves when everything is confirmed. Never rejects: bound it. */
  async settled(): Promise<void> {
    if (this.#inFlightCount === 0 && this.#backlog.size === 0) {
      return;
    }
    await new Promise<void>((resolve) => {
      this.#settled.push(resolve);
    });
  }

  /** Stops retrying; what is not confirmed stays in the journal. */
  stop(): void {
    this.#route = undefined;
    this.#retryTimer?.cancel();
  }

  #hasRoom(): boolean {
    return this.#inFlightCount < WINDOW_COUNT && this.#inFlightBytes < WINDOW_BYTES;
  }

  #send(
    route: Route,
    taskId: string,
    { body, headers }: OutgoingResult,
    durable: Promise<void>,
  ): void {
    this.#inFlightCount += 1;
    this.#inFlightBytes += body.length;
    const { exchange, routing_key: routingKey } = route.info.queue_publish_kwargs;
    route.publisher
      .publish(exchange, routingKey, body, { headers, mandatory: true, persistent: true })
      .then(
        () => {
          this.#leave(body.length);
          this.#journal.confirmed(taskId);
          this.#onConfirmed(taskId);
          this.#afterSettling();
        },
        (error: unknown) => {
          this.#leave(body.length);
          this.#backlog.set(taskId, durable);
          this.#afterFailure(taskId, error);
        },
      );
  }

  #leave(bytes: number): void {
    this.#inFlightCount -= 1;
    this.#inFlightBytes -= bytes;
  }

  #afterFailure(taskId: string, error: unknown): void {
    if (error instanceof UnavailableError && error.details['returned'] === true) {
      this.#logger.error(
        { taskId, reason: errorText(error) },
        'the broker has no queue for results, keeping them: ask the operator of the hub to restart it',
      );
      this.#retryTimer ??= this.#clock.after(RETURNED_RETRY_MS, () => {
        this.#retryTimer = undefined;
        this.#pump();
      });
      return;
    }
    this.#logger.debug({ taskId, reason: errorText(error) }, 'result not confirmed, keeping it');
    this.#pump();
  }

  #afterSettling(): void {
    this.#pump();
    if (this.#inFlightCount === 0 && this.#backlog.size === 0) {
      for (const resolve of this.#settled.splice(0)) {
        resolve();
      }
    }
  }

  #pump(): void {
    if (!this.#pumping && this.#backlog.size > 0) {
      this.#pumping = true;
      detach(this.#logger, 'publishing results from the journal', this.#drainBacklog());
    }
  }

  async #drainBacklog(): Promise<void> {
    try {
      for (const [taskId, durable] of this.#backlog) {
        if (this.#route === undefined || !this.#hasRoom() || this.#retryTimer !== undefined) {
          return;
        }
        const result = await this.#readBack(taskId, durable);
        const route = this.#route as Route | undefined;
        if (route === undefined) {
          return;
        }
        this.#backlog.delete(taskId);
        this.#send(route, taskId, result, durable);
      }
    } finally {
      // Here and not in a later turn: a wake-up in between would be lost.
      this.#pumping = false;
    }
  }

  /** One result that cannot be read must not hold up the others, nor leave its task in silence. */
  async #readBack(taskId: string, durable: Promise<void>): Promise<OutgoingResult> {
    try {
      // A result that the disk refused is still in memory.
      await durable.catch((error: unknown) => {
        this.#logger.debug({ taskId, reason: errorText(error) }, 'result is not on disk');
      });
      return await this.#journal.readResult(taskId);
    } catch (error) {
      const reason = errorText(error);
      this.#logger.error({ taskId, reason }, 'result could not be read back, publishing a failure');
      return this.#onUnreadable(taskId, reason);
    }
  }
}

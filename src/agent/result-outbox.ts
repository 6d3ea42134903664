/**
 * Publishes results and lets go of them only when the broker has them.
 *
 * I4: a result leaves the journal only after the confirm of that very publish, on the channel that carried it, and when it was
 * not returned as unroutable. Whatever was in flight when a channel ended is published again on the next one.
 * O1 A failed publish never leads straight to the next one. A channel that ended is not used again; what the broker returned or
 *    refused waits, longer each time, or until there is a new connection.
 * O2 A result that no message can carry, or that is too large for the broker, is replaced by a failure that says so. The broker tells
 *    of such a message by closing the channel under all that is in flight, so these are published again one at a time.
 * O3 A result that is too large for a message goes to the hub first (result-uploads.ts); what is published is the reference. The others do
 *    not wait for it.
 * I6: at most WINDOW_COUNT results and WINDOW_BYTES bytes are in flight; beyond that, and while the broker is away, only task
 * ids are kept here and the bodies are read back from the journal.
 */
import { backoffDelayMs } from '../base/backoff.ts';
import type { BackoffOptions } from '../base/backoff.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { ComputeError, InvariantError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import type { PublishQueueInfo } from '../protocol/rest.ts';
import type { ConfirmPublisher } from '../transport/amqp/publisher.ts';
import type { Journal } from './journal/journal.ts';
import type { ResultUploads } from './result-uploads.ts';
import type { TaskFailure } from './task-failure.ts';

const WINDOW_COUNT = 1024;
const WINDOW_BYTES = 64 * 1024 * 1024;
/** Returned: the queue for results is missing, which only the hub can mend. Refused: the broker is in trouble. */
const RETRY: BackoffOptions = { baseMs: 500, maxMs: 60_000 };
/** AMQP: precondition failed, which is also what RabbitMQ says of a message over its max_message_size. */
const PRECONDITION_FAILED = 406;

/** A result on its way out. */
export interface OutgoingResult {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** Where results go at the moment. */
interface Route {
  readonly publisher: ConfirmPublisher;
  readonly info: PublishQueueInfo;
  /** Results over this are uploaded; absent: never. */
  readonly inlineBytesMax?: number;
}

/** Publishes results with confirms, from memory when it can and from the journal otherwise. */
export class ResultOutbox {
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onConfirmed: (taskId: string) => void;
  readonly #packFailure: (taskId: string, failure: TaskFailure) => OutgoingResult;
  #route: Route | undefined;
  #inFlightCount = 0;
  #inFlightBytes = 0;
  #answeredCount = 0;
  /** Task ids whose result waits, in order, each with the promise that its record can be read. */
  readonly #backlog = new Map<string, Promise<void>>();
  #pumping = false;
  #retryTimer: Timer | undefined;
  /** Failures in a row that say nothing against the channel (O1). */
  #retryCount = 0;
  /** In flight when the broker closed the channel over one of them (O2). */
  readonly #suspects = new Set<string>();
  /** Whether the only result in flight is a suspect. */
  #isProbing = false;
  /** What is published instead of what the journal has. */
  readonly #replacements = new Map<string, OutgoingResult>();
  readonly #uploads: ResultUploads | undefined;
  /** Tasks whose result is on its way to the hub, or waits for that. */
  readonly #uploading = new Set<string>();
  #isStopped = false;
  readonly #settled: (() => void)[] = [];

  /** `packInstead` makes the failure that takes the place of a result that cannot be delivered (I2). */
  constructor(
    journal: Journal,
    clock: Clock,
    logger: Logger,
    onConfirmed: (taskId: string) => void,
    packInstead: (taskId: string, failure: TaskFailure) => OutgoingResult,
    uploads?: ResultUploads,
  ) {
    this.#uploads = uploads;
    this.#packFailure = packInstead;
    this.#journal = journal;
    this.#clock = clock;
    this.#logger = logger;
    this.#onConfirmed = onConfirmed;
  }

  /** Results published and not confirmed yet. */
  get inFlightCount(): number {
    return this.#inFlightCount;
  }

  /** Publishes that were confirmed or failed, for the watchdog. */
  get answeredCount(): number {
    return this.#answeredCount;
  }

  /** Results that wait for a connection or for room. */
  get backlogCount(): number {
    return this.#backlog.size + this.#uploading.size;
  }

  /** Tells where to publish from now on; undefined while there is no connection. */
  setRoute(route: Route | undefined): void {
    this.#route = this.#isStopped ? undefined : route;
    if (route !== undefined) {
      // Another connection may find what the last one did not.
      this.#cancelRetry();
    }
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
    if (this.#isSettled()) {
      return;
    }
    await new Promise<void>((resolve) => {
      this.#settled.push(resolve);
    });
  }

  /** Stops retrying; what is not confirmed stays in the journal. */
  stop(): void {
    this.#isStopped = true;
    this.#route = undefined;
    this.#cancelRetry();
    this.#uploads?.stop();
  }

  #isSettled(): boolean {
    return this.#inFlightCount === 0 && this.backlogCount === 0;
  }

  #hasRoom(): boolean {
    return (
      !this.#isProbing && this.#inFlightCount < WINDOW_COUNT && this.#inFlightBytes < WINDOW_BYTES
    );
  }

  #send(
    route: Route,
    taskId: string,
    { body, headers }: OutgoingResult,
    durable: Promise<void>,
  ): void {
    const { inlineBytesMax = Infinity } = route;
    const uploads = this.#replacements.has(taskId) ? undefined : this.#uploads;
    if (uploads !== undefined && body.length > inlineBytesMax) {
      const uploaded = this.#upload(uploads, taskId, durable, inlineBytesMax);
      detach(this.#logger, 'uploading a result', uploaded);
      return;
    }
    this.#inFlightCount += 1;
    this.#inFlightBytes += body.length;
    const { exchange, routing_key: routingKey } = route.info.queue_publish_kwargs;
    this.#isProbing = this.#suspects.has(taskId);
    route.publisher
      .publish(exchange, routingKey, body, { headers, mandatory: true, persistent: true })
      .then(
        () => {
          this.#leave(body.length);
          this.#retryCount = 0;
          this.#forget(taskId);
          this.#journal.confirmed(taskId);
          this.#onConfirmed(taskId);
          this.#afterSettling();
        },
        (error: unknown) => {
          const wasProbed = this.#isProbing;
          this.#leave(body.length);
          this.#backlog.set(taskId, durable);
          this.#afterFailure(route, taskId, body.length, wasProbed, error);
        },
      );
  }

  /** Puts the result's place in the queue back with what the upload made of it (O3). */
  async #upload(
    uploads: ResultUploads,
    taskId: string,
    durable: Promise<void>,
    inlineBytesMax: number,
  ): Promise<void> {
    this.#uploading.add(taskId);
    const message = await uploads.upload(
      taskId,
      async () => await this.#readBack(taskId, durable),
      inlineBytesMax,
    );
    this.#uploading.delete(taskId);
    if (message !== undefined && !this.#isStopped) {
      this.#replacements.set(taskId, message);
      this.#backlog.set(taskId, durable);
      this.#pump();
    }
  }

  #leave(bytes: number): void {
    this.#answeredCount += 1;
    this.#inFlightCount -= 1;
    this.#inFlightBytes -= bytes;
    this.#isProbing = false;
  }

  #forget(taskId: string): void {
    this.#suspects.delete(taskId);
    this.#replacements.delete(taskId);
  }

  #afterFailure(
    route: Route,
    taskId: string,
    bytes: number,
    wasProbed: boolean,
    error: unknown,
  ): void {
    const reason = errorText(error);
    const details = error instanceof ComputeError ? error.details : {};
    if (error instanceof InvariantError) {
      this.#replace(taskId, {
        code: 'RESULT_UNDELIVERABLE',
        message: `the task ended, but no message can carry its result: ${reason}; return less, or print less`,
      });
      return;
    }
    if (details['returned'] === true || details['nacked'] === true) {
      this.#logger[this.#retryCount === 0 ? 'error' : 'debug'](
        { taskId, reason },
        'the broker takes no results, keeping them: ask the operator of the hub to look at it',
      );
      this.#retryLater();
      return;
    }
    this.#logger.debug({ taskId, reason }, 'result not confirmed, keeping it');
    // The channel has ended, whether its session knows or not (O1).
    if (this.#route?.publisher === route.publisher) {
      this.#route = undefined;
    }
    if (details['replyCode'] !== PRECONDITION_FAILED) {
      return;
    }
    if (wasProbed) {
      this.#replace(taskId, {
        code: 'RESULT_UNDELIVERABLE',
        message: `the task ended, but its result of ${bytes} bytes is refused by the broker (${reason}); return less, or a reference`,
      });
    } else {
      this.#suspects.add(taskId);
    }
  }

  /** Publishes a failure in the place of a result that cannot be delivered (O2); a failure itself is only kept. */
  #replace(taskId: string, failure: TaskFailure): void {
    if (this.#replacements.has(taskId)) {
      this.#retryLater();
      return;
    }
    this.#logger.error({ taskId, code: failure.code }, 'a result cannot be delivered');
    this.#suspects.delete(taskId);
    this.#replacements.set(taskId, this.#packFailure(taskId, failure));
    this.#pump();
  }

  #retryLater(): void {
    if (this.#retryTimer !== undefined || this.#isStopped) {
      return;
    }
    this.#retryTimer = this.#clock.after(backoffDelayMs(this.#retryCount, RETRY), () => {
      this.#retryTimer = undefined;
      this.#pump();
    });
    this.#retryCount += 1;
  }

  #cancelRetry(): void {
    this.#retryTimer?.cancel();
    this.#retryTimer = undefined;
  }

  #afterSettling(): void {
    this.#pump();
    if (this.#isSettled()) {
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
        if (!this.#maySend(taskId)) {
          return;
        }
        const result = await this.#readBack(taskId, durable);
        const route = this.#route;
        // Reading took a while.
        if (route === undefined || !this.#maySend(taskId)) {
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

  #maySend(taskId: string): boolean {
    return (
      this.#route !== undefined &&
      this.#retryTimer === undefined &&
      this.#hasRoom() &&
      // Alone, so that the broker's answer is about this one.
      (!this.#suspects.has(taskId) || this.#inFlightCount === 0)
    );
  }

  /** One result that cannot be read must not hold up the others, nor leave its task in silence. */
  async #readBack(taskId: string, durable: Promise<void>): Promise<OutgoingResult> {
    const replacement = this.#replacements.get(taskId);
    if (replacement !== undefined) {
      return replacement;
    }
    try {
      // A result that the disk refused is still in memory.
      await durable.catch((error: unknown) => {
        this.#logger.debug({ taskId, reason: errorText(error) }, 'result is not on disk');
      });
      return await this.#journal.readResult(taskId);
    } catch (error) {
      const reason = errorText(error);
      this.#logger.error({ taskId, reason }, 'result could not be read back, publishing a failure');
      return this.#packFailure(taskId, {
        code: 'RESULT_UNREADABLE',
        message: `the task ended, but its result could not be read back from the agent's journal (${reason}); submit it again`,
      });
    }
  }
}

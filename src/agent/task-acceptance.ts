/**
 * From a delivery to a task that the agent answers for.
 *
 * I1  A delivery is acked only once its task is durable and owns a place of its language or one of `reserve` places. A delivery
 *     that has waited PLACE_WAIT_MS for a place goes back to the broker, and consuming pauses until a place frees.
 * I3  A task id that was seen is never started again because of a delivery.
 *
 *   delivery ─▶ pending (unacked, no place) ─▶ accepting ─▶ acked
 */
import type { Clock, Timer } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Language } from '../protocol/serialization.ts';
import type { AmqpConsumer, Delivery } from '../transport/amqp/consumer.ts';
import type { HeldTask } from './held-task.ts';
import { readDelivery } from './incoming-task.ts';
import type { AdmissionRules, IncomingTask, TaskMeta } from './incoming-task.ts';
import type { Journal } from './journal/journal.ts';
import type { TaskStatuses } from './task-statuses.ts';

const PLACE_WAIT_MS = 10 * 60 * 1000;

/** A delivery without a place; its consumer is the only one that can ack it. */
interface PendingDelivery {
  readonly delivery: Delivery;
  readonly consumer: AmqpConsumer;
  readonly taskId: string;
  readonly meta: TaskMeta;
  readonly since: number;
}

/** Why consuming is paused. */
export type PauseReason = 'no-place' | 'journal-full';

/** How a task that has a place is entered into the journal: as one that may run at once, or as one that waits. */
export type Place = 'started' | 'received';

/** Settings and collaborators of the acceptance. */
export interface TaskAcceptanceOptions {
  readonly rules: AdmissionRules;
  readonly journal: Journal;
  readonly statuses: TaskStatuses;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The task of that id, while the agent holds it. */
  readonly held: (taskId: string) => HeldTask | undefined;
  /** The place for a task of that size; undefined when there is none. */
  readonly placeFor: (meta: TaskMeta, bodyBytes: number) => Place | undefined;
  /** Whether any task could have a place now. */
  readonly hasPlace: () => boolean;
  /** The place is taken: the task is on its way into the journal. */
  readonly onAccepting: (task: HeldTask) => void;
  /** The task is durable and its delivery acked. */
  readonly onAccepted: (task: HeldTask, place: Place, body: Buffer) => void;
  /** The journal did not take it: the task is unknown again, and its place free. */
  readonly onNotAccepted: (task: HeldTask) => void;
  readonly pauseConsuming: (reason: PauseReason) => void;
  readonly resumeConsuming: (reason: PauseReason) => void;
}

const LANGUAGES: readonly Language[] = ['javascript', 'python'];

/** Takes deliveries in. */
export class TaskAcceptance {
  readonly #options: TaskAcceptanceOptions;
  #pending: Record<Language, PendingDelivery[]> = { javascript: [], python: [] };
  readonly #pendingIds = new Map<string, AmqpConsumer>();
  /** Consumers that have ended: what they delivered will come again. */
  readonly #forgotten = new WeakSet<AmqpConsumer>();
  #timer: Timer | undefined;
  #duplicateCount = 0;
  #isJournalFull = false;
  #isQuiesced = false;
  #rules: AdmissionRules;

  constructor(options: TaskAcceptanceOptions) {
    this.#options = options;
    this.#rules = options.rules;
    options.journal.onFullChange((full) => {
      this.#onJournalFull(full);
    });
  }

  /** Deliveries that wait for a place. */
  get pendingCount(): number {
    return this.#pendingIds.size;
  }

  /** Deliveries of tasks that were known. */
  get duplicateCount(): number {
    return this.#duplicateCount;
  }

  /** Takes a delivery from the broker. Never throws. */
  offer(delivery: Delivery, consumer: AmqpConsumer): void {
    const { logger, clock } = this.#options;
    const incoming = readDelivery(delivery, this.#rules);
    if (incoming.kind === 'garbage') {
      logger.error({ reason: incoming.reason }, 'rejected a message that is no task');
      consumer.reject(delivery.deliveryTag);
      return;
    }
    const { taskId } = incoming;
    if (this.#isDuplicate(taskId, delivery, consumer)) {
      return;
    }
    const meta = metaOf(incoming);
    this.#admit({ delivery, consumer, taskId, meta, since: clock.monotonicMs() });
  }

  /** A place may have become free. */
  takePending(): void {
    if (this.#isJournalFull || this.#isQuiesced) {
      return;
    }
    for (const language of LANGUAGES) {
      const line = this.#pending[language];
      for (let next = line[0]; next !== undefined; next = line[0]) {
        const place = this.#placeFor(next);
        if (place === undefined) {
          break;
        }
        line.shift();
        this.#pendingIds.delete(next.taskId);
        this.#accept(next, place);
      }
    }
    if (this.#pendingIds.size === 0 && this.#options.hasPlace()) {
      this.#options.resumeConsuming('no-place');
    }
  }

  /** The consumer has ended: its deliveries cannot be acked any more and will come again. */
  forget(consumer: AmqpConsumer): void {
    this.#forgotten.add(consumer);
    for (const language of LANGUAGES) {
      const line = this.#pending[language];
      this.#pending[language] = line.filter((pending) => pending.consumer !== consumer);
    }
    for (const [taskId, holder] of this.#pendingIds) {
      if (holder === consumer) {
        this.#pendingIds.delete(taskId);
      }
    }
  }

  /** Accepts nothing more; gives unacked deliveries back to the broker. */
  quiesce(): void {
    this.#isQuiesced = true;
    this.givePendingBack();
  }

  /** Accepts tasks again. */
  resume(): void {
    this.#isQuiesced = false;
    this.takePending();
  }

  /** Gives the broker what waits for a place. Without a consumer it does not come back. */
  givePendingBack(): void {
    this.#requeueAll();
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Judges deliveries by other rules from now on, those that wait for a place too; what was accepted stays accepted. */
  setRules(rules: AdmissionRules): void {
    this.#rules = rules;
    const waiting = LANGUAGES.flatMap((language) => this.#pending[language].splice(0));
    this.#pendingIds.clear();
    for (const pending of waiting) {
      const incoming = readDelivery(pending.delivery, rules);
      const { meta } = incoming.kind === 'garbage' ? pending : { meta: metaOf(incoming) };
      this.#admit({ ...pending, meta });
    }
  }

  /** Accepts a delivery if there is a place for its task, and holds it otherwise. */
  #admit(pending: PendingDelivery): void {
    const place = this.#isTaking(pending.meta.language) ? this.#placeFor(pending) : undefined;
    if (place === undefined) {
      this.#hold(pending);
    } else {
      this.#accept(pending, place);
    }
  }

  #isTaking(language: Language): boolean {
    return !this.#isJournalFull && !this.#isQuiesced && this.#pending[language].length === 0;
  }

  /** A refused task needs no place: it ends as soon as it is durable. */
  #placeFor({ meta, delivery }: PendingDelivery): Place | undefined {
    return meta.refusal === undefined
      ? this.#options.placeFor(meta, delivery.body.length)
      : 'received';
  }

  #hold(pending: PendingDelivery): void {
    this.#pending[pending.meta.language].push(pending);
    this.#pendingIds.set(pending.taskId, pending.consumer);
    this.#armTimer(PLACE_WAIT_MS);
  }

  #isDuplicate(taskId: string, delivery: Delivery, consumer: AmqpConsumer): boolean {
    const { held, journal, logger } = this.#options;
    const task = held(taskId);
    if (task === undefined && journal.lookup(taskId) === 'new') {
      // Twice while neither delivery has a place: one of them is enough.
      if (this.#pendingIds.get(taskId) !== consumer) {
        return false;
      }
      this.#duplicateCount += 1;
      consumer.ack(delivery.deliveryTag);
      return true;
    }
    this.#duplicateCount += 1;
    logger.debug({ taskId, redelivered: delivery.redelivered }, 'task is known, not started again');
    // A task that is being accepted is not durable yet; its ack waits for that like the first one's.
    (task?.accepted ?? Promise.resolve()).then(
      () => consumer.ack(delivery.deliveryTag),
      () => {
        consumer.requeue(delivery.deliveryTag);
      },
    );
    return true;
  }

  /** Makes a delivery durable, then acks it. */
  #accept(pending: PendingDelivery, place: Place): void {
    const { taskId, meta, delivery, consumer } = pending;
    const { journal, statuses, onAccepting, onAccepted } = this.#options;
    const { body } = delivery;
    const isStarted = place === 'started';
    const task: HeldTask = {
      taskId,
      meta,
      phase: 'accepting',
      attempts: isStarted ? 1 : 0,
      nonce: '',
      receivedAtMs: pending.since,
      begunAtMs: 0,
      endedAtMs: 0,
      bodyBytes: body.length,
      body: undefined,
      accepted: journal.received(
        { taskId, meta: meta as unknown as Record<string, unknown>, body },
        isStarted,
      ),
    };
    onAccepting(task);
    task.accepted.then(
      () => {
        consumer.ack(delivery.deliveryTag);
        statuses.record(taskId, 'received');
        onAccepted(task, place, body);
      },
      (error: unknown) => {
        this.#onNotAccepted(task, pending, error);
      },
    );
  }

  /** The journal did not take it: the delivery waits for room, or goes back to the broker. */
  #onNotAccepted(task: HeldTask, pending: PendingDelivery, error: unknown): void {
    const { journal, logger, onNotAccepted } = this.#options;
    const { taskId, delivery, consumer } = pending;
    const reason = errorText(error);
    logger.error({ taskId, reason }, 'task could not be journalled, not accepted');
    if (journal.stats.full && !this.#isQuiesced && !this.#forgotten.has(consumer)) {
      this.#hold(pending);
      this.#onJournalFull(true);
    } else {
      consumer.requeue(delivery.deliveryTag);
    }
    onNotAccepted(task);
  }

  #onJournalFull(full: boolean): void {
    if (full === this.#isJournalFull) {
      return;
    }
    this.#isJournalFull = full;
    const { logger, pauseConsuming, resumeConsuming } = this.#options;
    if (full) {
      logger.error(
        {},
        'the journal takes no more tasks: free disk space or raise journal_bytes_max',
      );
      pauseConsuming('journal-full');
    } else {
      logger.info({}, 'the journal takes tasks again');
      resumeConsuming('journal-full');
      this.takePending();
    }
  }

  /** One timer, for the oldest pending delivery (I1); it is left to run out when that delivery finds a place. */
  #armTimer(delayMs: number): void {
    this.#timer ??= this.#options.clock.after(
      delayMs,
      () => {
        this.#timer = undefined;
        this.#onTimer();
      },
      { background: true },
    );
  }

  #onTimer(): void {
    const since = LANGUAGES.flatMap((language) => this.#pending[language][0]?.since ?? []);
    if (since.length === 0) {
      return;
    }
    const leftMs = Math.min(...since) + PLACE_WAIT_MS - this.#options.clock.monotonicMs();
    if (leftMs > 0) {
      this.#armTimer(leftMs);
      return;
    }
    this.#options.pauseConsuming('no-place');
    this.#requeueAll();
  }

  #requeueAll(): void {
    for (const language of LANGUAGES) {
      for (const { delivery, consumer } of this.#pending[language].splice(0)) {
        consumer.requeue(delivery.deliveryTag);
      }
    }
    this.#pendingIds.clear();
  }
}

function metaOf(incoming: Exclude<IncomingTask, { kind: 'garbage' }>): TaskMeta {
  return incoming.kind === 'refused'
    ? { functionId: '', language: 'python', refusal: incoming.failure }
    : incoming.meta;
}

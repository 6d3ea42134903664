/**
 * Takes deliveries in, gives tasks to the worker host, and turns whatever ends a task into exactly one result.
 *
 * I1  A delivery is acked only once its task is durable and owns a slot of its language or one of `reserve` places. A delivery
 *     that has waited PLACE_WAIT_MS for a place goes back to the broker, and consuming pauses until a place frees.
 * I2  Every acked task ends in one terminal result: the worker's own, or a named failure packed here.
 * I3  A task id that was seen is never started again because of a delivery.
 * I5  A task is given to the host only after STARTED is durable; with a free slot RECEIVED and STARTED are one record.
 * I6  Waiting tasks keep no body in memory: the journal has it.
 *
 *   delivery ─▶ pending (unacked, no place) ─▶ accepting ─▶ waiting ─▶ starting ─▶ running ─▶ done ─▶ (outbox)
 *                                                     └──▶ armed ─────────────┘
 *
 * While tasks are short, the next few are *armed*: their STARTED is made durable while others run, so that a slot that frees takes
 * the next task without waiting for the disk. That an armed task has not begun is told by the journal's table of running tasks.
 */
import { randomBytes } from 'node:crypto';

import type { Clock, Timer } from '../base/clock.ts';
import { InvariantError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import type {
  AgentToHostFrame,
  DegradedFrame,
  FailedFrame,
  ReadyFrame,
  ResultFrame,
  TaskFrame,
  TaskOutput,
} from '../protocol/host-frames.ts';
import type { Language } from '../protocol/serialization.ts';
import type { AmqpConsumer, Delivery } from '../transport/amqp/consumer.ts';
import { languageNotAvailable, readDelivery } from './incoming-task.ts';
import type { AdmissionRules, TaskMeta } from './incoming-task.ts';
import type { Journal, RecoveredTask } from './journal/journal.ts';
import { ARMED_BODY_BYTES_MAX, LanguageLane } from './language-lane.ts';
import { outputHeaders } from './output-headers.ts';
import type { ResultOutbox } from './result-outbox.ts';
import { packFailure } from './task-failure.ts';
import type { TaskFailure } from './task-failure.ts';
import type { TaskStatuses } from './task-statuses.ts';

const PLACE_WAIT_MS = 10 * 60 * 1000;

/** Longest delay that a timer can hold: a longer one would end at once. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;
type Phase = 'accepting' | 'waiting' | 'arming' | 'armed' | 'starting' | 'running' | 'done';

/** A task that the agent answers for. */
interface LiveTask {
  readonly taskId: string;
  readonly meta: TaskMeta;
  phase: Phase;
  /** How often it was started; the retry policy counts it. */
  attempts: number;
  /** Of the current attempt. */
  nonce: string;
  /** Monotonic time at which the current attempt was handed over. */
  begunAtMs: number;
  /** Settles when the journal has the task, or has refused it. */
  accepted: Promise<void>;
}

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

/** Settings and collaborators of the dispatcher. */
export interface DispatcherOptions {
  readonly rules: AdmissionRules;
  readonly reserve: number;
  readonly maxRetries: number;
  readonly taskTimeoutMs: number;
  readonly journal: Journal;
  readonly outbox: ResultOutbox;
  readonly statuses: TaskStatuses;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly isHostConnected: () => boolean;
  readonly sendToHost: (frame: AgentToHostFrame, body?: Uint8Array) => void;
  readonly pauseConsuming: (reason: PauseReason) => void;
  readonly resumeConsuming: (reason: PauseReason) => void;
}

/** Counts for `status` and the heartbeat. */
export interface DispatcherCounts {
  readonly running: number;
  readonly waiting: number;
  readonly pending: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly duplicates: number;
  readonly slots: Readonly<Record<Language, number>>;
  readonly degraded: Readonly<Partial<Record<Language, string>>>;
}

const LANGUAGES: readonly Language[] = ['javascript', 'python'];

/** Owns every task between its delivery and its result. */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #tasks = new Map<string, LiveTask>();
  readonly #lanes: Readonly<Record<Language, LanguageLane<LiveTask>>> = {
    javascript: new LanguageLane(),
    python: new LanguageLane(),
  };
  #pending: PendingDelivery[] = [];
  /** Consumers that have ended: what they delivered will come again. */
  readonly #forgotten = new WeakSet<AmqpConsumer>();
  #pendingTimer: Timer | undefined;
  #acceptingCount = 0;
  #succeeded = 0;
  #failed = 0;
  #duplicates = 0;
  #journalFull = false;
  #quiesced = false;
  readonly #idleWaiters: (() => void)[] = [];
  readonly #noncePrefix = randomBytes(6).toString('base64url');
  #nonceCounter = 0;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    options.journal.onFullChange((full) => {
      this.#onJournalFull(full);
    });
  }

  get counts(): DispatcherCounts {
    return {
      running: this.#runningCount(),
      waiting: this.#waitingCount(),
      pending: this.#pending.length,
      succeeded: this.#succeeded,
      failed: this.#failed,
      duplicates: this.#duplicates,
      slots: { javascript: this.#lanes.javascript.slotCount, python: this.#lanes.python.slotCount },
      degraded: this.#degradedReasons(),
    };
  }

  /** Tasks that the agent holds, for `agent tasks`. */
  get tasks(): readonly { taskId: string; functionId: string; language: Language; phase: Phase }[] {
    return [...this.#tasks.values()].map(({ taskId, meta, phase }) => ({
      taskId,
      functionId: meta.functionId,
      language: meta.language,
      phase,
    }));
  }

  /** Takes over what an earlier run left in the journal: publishes, queues, retries or fails it by name (I5). */
  recover(recovered: readonly RecoveredTask[]): void {
    for (const { taskId, state, attempts, meta } of recovered) {
      const task: LiveTask = {
        taskId,
        meta: meta as unknown as TaskMeta,
        phase: state === 'done' ? 'done' : 'waiting',
        attempts,
        nonce: '',
        begunAtMs: 0,
        accepted: Promise.resolve(),
      };
      this.#tasks.set(taskId, task);
      const { refusal, language } = task.meta;
      if (state === 'done') {
        this.#options.outbox.republish(taskId);
      } else if (refusal !== undefined) {
        this.#fail(task, refusal);
      } else if (this.#options.rules.places[language] === 0) {
        this.#fail(task, languageNotAvailable(language));
      } else if (state === 'received' || attempts <= this.#retriesOf(task)) {
        this.#laneOf(task).waiting.push(task);
      } else {
        this.#fail(task, {
          code: 'AGENT_RESTARTED',
          message:
            'the agent ended while this task was running, so whether it finished is not known; ' +
            'submit it again if it may run twice, or set max_retries in its resource_specification',
        });
      }
    }
    this.#pump();
  }

  /** Takes a delivery from the broker. Never throws. */
  offer(delivery: Delivery, consumer: AmqpConsumer): void {
    const incoming = readDelivery(delivery, this.#options.rules);
    if (incoming.kind === 'garbage') {
      this.#options.logger.error({ reason: incoming.reason }, 'rejected a message that is no task');
      consumer.reject(delivery.deliveryTag);
      return;
    }
    const { taskId } = incoming;
    if (this.#isDuplicate(taskId, delivery, consumer)) {
      return;
    }
    const meta: TaskMeta =
      incoming.kind === 'refused'
        ? { functionId: '', language: 'python', refusal: incoming.failure }
        : incoming.meta;
    const since = this.#options.clock.monotonicMs();
    const pending = { delivery, consumer, taskId, meta, since };
    if (this.#journalFull || this.#quiesced || !this.#mayTake(meta)) {
      this.#pending.push(pending);
      this.#armPendingTimer();
    } else {
      this.#take(pending);
    }
  }

  /** The consumer has ended: its deliveries cannot be acked any more and will come again. */
  forget(consumer: AmqpConsumer): void {
    this.#forgotten.add(consumer);
    this.#pending = this.#pending.filter((pending) => pending.consumer !== consumer);
    this.#armPendingTimer();
  }

  /** Accepts nothing more and starts nothing more; gives unacked deliveries back to the broker. */
  quiesce(): void {
    this.#quiesced = true;
    for (const { delivery, consumer } of this.#pending.splice(0)) {
      consumer.requeue(delivery.deliveryTag);
    }
    this.#armPendingTimer();
  }

  /** Resolves when no task runs any more. Never rejects: bound it. */
  async drained(): Promise<void> {
    if (this.#runningCount() === 0) {
      return;
    }
    await new Promise<void>((resolve) => {
      this.#idleWaiters.push(resolve);
    });
  }

  /** Ends every running task with a named failure, because the agent stops. */
  failRunning(failure: TaskFailure): void {
    for (const task of this.#tasks.values()) {
      if (task.phase === 'running' || task.phase === 'starting') {
        this.#leaveSlot(task);
        this.#fail(task, failure);
      }
    }
  }

  /** The broker has the result. */
  onConfirmed(taskId: string): void {
    this.#tasks.delete(taskId);
  }

  onHostReady(frame: ReadyFrame): void {
    for (const language of LANGUAGES) {
      const lane = this.#lanes[language];
      lane.slotCount = frame[language];
      if (frame[language] > 0) {
        lane.degraded = undefined;
      }
    }
    this.#pump();
  }

  onHostResult(frame: ResultFrame, body: Buffer): void {
    const task = this.#runningTask(frame);
    if (task === undefined) {
      return;
    }
    this.#laneOf(task).noteRunTime(this.#options.clock.monotonicMs() - task.begunAtMs);
    this.#leaveSlot(task);
    // The frame's bytes are a view of the socket's buffer.
    this.#finish(task, Buffer.from(body), outputHeaders(frame.output), frame.failed);
    this.#pump();
  }

  onHostFailed(frame: FailedFrame): void {
    const task = this.#runningTask(frame);
    if (task === undefined) {
      return;
    }
    this.#leaveSlot(task);
    this.#failOrRetry(
      task,
      { code: frame.code, message: frame.message },
      frame.worker_lost,
      frame.output,
    );
    this.#pump();
  }

  onHostDegraded({ language, reason }: DegradedFrame): void {
    this.#options.logger.error({ language, reason }, 'no worker of this language can be started');
    this.#lanes[language].degraded = reason;
    this.#pump();
  }

  /** The host is gone with everything that ran in it. */
  onHostLost(reason: string): void {
    this.#lanes.javascript.slotCount = 0;
    this.#lanes.python.slotCount = 0;
    for (const task of [...this.#tasks.values()]) {
      if (task.phase === 'running') {
        this.#leaveSlot(task);
        this.#failOrRetry(
          task,
          { code: 'WORKER_EXITED', message: `the worker host ended under this task: ${reason}` },
          true,
        );
      }
    }
  }

  /** No host can be started: waiting tasks are failed with what it said rather than kept in silence. */
  onHostBroken(reason: string): void {
    const failure = hostBroken(reason);
    for (const language of LANGUAGES) {
      this.#lanes[language].degraded = reason;
      for (const task of this.#lanes[language].takeAll()) {
        this.#fail(task, failure);
      }
    }
    // What is pending at the broker's side gets its place now, and its failure.
    this.#pump();
  }

  #isDuplicate(taskId: string, delivery: Delivery, consumer: AmqpConsumer): boolean {
    const live = this.#tasks.get(taskId);
    if (live === undefined && this.#options.journal.lookup(taskId) === 'new') {
      return this.#isDuplicatePending(taskId, delivery, consumer);
    }
    this.#duplicates += 1;
    this.#options.logger.debug(
      { taskId, redelivered: delivery.redelivered },
      'task is known, not started again',
    );
    // A task that is being accepted is not durable yet; its ack waits for that like the first one's.
    (live?.accepted ?? Promise.resolve()).then(
      () => consumer.ack(delivery.deliveryTag),
      () => {
        consumer.requeue(delivery.deliveryTag);
      },
    );
    return true;
  }

  /** The same task delivered twice while neither delivery has a place: one of them is enough. */
  #isDuplicatePending(taskId: string, delivery: Delivery, consumer: AmqpConsumer): boolean {
    if (
      !this.#pending.some((pending) => pending.taskId === taskId && pending.consumer === consumer)
    ) {
      return false;
    }
    this.#duplicates += 1;
    consumer.ack(delivery.deliveryTag);
    return true;
  }

  #laneOf({ meta }: LiveTask): LanguageLane<LiveTask> {
    return this.#lanes[meta.language];
  }

  #degradedReasons(): Partial<Record<Language, string>> {
    const { javascript, python } = this.#lanes;
    return {
      ...(javascript.degraded !== undefined && { javascript: javascript.degraded }),
      ...(python.degraded !== undefined && { python: python.degraded }),
    };
  }

  #waitingCount(): number {
    return this.#lanes.javascript.queuedCount + this.#lanes.python.queuedCount;
  }

  #runningCount(): number {
    return this.#lanes.javascript.runningCount + this.#lanes.python.runningCount;
  }

  #hasPlace(language: Language): boolean {
    return (
      this.#lanes[language].isOpen ||
      this.#waitingCount() + this.#acceptingCount < this.#options.reserve
    );
  }

  /** A refused task needs no place: it ends as soon as it is durable. */
  #mayTake(meta: TaskMeta): boolean {
    return meta.refusal !== undefined || this.#hasPlace(meta.language);
  }

  /** Gives a delivery a slot or a place of the reserve. */
  #take(pending: PendingDelivery): void {
    const { language, refusal } = pending.meta;
    const { body } = pending.delivery;
    if (refusal !== undefined) {
      this.#accept(pending, (task) => {
        this.#options.logger.info({ taskId: task.taskId, code: refusal.code }, 'refused a task');
        this.#fail(task, refusal);
      });
      return;
    }
    const lane = this.#lanes[language];
    if (!lane.isOpen) {
      this.#takeInLine(pending, lane);
      return;
    }
    lane.runningCount += 1;
    this.#accept(
      pending,
      (task) => {
        this.#giveToHost(task, body);
      },
      'started',
    );
  }

  #takeInLine(pending: PendingDelivery, lane: LanguageLane<LiveTask>): void {
    const { body } = pending.delivery;
    if (lane.waiting.length > 0 || body.length > ARMED_BODY_BYTES_MAX || !lane.shouldArm) {
      this.#accept(pending, (task) => {
        task.phase = 'waiting';
        lane.waiting.push(task);
        this.#pump();
      });
      return;
    }
    lane.armingCount += 1;
    this.#accept(
      pending,
      (task) => {
        lane.armingCount -= 1;
        this.#onArmed(task, body);
      },
      'armed',
    );
  }

  /** Makes a delivery durable, acks it, then goes on with `next`. */
  #accept(
    pending: PendingDelivery,
    next: (task: LiveTask) => void,
    as: 'received' | 'armed' | 'started' = 'received',
  ): void {
    const { taskId, meta, delivery, consumer } = pending;
    const started = as !== 'received';
    const { journal, statuses } = this.#options;
    const task: LiveTask = {
      taskId,
      meta,
      phase: 'accepting',
      attempts: started ? 1 : 0,
      nonce: '',
      begunAtMs: 0,
      accepted: journal.received(
        { taskId, meta: meta as unknown as Record<string, unknown>, body: delivery.body },
        started,
      ),
    };
    this.#tasks.set(taskId, task);
    if (!started) {
      this.#acceptingCount += 1;
    }
    task.accepted.then(
      () => {
        if (!started) {
          this.#acceptingCount -= 1;
        }
        consumer.ack(delivery.deliveryTag);
        statuses.record(taskId, 'received');
        next(task);
      },
      (error: unknown) => {
        this.#onNotAccepted(task, pending, as, error);
      },
    );
  }

  /** The journal did not take it: the delivery waits for room, or goes back to the broker. */
  #onNotAccepted(
    task: LiveTask,
    pending: PendingDelivery,
    as: 'received' | 'armed' | 'started',
    error: unknown,
  ): void {
    const { taskId, delivery, consumer } = pending;
    if (this.#tasks.get(taskId) === task) {
      this.#tasks.delete(taskId);
    }
    if (as === 'started') {
      this.#leaveSlot(task);
    } else if (as === 'armed') {
      this.#laneOf(task).armingCount -= 1;
    } else {
      this.#acceptingCount -= 1;
    }
    const { journal, logger } = this.#options;
    logger.error(
      { taskId, reason: errorText(error) },
      'task could not be journalled, not accepted',
    );
    if (journal.stats.full && !this.#quiesced && !this.#forgotten.has(consumer)) {
      this.#pending.push(pending);
      this.#armPendingTimer();
      this.#onJournalFull(true);
    } else {
      consumer.requeue(delivery.deliveryTag);
    }
    this.#pump();
  }

  /** Starts what waits and accepts what is pending, as far as there is room. */
  #pump(): void {
    if (this.#quiesced) {
      return;
    }
    for (const language of LANGUAGES) {
      this.#fillSlots(this.#lanes[language]);
    }
    if (this.#journalFull) {
      return;
    }
    if (this.#pending.length > 0) {
      this.#takePending();
    }
    if (this.#pending.length === 0 && LANGUAGES.some((language) => this.#hasPlace(language))) {
      this.#options.resumeConsuming('no-place');
    }
  }

  #takePending(): void {
    const before = this.#pending;
    this.#pending = [];
    const left: PendingDelivery[] = [];
    for (const pending of before) {
      // Accepted from another delivery meanwhile, or delivered twice.
      if (this.#isDuplicate(pending.taskId, pending.delivery, pending.consumer)) {
        continue;
      }
      if (this.#mayTake(pending.meta)) {
        this.#take(pending);
      } else {
        left.push(pending);
      }
    }
    this.#pending = [...left, ...this.#pending];
    if (left.length < before.length) {
      this.#armPendingTimer();
    }
  }

  /** Armed tasks go first, since they came first; what waits behind them is armed in turn. */
  #fillSlots(lane: LanguageLane<LiveTask>): void {
    while (lane.hasFreeSlot) {
      const armed = lane.nextArmed();
      if (armed !== undefined) {
        lane.runningCount += 1;
        this.#startArmed(armed.task, armed.body);
        continue;
      }
      const next = lane.nextWaiting();
      if (next === undefined) {
        break;
      }
      this.#start(next);
    }
    while (lane.waiting.length > 0 && lane.runningCount > 0 && lane.shouldArm) {
      const next = lane.waiting.shift();
      if (next !== undefined) {
        this.#arm(next);
      }
    }
  }

  #arm(task: LiveTask): void {
    task.phase = 'arming';
    task.attempts += 1;
    this.#laneOf(task).armingCount += 1;
    const armed = this.#readAndStart(task).then((body) => {
      this.#laneOf(task).armingCount -= 1;
      if (body === undefined) {
        this.#pump();
      } else {
        this.#onArmed(task, body);
      }
    });
    detach(this.#options.logger, 'arming a task', armed);
  }

  #onArmed(task: LiveTask, body: Buffer): void {
    task.phase = 'armed';
    this.#laneOf(task).arm(task, body);
    this.#pump();
  }

  #startArmed(task: LiveTask, body: Buffer | undefined): void {
    if (body !== undefined) {
      this.#giveToHost(task, body);
      return;
    }
    task.phase = 'starting';
    const read = this.#orFail(task, this.#options.journal.readTask(task.taskId));
    this.#giveWhenRead(task, read);
  }

  #start(task: LiveTask): void {
    task.phase = 'starting';
    task.attempts += 1;
    this.#laneOf(task).runningCount += 1;
    this.#giveWhenRead(task, this.#readAndStart(task));
  }

  #giveWhenRead(task: LiveTask, read: Promise<Buffer | undefined>): void {
    const given = read.then((body) => {
      if (body !== undefined && task.phase === 'starting') {
        this.#giveToHost(task, body);
      }
      this.#pump();
    });
    detach(this.#options.logger, 'starting a task', given);
  }

  /** Makes STARTED durable and reads the body back; undefined when that failed and the task was failed by name. */
  async #readAndStart(task: LiveTask): Promise<Buffer | undefined> {
    const { journal } = this.#options;
    const read = Promise.all([journal.readTask(task.taskId), journal.started(task.taskId)]);
    return await this.#orFail(
      task,
      read.then(([body]) => body),
    );
  }

  /** A body from the journal, or undefined after the task was failed by name because there is none. */
  async #orFail(task: LiveTask, read: Promise<Buffer>): Promise<Buffer | undefined> {
    const { phase } = task;
    try {
      return await read;
    } catch (error) {
      const reason = errorText(error);
      this.#options.logger.error({ taskId: task.taskId, reason }, 'task could not be read back');
      if (task.phase === phase) {
        if (phase === 'starting') {
          this.#leaveSlot(task);
        }
        this.#fail(task, {
          code: 'ENVELOPE_INVALID',
          message: `the agent could not read this task back from its journal: ${reason}`,
        });
      }
      return undefined;
    }
  }

  #giveToHost(task: LiveTask, body: Buffer): void {
    if (!this.#options.isHostConnected()) {
      this.#withoutHost(task);
      return;
    }
    this.#nonceCounter += 1;
    task.nonce = `${this.#noncePrefix}${this.#nonceCounter.toString(36)}`;
    task.phase = 'running';
    task.begunAtMs = this.#options.clock.monotonicMs();
    this.#options.journal.begun(task.taskId);
    const { resultSerializers, resourceSpecification, language } = task.meta;
    const timeoutMs = this.#timeoutOf(task);
    const frame: TaskFrame = {
      type: 'task',
      task_id: task.taskId,
      nonce: task.nonce,
      language,
      ...(timeoutMs > 0 && { timeout_ms: timeoutMs }),
      ...(resultSerializers !== undefined && { result_serializers: resultSerializers }),
      ...(resourceSpecification !== undefined && { resource_specification: resourceSpecification }),
    };
    this.#options.statuses.record(task.taskId, 'running');
    this.#options.sendToHost(frame, body);
  }

  /** The host ended while this task was on its way to it: it waits for the next host, unless there will be none. */
  #withoutHost(task: LiveTask): void {
    this.#leaveSlot(task);
    const broken = this.#laneOf(task).degraded;
    if (broken !== undefined) {
      this.#fail(task, hostBroken(broken));
      return;
    }
    task.phase = 'waiting';
    task.attempts -= 1;
    this.#laneOf(task).waiting.unshift(task);
  }

  #runningTask({ task_id: taskId, nonce }: ResultFrame | FailedFrame): LiveTask | undefined {
    const task = this.#tasks.get(taskId);
    if (task?.phase !== 'running' || task.nonce !== nonce) {
      this.#options.logger.warn(
        { taskId },
        'worker host answered a task that it does not hold, ignored',
      );
      return undefined;
    }
    return task;
  }

  #leaveSlot(task: LiveTask): void {
    this.#laneOf(task).runningCount -= 1;
    if (this.#runningCount() === 0) {
      for (const resolve of this.#idleWaiters.splice(0)) {
        resolve();
      }
    }
  }

  #failOrRetry(
    task: LiveTask,
    failure: TaskFailure,
    workerLost: boolean,
    output?: TaskOutput,
  ): void {
    if (workerLost && task.attempts <= this.#retriesOf(task) && !this.#quiesced) {
      this.#options.logger.warn(
        { taskId: task.taskId, attempts: task.attempts, code: failure.code },
        'starting a task again',
      );
      task.phase = 'waiting';
      this.#laneOf(task).waiting.unshift(task);
      this.#pump();
      return;
    }
    this.#fail(task, failure, output);
  }

  #fail(task: LiveTask, failure: TaskFailure, output?: TaskOutput): void {
    const body = packFailure(task.taskId, failure, this.#options.clock.now());
    this.#finish(task, body, outputHeaders(output), true);
  }

  #finish(
    task: LiveTask,
    body: Buffer,
    headers: Readonly<Record<string, unknown>>,
    failed: boolean,
  ): void {
    if (task.phase === 'done') {
      throw new InvariantError(`task ${task.taskId} ended twice`);
    }
    task.phase = 'done';
    if (failed) {
      this.#failed += 1;
    } else {
      this.#succeeded += 1;
    }
    this.#options.statuses.drop(task.taskId);
    const durable = this.#options.journal.done(task.taskId, { body, headers });
    detach(this.#options.logger, 'journalling a result', durable);
    this.#options.outbox.publish(task.taskId, { body, headers }, durable);
  }

  #retriesOf(task: LiveTask): number {
    const wanted = task.meta.resourceSpecification?.['max_retries'];
    return typeof wanted === 'number' && wanted >= 0 ? wanted : this.#options.maxRetries;
  }

  #timeoutOf(task: LiveTask): number {
    const walltimeS = task.meta.resourceSpecification?.['walltime'];
    const ownMs =
      typeof walltimeS === 'number' && walltimeS > 0
        ? Math.min(walltimeS * 1000, TIMEOUT_MS_MAX)
        : 0;
    const limitMs = this.#options.taskTimeoutMs;
    return ownMs > 0 && limitMs > 0 ? Math.min(ownMs, limitMs) : Math.max(ownMs, limitMs);
  }

  #onJournalFull(full: boolean): void {
    if (full === this.#journalFull) {
      return;
    }
    this.#journalFull = full;
    if (full) {
      this.#options.logger.error(
        {},
        'the journal takes no more tasks: free disk space or raise journal_bytes_max',
      );
      this.#options.pauseConsuming('journal-full');
    } else {
      this.#options.logger.info({}, 'the journal takes tasks again');
      this.#options.resumeConsuming('journal-full');
      this.#pump();
    }
  }

  /** One timer for the oldest pending delivery (I1). */
  #armPendingTimer(): void {
    this.#pendingTimer?.cancel();
    this.#pendingTimer = undefined;
    const oldest = this.#pending[0];
    if (oldest === undefined) {
      return;
    }
    const { clock } = this.#options;
    const dueMs = Math.max(0, oldest.since + PLACE_WAIT_MS - clock.monotonicMs());
    this.#pendingTimer = clock.after(
      dueMs,
      () => {
        this.#options.pauseConsuming('no-place');
        for (const { delivery, consumer } of this.#pending.splice(0)) {
          consumer.requeue(delivery.deliveryTag);
        }
      },
      { background: true },
    );
  }
}

function hostBroken(reason: string): TaskFailure {
  return { code: 'WORKER_START_FAILED', message: `the worker host does not start: ${reason}` };
}

/**
 * Gives tasks to the worker host, and turns whatever ends a task into exactly one result.
 *
 * I1  There are as many places as the worker host has, and `reserve` more (task-acceptance.ts acks nothing without one).
 * I2  Every acked task ends in one terminal result: the worker's own, or a named failure packed here.
 * I5  A task is given to the host only after STARTED is durable; with room for it RECEIVED and STARTED are one record. While tasks
 *     are short, some are given ahead of time: that they have not begun is told by the journal's table of running tasks.
 * I6  Waiting tasks keep no body in memory: the journal has it.
 *
 * The phases of a task are in held-task.ts; language-lane.ts says how many may be under way.
 */
import { randomBytes } from 'node:crypto';

import type { Clock } from '../base/clock.ts';
import { InvariantError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import type {
  AgentToHostFrame,
  DegradedFrame,
  FailedFrame,
  ReadyFrame,
  ResultFrame,
  ReturnedFrame,
  TaskFrame,
  TaskOutput,
} from '../protocol/host-frames.ts';
import type { Language } from '../protocol/serialization.ts';
import type { AmqpConsumer, Delivery } from '../transport/amqp/consumer.ts';
import type { HeldTask } from './held-task.ts';
import type { WorkCounts } from './idle-watch.ts';
import { languageNotAvailable } from './incoming-task.ts';
import type { AdmissionRules, TaskMeta } from './incoming-task.ts';
import type { Journal, RecoveredTask } from './journal/journal.ts';
import { LanguageLane } from './language-lane.ts';
import { outputHeaders } from './output-headers.ts';
import type { ResultOutbox } from './result-outbox.ts';
import { TaskAcceptance } from './task-acceptance.ts';
import type { PauseReason, Place } from './task-acceptance.ts';
import { packFailure } from './task-failure.ts';
import type { TaskFailure } from './task-failure.ts';
import type { TaskEnd, TaskObserver } from './task-observer.ts';
import type { TaskStatuses } from './task-statuses.ts';
import { taskTimeline } from './task-timeline.ts';
import type { TaskTimeline } from './task-timeline.ts';

/** Longest delay that a timer can hold: a longer one would end at once. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;
/** A larger body of a task that is ready is left to the journal, and read back when its turn comes. */
const READY_BODY_BYTES_MAX = 64 * 1024;
/** Places of the reserve, per place of the host, that long tasks may take: more would only wait here rather than at the broker. */
const LONG_TASKS_PER_PLACE = 2;

const LANGUAGES: readonly Language[] = ['javascript', 'python'];

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
  readonly observer?: TaskObserver;
}

/** What of the settings can change while the agent runs. */
export type DispatcherSettings = Pick<DispatcherOptions, 'rules' | 'maxRetries' | 'taskTimeoutMs'>;

/** Whether tasks are to go on here later, or never again in this process. */
export type QuiesceKind = 'drain' | 'stop';

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

/** Owns every task between its delivery and its result. */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #acceptance: TaskAcceptance;
  readonly #tasks = new Map<string, HeldTask>();
  readonly #lanes: Readonly<Record<Language, LanguageLane>> = {
    javascript: new LanguageLane(),
    python: new LanguageLane(),
  };
  #succeeded = 0;
  #failed = 0;
  #receivedCount = 0;
  #deliveredCount = 0;
  #quiesced: QuiesceKind | undefined;
  /** Whether the worker host was asked to give back what has not begun, and has not answered. */
  #isRecalling = false;
  readonly #waiters: { readonly isOver: () => boolean; readonly resolve: () => void }[] = [];
  #settings: DispatcherSettings;
  readonly #noncePrefix = randomBytes(6).toString('base64url');
  #nonceCounter = 0;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#settings = options;
    this.#acceptance = new TaskAcceptance({
      ...options,
      held: (taskId) => this.#tasks.get(taskId),
      placeFor: (meta, bodyBytes) => this.#placeFor(meta, bodyBytes),
      hasPlace: () => LANGUAGES.some((language) => this.#hasPlace(this.#lanes[language])),
      onAccepting: (task) => {
        this.#onAccepting(task);
      },
      onAccepted: (task, place, body) => {
        this.#onAccepted(task, place, body);
      },
      onNotAccepted: (task) => {
        this.#onNotAccepted(task);
      },
    });
  }

  get counts(): DispatcherCounts {
    const { javascript, python } = this.#lanes;
    return {
      running: javascript.runningCount + python.runningCount,
      waiting: javascript.queuedCount + python.queuedCount,
      pending: this.#acceptance.pendingCount,
      succeeded: this.#succeeded,
      failed: this.#failed,
      duplicates: this.#acceptance.duplicateCount,
      slots: { javascript: javascript.placeCount, python: python.placeCount },
      degraded: {
        ...(javascript.degraded !== undefined && { javascript: javascript.degraded }),
        ...(python.degraded !== undefined && { python: python.degraded }),
      },
    };
  }

  /** How much there was to do and is, for who looks whether the agent is idle. */
  work(isTaking: boolean): WorkCounts {
    return {
      receivedCount: this.#receivedCount,
      deliveredCount: this.#deliveredCount,
      heldCount: this.#tasks.size + this.#acceptance.pendingCount,
      isTaking,
    };
  }

  /** Tasks that the agent holds, for `agent tasks`: at most `countMax`, and of more than those first what has no result yet. */
  tasks(countMax = Infinity): TaskTimeline[] {
    const held = [...this.#tasks.values()];
    if (held.length > countMax) {
      held.sort((a, b) => Number(a.phase === 'done') - Number(b.phase === 'done'));
    }
    return held.slice(0, countMax).map((task) => taskTimeline(task, this.#options.clock));
  }

  /** How many tasks the agent holds. */
  get heldCount(): number {
    return this.#tasks.size;
  }

  /** One task, while the agent holds it. */
  task(taskId: string): TaskTimeline | undefined {
    const task = this.#tasks.get(taskId);
    return task === undefined ? undefined : taskTimeline(task, this.#options.clock);
  }

  /** Takes over what an earlier run left in the journal: publishes, queues, retries or fails it by name (I5). */
  recover(recovered: readonly RecoveredTask[]): void {
    this.#receivedCount += recovered.length;
    for (const one of recovered) {
      this.#recover(one);
    }
    this.#pump();
  }

  /** Takes a delivery from the broker. Never throws. */
  offer(delivery: Delivery, consumer: AmqpConsumer): void {
    this.#acceptance.offer(delivery, consumer);
  }

  /** The consumer has ended: its deliveries cannot be acked any more and will come again. */
  forget(consumer: AmqpConsumer): void {
    this.#acceptance.forget(consumer);
  }

  /** Accepts nothing more and starts nothing more; gives unacked deliveries back to the broker. */
  quiesce(kind: QuiesceKind): void {
    const isFirst = this.#quiesced === undefined;
    this.#quiesced = this.#quiesced === 'stop' ? 'stop' : kind;
    this.#acceptance.quiesce();
    if (isFirst && LANGUAGES.some((language) => this.#lanes[language].sentCount > 0)) {
      this.#isRecalling = true;
      this.#options.sendToHost({ type: 'recall' });
    }
  }

  /** Accepts and starts tasks again, unless the agent stops. */
  resume(): void {
    if (this.#quiesced === 'drain') {
      this.#quiesced = undefined;
      this.#isRecalling = false;
      this.#acceptance.resume();
      this.#pump();
    }
  }

  /** Gives the broker what was delivered and is not acked; call it when nothing is consumed any more. */
  givePendingBack(): void {
    this.#acceptance.givePendingBack();
  }

  /** Takes settings over; tasks that were accepted stay so, and those that run keep their limits. */
  applySettings(settings: DispatcherSettings): void {
    this.#settings = settings;
    this.#acceptance.setRules(settings.rules);
  }

  /** Resolves when, after `quiesce`, it is told of every task whether it has begun. Never rejects: bound it. */
  async settled(): Promise<void> {
    await this.#until(
      () =>
        !this.#isRecalling &&
        LANGUAGES.every((language) => this.#lanes[language].settlingCount === 0),
    );
  }

  /** Resolves when the worker host has no task any more. Never rejects: bound it. */
  async drained(): Promise<void> {
    await this.#until(() => LANGUAGES.every((language) => this.#lanes[language].sentCount === 0));
  }

  /** Tasks that were acked and of which no attempt has begun: another run of the endpoint may have them instead. */
  get unstarted(): readonly string[] {
    return [...this.#tasks.values()]
      .filter(
        ({ phase, attempts }) =>
          (phase === 'waiting' && attempts === 0) || (phase === 'ready' && attempts === 1),
      )
      .map(({ taskId }) => taskId);
  }

  /** The hub has taken these tasks back. */
  forgetTasks(taskIds: readonly string[]): void {
    for (const taskId of taskIds) {
      const task = this.#tasks.get(taskId);
      if (task !== undefined) {
        this.#laneOf(task).remove(task);
        task.phase = 'done';
        this.#tasks.delete(taskId);
        this.#options.statuses.drop(taskId);
      }
    }
  }

  /** Ends every running task with a named failure, because the agent stops. */
  failRunning(failure: TaskFailure): void {
    for (const task of [...this.#tasks.values()]) {
      if (task.phase === 'running') {
        this.#fail(task, failure);
      }
    }
  }

  /** The broker has the result. */
  onConfirmed(taskId: string): void {
    this.#deliveredCount += 1;
    const task = this.#tasks.get(taskId);
    this.#tasks.delete(taskId);
    if (task !== undefined) {
      this.#options.observer?.onConfirmed?.(task);
    }
  }

  onHostReady(frame: ReadyFrame): void {
    for (const language of LANGUAGES) {
      const lane = this.#lanes[language];
      lane.placeCount = frame[language];
      if (frame[language] > 0) {
        lane.degraded = undefined;
      }
    }
    this.#pump();
  }

  onHostResult(frame: ResultFrame, body: Buffer): void {
    const task = this.#sentTask(frame.task_id, frame.nonce);
    if (task === undefined) {
      return;
    }
    const isTimed = task.phase === 'running';
    this.#laneOf(task).noteResult(
      isTimed ? this.#options.clock.monotonicMs() - task.begunAtMs : undefined,
    );
    // The frame's bytes are a view of the socket's buffer.
    this.#finish(task, Buffer.from(body), frame.failed, frame);
    this.#pump();
  }

  onHostFailed(frame: FailedFrame): void {
    const task = this.#sentTask(frame.task_id, frame.nonce);
    if (task === undefined) {
      return;
    }
    if (frame.code === 'AGENT_STOPPED' && !this.#options.journal.hasBegun(task.taskId)) {
      // The host ends by itself; the next one runs it.
      this.#takeBack(task);
      this.#tellWaiters();
      return;
    }
    const failure = { code: frame.code, message: frame.message };
    this.#failOrRetry(task, failure, frame.worker_lost, frame.output);
    this.#pump();
  }

  /** The host gives back what has not begun; the frame names tasks in the order in which they were sent. */
  onHostReturned({ nonces }: ReturnedFrame): void {
    this.#isRecalling = false;
    const returned = new Set(nonces);
    const tasks = [...this.#tasks.values()].filter(
      ({ phase, nonce }) => (phase === 'ahead' || phase === 'running') && returned.has(nonce),
    );
    for (const task of tasks.reverse()) {
      this.#takeBack(task);
    }
    if (this.#quiesced !== undefined) {
      // Nothing is sent any more, so what is not given back has begun.
      for (const task of this.#tasks.values()) {
        if (task.phase === 'ahead') {
          this.#noteRunning(task);
        }
      }
    }
    this.#pump();
  }

  onHostDegraded({ language, reason }: DegradedFrame): void {
    this.#options.logger.error({ language, reason }, 'no worker of this language can be started');
    this.#lanes[language].degraded = reason;
    this.#pump();
  }

  /** The host is gone with everything that ran in it; what had not begun runs in the next one. */
  onHostLost(reason: string): void {
    const { journal } = this.#options;
    this.#isRecalling = false;
    this.#lanes.javascript.placeCount = 0;
    this.#lanes.python.placeCount = 0;
    const failure: TaskFailure = {
      code: 'WORKER_EXITED',
      message: `the worker host ended under this task: ${reason}`,
    };
    const sent = [...this.#tasks.values()].filter(
      ({ phase }) => phase === 'ahead' || phase === 'running',
    );
    for (const task of sent.reverse()) {
      if (journal.hasBegun(task.taskId)) {
        this.#failOrRetry(task, failure, true);
      } else {
        this.#takeBack(task);
      }
    }
    this.#tellWaiters();
  }

  /** No host can be started: tasks in line are failed with what it said rather than kept in silence. */
  onHostBroken(reason: string): void {
    const failure = hostBroken(reason);
    for (const language of LANGUAGES) {
      this.#lanes[language].degraded = reason;
    }
    for (const task of [...this.#tasks.values()]) {
      if (task.phase === 'waiting' || task.phase === 'ready') {
        this.#fail(task, failure);
      }
    }
    // What is pending at the broker's side gets its place now, and its failure.
    this.#pump();
  }

  #recover({ taskId, state, attempts, meta: stored }: RecoveredTask): void {
    const meta = stored as unknown as TaskMeta;
    const task: HeldTask = {
      taskId,
      meta,
      phase: 'done',
      attempts,
      nonce: '',
      receivedAtMs: 0,
      begunAtMs: 0,
      endedAtMs: 0,
      bodyBytes: 0,
      body: undefined,
      accepted: Promise.resolve(),
    };
    this.#tasks.set(taskId, task);
    if (state === 'done') {
      this.#options.outbox.republish(taskId);
      return;
    }
    this.#laneOf(task).add(task, 'waiting');
    if (meta.refusal !== undefined) {
      this.#fail(task, meta.refusal);
    } else if (this.#settings.rules.places[meta.language] === 0) {
      this.#fail(task, languageNotAvailable(meta.language, this.#options.rules));
    } else if (state === 'started' && attempts > this.#retriesOf(task)) {
      this.#fail(task, {
        code: 'AGENT_RESTARTED',
        message:
          'the agent ended while this task was running, so whether it finished is not known; ' +
          'submit it again if it may run twice, or set max_retries in its resource_specification',
      });
    }
  }

  #laneOf({ meta }: HeldTask): LanguageLane {
    return this.#lanes[meta.language];
  }

  /** A place of the host, or one of the reserve (I1). */
  #hasPlace(lane: LanguageLane): boolean {
    const { javascript, python } = this.#lanes;
    const beyond = (one: LanguageLane): number => Math.max(0, one.heldCount - one.usablePlaceCount);
    const excess = beyond(lane);
    return (
      lane.heldCount < lane.usablePlaceCount ||
      (beyond(javascript) + beyond(python) < this.#options.reserve &&
        (lane.isShort || excess < LONG_TASKS_PER_PLACE * lane.usablePlaceCount))
    );
  }

  #placeFor(meta: TaskMeta, bodyBytes: number): Place | undefined {
    const lane = this.#lanes[meta.language];
    if (!this.#hasPlace(lane)) {
      return undefined;
    }
    return !lane.hasWaiting && lane.mayStart(bodyBytes) ? 'started' : 'received';
  }

  #onAccepting(task: HeldTask): void {
    this.#receivedCount += 1;
    this.#tasks.set(task.taskId, task);
    this.#laneOf(task).add(task, task.attempts > 0 ? 'starting' : 'accepting');
  }

  #onAccepted(task: HeldTask, place: Place, body: Buffer): void {
    this.#options.observer?.onReceived?.(task);
    const { refusal } = task.meta;
    if (refusal !== undefined) {
      this.#options.logger.info({ taskId: task.taskId, code: refusal.code }, 'refused a task');
      this.#fail(task, refusal);
    } else if (place === 'started') {
      this.#onStarted(task, body);
    } else {
      this.#laneOf(task).move(task, 'waiting');
      this.#pump();
    }
  }

  #onNotAccepted(task: HeldTask): void {
    this.#laneOf(task).remove(task);
    task.phase = 'done';
    if (this.#tasks.get(task.taskId) === task) {
      this.#tasks.delete(task.taskId);
    }
    this.#pump();
  }

  /** Sends and starts what is in line, and takes in what is pending, as far as there is room. */
  #pump(): void {
    this.#tellWaiters();
    if (this.#quiesced !== undefined) {
      return;
    }
    for (const language of LANGUAGES) {
      const lane = this.#lanes[language];
      for (let next = lane.nextToRun; next !== undefined; next = lane.nextToRun) {
        this.#noteRunning(next);
      }
      for (let next = this.#sendable(lane); next !== undefined; next = this.#sendable(lane)) {
        this.#sendReady(next);
      }
      for (let next = lane.nextToStart; next !== undefined; next = lane.nextToStart) {
        this.#start(next);
      }
    }
    this.#acceptance.takePending();
  }

  #sendable(lane: LanguageLane): HeldTask | undefined {
    return lane.degraded !== undefined || this.#options.isHostConnected()
      ? lane.nextToSend
      : undefined;
  }

  async #until(isOver: () => boolean): Promise<void> {
    if (!isOver()) {
      await new Promise<void>((resolve) => {
        this.#waiters.push({ isOver, resolve });
      });
    }
  }

  #tellWaiters(): void {
    for (const waiter of this.#waiters.splice(0)) {
      if (waiter.isOver()) {
        waiter.resolve();
      } else {
        this.#waiters.push(waiter);
      }
    }
  }

  /** Makes STARTED durable and has the body read back, then hands over. */
  #start(task: HeldTask): void {
    const { journal } = this.#options;
    this.#laneOf(task).move(task, 'starting');
    task.attempts += 1;
    const read = Promise.all([journal.readTask(task.taskId), journal.started(task.taskId)]);
    const started = read.then(
      ([body]) => {
        this.#onStarted(task, body);
      },
      (error: unknown) => {
        this.#onUnreadable(task, error);
      },
    );
    detach(this.#options.logger, 'starting a task', started);
  }

  #onStarted(task: HeldTask, body: Buffer): void {
    if (task.phase !== 'starting') {
      return;
    }
    const lane = this.#laneOf(task);
    lane.move(task, 'ready');
    if (lane.nextToSend === task && this.#quiesced === undefined && this.#sendable(lane) === task) {
      this.#give(task, body);
      return;
    }
    task.body = body.length <= READY_BODY_BYTES_MAX ? body : undefined;
    this.#pump();
  }

  #sendReady(task: HeldTask): void {
    const { body } = task;
    if (body !== undefined) {
      this.#give(task, body);
      return;
    }
    this.#laneOf(task).move(task, 'starting');
    const read = this.#options.journal.readTask(task.taskId).then(
      (again) => {
        this.#onStarted(task, again);
      },
      (error: unknown) => {
        this.#onUnreadable(task, error);
      },
    );
    detach(this.#options.logger, 'reading a task back', read);
  }

  #onUnreadable(task: HeldTask, error: unknown): void {
    const reason = errorText(error);
    this.#options.logger.error({ taskId: task.taskId, reason }, 'task could not be read back');
    if (task.phase === 'starting') {
      this.#fail(task, {
        code: 'ENVELOPE_INVALID',
        message: `the agent could not read this task back from its journal: ${reason}`,
      });
    }
    this.#pump();
  }

  /** Hands a task that is ready to the worker host. */
  #give(task: HeldTask, body: Buffer): void {
    const lane = this.#laneOf(task);
    task.body = undefined;
    if (!this.#options.isHostConnected()) {
      // Only a language without workers gets here.
      this.#fail(task, hostBroken(lane.degraded ?? 'it is not running'));
      return;
    }
    this.#nonceCounter += 1;
    task.nonce = `${this.#noncePrefix}${this.#nonceCounter.toString(36)}`;
    task.begunAtMs = 0;
    const cell = this.#options.journal.cell(task.taskId);
    lane.mayRunAhead = cell !== undefined;
    lane.move(task, 'ahead');
    const { resultSerializers, resourceSpecification, environment, language } = task.meta;
    const timeoutMs = this.#timeoutOf(task);
    const frame: TaskFrame = {
      type: 'task',
      task_id: task.taskId,
      nonce: task.nonce,
      language,
      ...(cell !== undefined && { cell }),
      ...(timeoutMs > 0 && { timeout_ms: timeoutMs }),
      ...(resultSerializers !== undefined && { result_serializers: resultSerializers }),
      ...(resourceSpecification !== undefined && { resource_specification: resourceSpecification }),
      ...(environment !== undefined && { environment }),
    };
    this.#options.sendToHost(frame, body);
    if (lane.nextToRun === task) {
      this.#noteRunning(task);
    }
  }

  #noteRunning(task: HeldTask): void {
    this.#laneOf(task).move(task, 'running');
    task.begunAtMs = this.#options.clock.monotonicMs();
    this.#options.statuses.record(task.taskId, 'running');
    this.#options.observer?.onBegun?.(task);
  }

  /** The host has not begun it and never will: it is the next to be sent. The attempt still counts as the same one. */
  #takeBack(task: HeldTask): void {
    task.nonce = '';
    this.#laneOf(task).move(task, 'ready', true);
  }

  #sentTask(taskId: string, nonce: string): HeldTask | undefined {
    const task = this.#tasks.get(taskId);
    const isSent = task?.phase === 'running' || task?.phase === 'ahead';
    if (!isSent || task.nonce !== nonce) {
      this.#options.logger.warn(
        { taskId },
        'worker host answered a task that it does not hold, ignored',
      );
      return undefined;
    }
    return task;
  }

  #failOrRetry(
    task: HeldTask,
    failure: TaskFailure,
    workerLost: boolean,
    output?: TaskOutput,
  ): void {
    if (workerLost && task.attempts <= this.#retriesOf(task) && this.#quiesced !== 'stop') {
      const { taskId, attempts } = task;
      this.#options.logger.warn({ taskId, attempts, code: failure.code }, 'starting a task again');
      this.#options.observer?.onEnded?.({ task, failed: true, failure, output, isRetried: true });
      this.#laneOf(task).move(task, 'waiting', true);
      this.#pump();
      return;
    }
    this.#fail(task, failure, output);
  }

  #fail(task: HeldTask, failure: TaskFailure, output?: TaskOutput): void {
    const body = packFailure(task.taskId, failure, this.#options.clock.now());
    this.#finish(task, body, true, { failure, output });
  }

  #finish(
    task: HeldTask,
    body: Buffer,
    failed: boolean,
    { failure, output }: Pick<TaskEnd, 'failure' | 'output'>,
  ): void {
    if (task.phase === 'done') {
      throw new InvariantError(`task ${task.taskId} ended twice`);
    }
    this.#laneOf(task).remove(task);
    task.endedAtMs = this.#options.clock.monotonicMs();
    if (task.phase === 'ahead') {
      // It was over before it could be told that it had begun.
      task.begunAtMs = task.endedAtMs;
    }
    task.phase = 'done';
    task.body = undefined;
    if (failed) {
      this.#failed += 1;
    } else {
      this.#succeeded += 1;
    }
    this.#options.statuses.drop(task.taskId);
    this.#options.observer?.onEnded?.({ task, failed, failure, output, isRetried: false });
    const headers = outputHeaders(output);
    const durable = this.#options.journal.done(task.taskId, { body, headers });
    detach(this.#options.logger, 'journalling a result', durable);
    this.#options.outbox.publish(task.taskId, { body, headers }, durable);
    this.#tellWaiters();
  }

  #retriesOf(task: HeldTask): number {
    const wanted = task.meta.resourceSpecification?.['max_retries'];
    return typeof wanted === 'number' && wanted >= 0 ? wanted : this.#settings.maxRetries;
  }

  #timeoutOf(task: HeldTask): number {
    const walltimeS = task.meta.resourceSpecification?.['walltime'];
    const ownMs =
      typeof walltimeS === 'number' && walltimeS > 0
        ? Math.min(walltimeS * 1000, TIMEOUT_MS_MAX)
        : 0;
    const limitMs = this.#settings.taskTimeoutMs;
    return ownMs > 0 && limitMs > 0 ? Math.min(ownMs, limitMs) : Math.max(ownMs, limitMs);
  }
}

function hostBroken(reason: string): TaskFailure {
  return { code: 'WORKER_START_FAILED', message: `the worker host does not start: ${reason}` };
}

/**
 * The agent: puts journal, worker host, registration, two broker sessions, dispatcher, outbox and heartbeat together, and takes them
 * down in the reverse order of trust.
 *
 *   created ─▶ starting ─▶ running ─▶ draining ─▶ stopped
 *
 * `running` says nothing about the broker: whether the endpoint is online is told by the sessions, and an outage never ends a task.
 * I7: after `stop` has resolved nothing of ours is alive.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { AuthError, ComputeError, UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { ReleaseStack } from '../base/release-stack.ts';
import { HubClient } from '../client/hub-client.ts';
import { dialAmqp } from '../transport/amqp/connection.ts';
import type { AmqpConnection } from '../transport/amqp/connection.ts';
import { AmqpSession } from '../transport/amqp/session.ts';
import type { SessionState } from '../transport/amqp/session.ts';
import { thisProcess } from './agent-lock.ts';
import type { AgentOptions } from './agent-options.ts';
import { startControlSocket } from './control-socket.ts';
import { Dispatcher } from './dispatcher.ts';
import type { DispatcherCounts } from './dispatcher.ts';
import { Heartbeat } from './heartbeat.ts';
import { Intake } from './intake.ts';
import { openJournal } from './journal/journal.ts';
import type { Journal } from './journal/journal.ts';
import { Registrar } from './registration.ts';
import type { Registration } from './registration.ts';
import { ResultOutbox } from './result-outbox.ts';
import { startScheduledJobs } from './scheduled-jobs.ts';
import { packFailure } from './task-failure.ts';
import { TaskStatuses } from './task-statuses.ts';
import { WorkerHost } from './worker-host.ts';

const SETTLE_LIMIT_MS = 10_000;
const CLOSE_LIMIT_MS = 5_000;
const RELEASE_LEASE_LIMIT_MS = 3_000;

/** Where the agent is in its life. */
export type AgentPhase = 'created' | 'starting' | 'running' | 'draining' | 'stopped';

/** What `agent status` shows. */
export interface AgentStatus {
  readonly name: string;
  readonly endpoint_id: string | null;
  readonly phase: AgentPhase;
  /** Online means: consuming, and the last heartbeat was confirmed by the broker. */
  readonly state: 'online' | 'offline' | 'draining' | 'starting' | 'stopped';
  /** Why it is not online, in words. */
  readonly reason: string | null;
  readonly pid: number;
  readonly host: string;
  readonly since: string;
  readonly hub_url: string;
  readonly lease_epoch: number | null;
  readonly sessions: { readonly tasks: SessionState; readonly results: SessionState };
  readonly paused: readonly string[];
  readonly tasks: DispatcherCounts & { readonly unconfirmed: number; readonly unpublished: number };
  readonly journal: Journal['stats'];
  readonly worker_host_pid: number | null;
  readonly cpu_seconds: number;
  readonly rss_bytes: number;
}

/** One endpoint agent. */
export class Agent {
  readonly #options: AgentOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #hub: HubClient;
  readonly #registrar: Registrar;
  readonly #statuses: TaskStatuses;
  readonly #releases = new ReleaseStack();
  readonly #since: string;
  readonly #epochs = { tasks: 0, results: 0 };
  #phase: AgentPhase = 'created';
  #parts: Parts | undefined;
  #starting: Promise<void> = Promise.resolve();
  #stopping: Promise<void> | undefined;
  readonly #cancelled = new AbortController();
  #onOnline: () => void = () => undefined;
  #onFatal: (error: ComputeError) => void = () => undefined;

  constructor(options: AgentOptions, clock: Clock, logger: Logger) {
    this.#options = options;
    this.#clock = clock;
    this.#logger = logger;
    this.#since = new Date(clock.now()).toISOString();
    this.#hub = new HubClient({ hubUrl: options.hubUrl, tokens: options.tokens, clock });
    this.#registrar = new Registrar(
      options,
      this.#hub,
      clock,
      logger.child({ component: 'registration' }),
    );
    this.#statuses = new TaskStatuses(clock);
  }

  /** Calls back each time the endpoint has come online. */
  onOnline(listener: () => void): void {
    this.#onOnline = listener;
  }

  /** Calls back when the agent cannot go on: refused credentials at the first registration, another holder of the lease. */
  onFatal(listener: (error: ComputeError) => void): void {
    this.#onFatal = listener;
  }

  /**
   * Opens the journal, starts the worker host and the sessions. Returns once these run; being online comes later.
   *
   * @throws ComputeError when the agent cannot run at all; what was acquired is then released.
   */
  async start(): Promise<void> {
    this.#phase = 'starting';
    this.#starting = this.#start();
    await this.#starting;
  }

  async #start(): Promise<void> {
    try {
      this.#parts = await this.#acquire();
      this.#phase = 'running';
    } catch (error) {
      await this.#releases.release();
      await this.#releaseLease();
      throw error;
    }
  }

  /** The endpoint id, once registered. */
  get endpointId(): string | undefined {
    return this.#registrar.current?.endpointId;
  }

  /** State for `agent status`. */
  status(): AgentStatus {
    const parts = this.#parts;
    const stopped: SessionState = { phase: 'stopped' };
    const tasks = parts?.taskSession.state ?? stopped;
    const results = parts?.resultSession.state ?? stopped;
    const usage = process.resourceUsage();
    const counts = parts?.dispatcher.counts ?? NO_COUNTS;
    return {
      name: this.#options.name,
      endpoint_id: this.#registrar.current?.endpointId ?? this.#options.endpointId ?? null,
      phase: this.#phase,
      ...this.#stateInWords(tasks, results),
      pid: process.pid,
      host: thisProcess().host,
      since: this.#since,
      hub_url: this.#options.hubUrl,
      lease_epoch: this.#registrar.current?.epoch ?? null,
      sessions: { tasks, results },
      paused: parts?.intake.pauses ?? [],
      tasks: {
        ...counts,
        unconfirmed: parts?.outbox.inFlightCount ?? 0,
        unpublished: parts?.outbox.backlogCount ?? 0,
      },
      journal: parts?.journal.stats ?? NO_JOURNAL,
      worker_host_pid: parts?.host.pid ?? null,
      cpu_seconds: (usage.userCPUTime + usage.systemCPUTime) / 1e6,
      rss_bytes: process.memoryUsage.rss(),
    };
  }

  /** Stops in order: quiesce, drain, cancel, settle, close. Concurrent calls share one run. */
  async stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    await this.#stopping;
  }

  /** Ends the drain: running tasks are cancelled now. */
  cancelRunning(): void {
    this.#cancelled.abort();
  }

  #stateInWords(tasks: SessionState, results: SessionState): Pick<AgentStatus, 'state' | 'reason'> {
    if (this.#phase === 'draining' || this.#phase === 'stopped') {
      return { state: this.#phase, reason: null };
    }
    if (tasks.phase === 'online' && results.phase === 'online') {
      return { state: 'online', reason: null };
    }
    if (this.#registrar.current === undefined) {
      return { state: 'starting', reason: this.#registrar.lastFailure ?? null };
    }
    const offline = [tasks, results].find((session) => session.phase === 'offline');
    return {
      state: 'offline',
      reason: offline?.phase === 'offline' ? offline.reason : 'connecting to the broker',
    };
  }

  async #acquire(): Promise<Parts> {
    const { name, directory, controlSocketPath, reserve, javascriptThreads, pythonInterpreters } =
      this.#options;
    const logger = this.#logger;
    const clock = this.#clock;
    await mkdir(this.#options.workingDir, { recursive: true, mode: 0o700 });
    this.#releases.push('registration', () => {
      this.#registrar.stop();
    });
    // Workers put the endpoint's id into every result, so a first start needs the hub before anything else.
    const endpointId = this.#options.endpointId ?? (await this.#registrar.obtain()).endpointId;
    const { journal, recovered, notices } = await openJournal({
      directory: join(directory, 'journal'),
      host: thisProcess().host,
      bootId: thisProcess().boot_id,
      // One more than the epoch before: the grant itself comes later, and the journal must be open by then.
      epoch: (this.#options.previousEpoch ?? 0) + 1,
      bytesMax: this.#options.journalBytesMax,
      clock,
      logger: logger.child({ component: 'journal' }),
    });
    this.#releases.push('journal', async () => {
      await journal.close();
    });
    for (const notice of notices) {
      logger.warn({ notice }, 'journal notice');
    }
    const stopJobs = startScheduledJobs({
      directory,
      clock,
      logger: logger.child({ component: 'scheduled-jobs' }),
    });
    this.#releases.push('scheduled jobs', stopJobs);
    const control = await startControlSocket({
      path: controlSocketPath,
      methods: { status: () => this.status(), tasks: () => this.#parts?.dispatcher.tasks ?? [] },
      logger: logger.child({ component: 'control' }),
    });
    this.#releases.push('control socket', async () => {
      await control.close();
    });

    const outbox = new ResultOutbox(
      journal,
      clock,
      logger.child({ component: 'outbox' }),
      (taskId) => {
        dispatcher.onConfirmed(taskId);
      },
      (taskId, reason) => {
        const message = `the task ended, but its result could not be read back from the agent's journal (${reason}); submit it again`;
        return {
          body: packFailure(taskId, { code: 'RESULT_UNREADABLE', message }, clock.now()),
          headers: {},
        };
      },
    );
    const dispatcher: Dispatcher = new Dispatcher({
      rules: this.#admissionRules(endpointId),
      reserve,
      maxRetries: this.#options.maxRetries,
      taskTimeoutMs: this.#options.taskTimeoutMs,
      journal,
      outbox,
      statuses: this.#statuses,
      clock,
      logger: logger.child({ component: 'dispatcher' }),
      isHostConnected: () => host.connected,
      sendToHost: (frame, body) => {
        host.send(frame, body);
      },
      pauseConsuming: (reason) => {
        intake.pause(reason);
      },
      resumeConsuming: (reason) => {
        intake.resume(reason);
      },
    });
    const intake: Intake = new Intake({
      prefetch: javascriptThreads + pythonInterpreters + reserve,
      logger: logger.child({ component: 'intake' }),
      onDelivery: (delivery, consumer) => {
        dispatcher.offer(delivery, consumer);
      },
      onForget: (consumer) => {
        dispatcher.forget(consumer);
      },
    });
    const host: WorkerHost = this.#workerHost(dispatcher, endpointId);
    await host.start();
    this.#releases.push('worker host', async () => {
      await host.stop();
    });
    dispatcher.recover(recovered);
    if (recovered.length > 0) {
      logger.info({ count: recovered.length }, 'recovered tasks from the journal');
    }
    const heartbeat = new Heartbeat({
      periodMs: this.#options.heartbeatPeriodMs,
      statuses: this.#statuses,
      describe: () => this.#describe(dispatcher),
      clock,
      logger: logger.child({ component: 'heartbeat' }),
    });
    const resultSession = this.#resultSession(name, outbox, heartbeat, intake);
    const taskSession = this.#taskSession(name, intake);
    resultSession.start();
    taskSession.start();
    this.#releases.push('broker sessions', async () => {
      this.#registrar.stop();
      await Promise.all([taskSession.stop(), resultSession.stop()]);
      outbox.stop();
      heartbeat.pause();
    });
    return { journal, outbox, dispatcher, intake, host, heartbeat, taskSession, resultSession };
  }

  #workerHost(dispatcher: Dispatcher, endpointId: string): WorkerHost {
    const options = this.#options;
    return new WorkerHost(
      {
        config: {
          endpointId,
          javascript: { threads: options.javascriptThreads, heapMb: options.javascriptHeapMb },
          python: { interpreters: options.pythonInterpreters, executable: options.python },
          workingDir: options.workingDir,
          resultCharsMax: options.resultCharsMax,
          outputBytesMax: options.outputBytesMax,
          killGraceMs: options.killGraceMs,
          startTimeoutMs: options.workerStartTimeoutMs,
          environment: options.environment,
        },
        socketPath: `${options.controlSocketPath}.h`,
        environment: options.baseEnvironment,
        clock: this.#clock,
        logger: this.#logger.child({ component: 'worker-host' }),
      },
      {
        onReady: (frame) => {
          dispatcher.onHostReady(frame);
        },
        onResult: (frame, body) => {
          dispatcher.onHostResult(frame, body);
        },
        onFailed: (frame) => {
          dispatcher.onHostFailed(frame);
        },
        onDegraded: (frame) => {
          dispatcher.onHostDegraded(frame);
        },
        onLost: (reason) => {
          dispatcher.onHostLost(reason);
        },
        onBroken: (reason) => {
          dispatcher.onHostBroken(reason);
        },
      },
    );
  }

  #resultSession(
    name: string,
    outbox: ResultOutbox,
    heartbeat: Heartbeat,
    intake: Intake,
  ): AmqpSession {
    return new AmqpSession({
      name: 'results',
      clock: this.#clock,
      logger: this.#logger.child({ component: 'results' }),
      dial: async (attempt) => await this.#dial('results', attempt, `${name} results`),
      setUp: async (connection) => {
        connection.onBlocked((blocked) => {
          // A broker under alarm stops reading from publishing connections: what is consumed now could not be answered.
          if (blocked) {
            intake.pause('broker-blocked');
          } else {
            intake.resume('broker-blocked');
          }
        });
        const publisher = await connection.openPublisher();
        const { response, endpointId } = this.#requireRegistration();
        await heartbeat.begin({ publisher, info: response.heartbeat_queue_info, endpointId });
        outbox.setRoute({ publisher, info: response.result_queue_info });
        return { broken: publisher.closed };
      },
      onState: (state) => {
        if (state.phase !== 'online') {
          outbox.setRoute(undefined);
          heartbeat.pause();
          intake.resume('broker-blocked');
        }
        this.#afterStateChange();
      },
    });
  }

  #taskSession(name: string, intake: Intake): AmqpSession {
    return new AmqpSession({
      name: 'tasks',
      clock: this.#clock,
      logger: this.#logger.child({ component: 'tasks' }),
      dial: async (attempt) => await this.#dial('tasks', attempt, `${name} tasks`),
      setUp: async (connection) => {
        const { response } = this.#requireRegistration();
        return await intake.begin(connection, response.task_queue_info.queue);
      },
      onState: (state) => {
        if (state.phase !== 'online') {
          intake.end();
        }
        this.#afterStateChange();
      },
    });
  }

  async #dial(
    purpose: 'tasks' | 'results',
    { refused, signal }: { refused: boolean; signal: AbortSignal },
    connectionName: string,
  ): Promise<AmqpConnection> {
    let registration: Registration;
    try {
      registration = await this.#registrar.obtain(refused ? this.#epochs[purpose] : undefined);
    } catch (error) {
      if (
        error instanceof ComputeError &&
        !(error instanceof UnavailableError) &&
        this.#phase !== 'draining'
      ) {
        this.#onFatal(error);
      }
      throw error;
    }
    this.#epochs[purpose] = registration.epoch;
    const info =
      purpose === 'tasks'
        ? registration.response.task_queue_info
        : registration.response.result_queue_info;
    return await dialAmqp({ url: info.connection_url, connectionName, signal });
  }

  #requireRegistration(): Registration {
    const registration = this.#registrar.current;
    if (registration === undefined) {
      throw new AuthError('TOKEN_REJECTED', 'not registered');
    }
    return registration;
  }

  #afterStateChange(): void {
    if (this.#parts !== undefined && this.status().state === 'online') {
      this.#onOnline();
    }
  }

  #admissionRules(endpointId: string): ConstructorParameters<typeof Dispatcher>[0]['rules'] {
    const { allowedFunctions, javascriptThreads, pythonInterpreters } = this.#options;
    return {
      endpointId,
      allowedFunctions: allowedFunctions === undefined ? undefined : new Set(allowedFunctions),
      places: { javascript: javascriptThreads, python: pythonInterpreters },
    };
  }

  /** `global_state`: the keys that the hub's status document reads (protocol.md 10.2), and ours. */
  #describe(dispatcher: Dispatcher): Record<string, unknown> {
    const { running, waiting, slots, degraded } = dispatcher.counts;
    const total = slots.javascript + slots.python;
    return {
      engine_type: 'OutpostWorkerHost',
      total_workers: total,
      idle_workers: Math.max(0, total - running),
      pending_tasks: waiting,
      outstanding_tasks: running,
      managers: 1,
      degraded,
      posix_pid: process.pid,
      start_iso: this.#since,
    };
  }

  async #stop(): Promise<void> {
    if (this.#phase === 'starting') {
      // A first registration may be waiting for the hub; what is half acquired is released by the start itself.
      this.#registrar.stop();
      await this.#starting.catch((error: unknown) => {
        this.#logger.debug({ reason: errorText(error) }, 'start was interrupted');
      });
    }
    const parts = this.#parts;
    this.#phase = 'draining';
    if (parts !== undefined) {
      await this.#quiesceAndDrain(parts);
      await this.#settle(parts);
    }
    await this.#bounded(CLOSE_LIMIT_MS * 2, 'closing', this.#releases.release());
    await this.#releaseLease();
    this.#phase = 'stopped';
  }

  async #quiesceAndDrain({ intake, dispatcher }: Parts): Promise<void> {
    this.#logger.info(dispatcher.counts, 'stopping: no new tasks');
    intake.pause('stopping');
    dispatcher.quiesce();
    await this.#bounded(CLOSE_LIMIT_MS, 'cancelling the consumer', intake.idle());
    const aborted = new Promise<void>((resolve) => {
      if (this.#cancelled.signal.aborted) {
        resolve();
      }
      this.#cancelled.signal.addEventListener('abort', () => {
        resolve();
      });
    });
    const first = new Promise<void>((resolve) => {
      dispatcher.drained().then(resolve, resolve);
      aborted.then(resolve, resolve);
    });
    await this.#bounded(this.#options.drainGraceMs, 'waiting for running tasks', first);
  }

  async #settle({ dispatcher, host, outbox, heartbeat }: Parts): Promise<void> {
    dispatcher.failRunning({
      code: 'AGENT_STOPPED',
      message:
        'the agent was stopped while this task was running and its drain time was over; submit it again',
    });
    await this.#bounded(
      this.#options.killGraceMs + CLOSE_LIMIT_MS,
      'stopping the worker host',
      host.stop(),
    );
    await this.#bounded(
      SETTLE_LIMIT_MS,
      'waiting for the broker to confirm results',
      outbox.settled(),
    );
    await this.#bounded(CLOSE_LIMIT_MS, 'sending the last heartbeat', heartbeat.finish());
  }

  async #releaseLease(): Promise<void> {
    const registration = this.#registrar.current;
    if (registration !== undefined) {
      await this.#bounded(
        RELEASE_LEASE_LIMIT_MS,
        'releasing the lease',
        this.#hub.releaseLease(registration.endpointId, registration.epoch),
      );
    }
  }

  /** Waits for a step of the shutdown no longer than its limit; what fails is logged and the next step is taken. */
  async #bounded(limitMs: number, step: string, work: Promise<unknown>): Promise<void> {
    try {
      await withDeadline(
        this.#clock,
        limitMs,
        work,
        () => new UnavailableError('TIMED_OUT', `${step} took longer than ${limitMs} ms`),
      );
    } catch (error) {
      this.#logger.warn(
        { step, reason: errorText(error) },
        'a step of the shutdown did not end well',
      );
    }
  }
}

/** What runs while the agent runs. */
interface Parts {
  readonly journal: Journal;
  readonly outbox: ResultOutbox;
  readonly dispatcher: Dispatcher;
  readonly intake: Intake;
  readonly host: WorkerHost;
  readonly heartbeat: Heartbeat;
  readonly taskSession: AmqpSession;
  readonly resultSession: AmqpSession;
}

const NO_COUNTS: DispatcherCounts = {
  running: 0,
  waiting: 0,
  pending: 0,
  succeeded: 0,
  failed: 0,
  duplicates: 0,
  slots: { javascript: 0, python: 0 },
  degraded: {},
};

const NO_JOURNAL: Journal['stats'] = {
  liveCount: 0,
  bytes: 0,
  segments: 0,
  tombstones: 0,
  full: false,
};

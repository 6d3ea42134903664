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
import { ConflictError, UnavailableError, errorText } from '../base/errors.ts';
import type { ComputeError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import { ReleaseStack } from '../base/release-stack.ts';
import { HubClient } from '../client/hub-client.ts';
import type { SessionState } from '../transport/amqp/session.ts';
import { thisProcess } from './agent-lock.ts';
import type { AgentOptions } from './agent-options.ts';
import { BrokerLink } from './broker-link.ts';
import { startControlSocket } from './control-socket.ts';
import { Dispatcher } from './dispatcher.ts';
import type { DispatcherCounts } from './dispatcher.ts';
import { Heartbeat } from './heartbeat.ts';
import { Intake } from './intake.ts';
import { openJournal } from './journal/journal.ts';
import type { Journal } from './journal/journal.ts';
import { agentCookie, killLeftovers, sweepLeftovers } from './leftovers.ts';
import { Registrar } from './registration.ts';
import { ResultOutbox } from './result-outbox.ts';
import { startScheduledJobs } from './scheduled-jobs.ts';
import { packFailure } from './task-failure.ts';
import { TaskStatuses } from './task-statuses.ts';
import { Watchdog } from './watchdog.ts';
import type { StallReport } from './watchdog.ts';
import { watchedLoops } from './watched-loops.ts';
import { WorkerHost } from './worker-host.ts';

const SETTLE_LIMIT_MS = 10_000;
const CLOSE_LIMIT_MS = 5_000;
const HAND_BACK_LIMIT_MS = 5_000;
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
  /** Why it is not online, and what is done about it, in words. */
  readonly reason: string | null;
  /** Since when it is not online. */
  readonly offline_since: string | null;
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
  /** Loops that had work and made no progress, since the start. */
  readonly stalls: readonly StallReport[];
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
  #phase: AgentPhase = 'created';
  /** In the environment of everything that this agent starts. */
  #cookie: string | undefined;
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
    const { hubUrl, tokens, ca } = options;
    this.#hub = new HubClient({ hubUrl, tokens, clock, ...(ca !== undefined && { ca }) });
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
    const usage = process.resourceUsage();
    const counts = parts?.dispatcher.counts ?? NO_COUNTS;
    return {
      name: this.#options.name,
      endpoint_id: this.#registrar.current?.endpointId ?? this.#options.endpointId ?? null,
      phase: this.#phase,
      ...this.#stateInWords(parts?.link),
      pid: process.pid,
      host: thisProcess().host,
      since: this.#since,
      hub_url: this.#options.hubUrl,
      lease_epoch: this.#registrar.current?.epoch ?? null,
      sessions: parts?.link.sessions ?? { tasks: stopped, results: stopped },
      paused: parts?.intake.pauses ?? [],
      tasks: {
        ...counts,
        unconfirmed: parts?.outbox.inFlightCount ?? 0,
        unpublished: parts?.outbox.backlogCount ?? 0,
      },
      journal: parts?.journal.stats ?? NO_JOURNAL,
      worker_host_pid: parts?.host.pid ?? null,
      stalls: parts?.watchdog.stalls ?? [],
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

  /** Kills what the agent has started, for a process that ends at once. The journal knows what ran. */
  kill(): void {
    if (this.#cookie !== undefined) {
      killLeftovers(this.#cookie, this.#logger);
    }
  }

  #stateInWords(
    link: BrokerLink | undefined,
  ): Pick<AgentStatus, 'state' | 'reason' | 'offline_since'> {
    if (this.#phase === 'draining' || this.#phase === 'stopped') {
      return { state: this.#phase, reason: null, offline_since: null };
    }
    const health = link?.health();
    if (health?.isOnline === true) {
      return { state: 'online', reason: null, offline_since: null };
    }
    if (this.#registrar.current === undefined || health?.offline === undefined) {
      const reason = this.#registrar.lastFailure ?? null;
      return { state: 'starting', reason, offline_since: null };
    }
    const { sinceMs, reason } = health.offline;
    const since = new Date(sinceMs).toISOString();
    return { state: 'offline', reason: `OFFLINE since ${since}: ${reason}`, offline_since: since };
  }

  async #acquire(): Promise<Parts> {
    const { directory, controlSocketPath, reserve, javascriptThreads, pythonInterpreters } =
      this.#options;
    const logger = this.#logger;
    const clock = this.#clock;
    await mkdir(this.#options.workingDir, { recursive: true, mode: 0o700 });
    this.#releases.push('registration', () => {
      this.#registrar.stop();
    });
    // Workers put the endpoint's id into every result, so a first start needs the hub before anything else.
    const endpointId = this.#options.endpointId ?? (await this.#registrar.obtain()).endpointId;
    const cookie = await agentCookie(directory);
    this.#cookie = cookie;
    // Before the journal is read: while the old worker host lives, tasks may still begin in it.
    const { survivors } = await sweepLeftovers(cookie, clock, logger);
    const { journal, recovered, notices } = await openJournal({
      directory: join(directory, 'journal'),
      host: thisProcess().host,
      bootId: thisProcess().boot_id,
      // One more than the epoch before: the grant itself comes later, and the journal must be open by then.
      epoch: (this.#options.previousEpoch ?? 0) + 1,
      bytesMax: this.#options.journalBytesMax,
      trustRunningTable: survivors.length === 0,
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
      (taskId, failure) => ({
        body: packFailure(taskId, failure, clock.now()),
        headers: {},
      }),
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
    const host: WorkerHost = this.#workerHost(dispatcher, journal, {
      endpointId,
      cookie,
    });
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
    const link = this.#brokerLink({ intake, outbox, heartbeat, dispatcher, journal });
    link.start();
    this.#releases.push('broker sessions', async () => {
      this.#registrar.stop();
      await link.stop();
      outbox.stop();
      heartbeat.pause();
    });
    const watched = { link, registrar: this.#registrar, outbox, heartbeat, journal, host, clock };
    const watchdog = new Watchdog({
      loops: watchedLoops(watched, this.#options.heartbeatPeriodMs),
      clock,
      logger: logger.child({ component: 'watchdog' }),
    });
    watchdog.start();
    this.#releases.push('watchdog', () => {
      watchdog.stop();
    });
    return { journal, outbox, dispatcher, intake, host, heartbeat, link, watchdog };
  }

  #workerHost(
    dispatcher: Dispatcher,
    journal: Journal,
    { endpointId, cookie }: { readonly endpointId: string; readonly cookie: string },
  ): WorkerHost {
    const options = this.#options;
    return new WorkerHost(
      {
        config: {
          endpointId,
          javascript: { threads: options.javascriptThreads, heapMb: options.javascriptHeapMb },
          python: { interpreters: options.pythonInterpreters, executable: options.python },
          workingDir: options.workingDir,
          runInSandbox: options.runInSandbox,
          resultCharsMax: options.resultCharsMax,
          outputBytesMax: options.outputBytesMax,
          killGraceMs: options.killGraceMs,
          runningTable: journal.runningTablePath,
          startTimeoutMs: options.workerStartTimeoutMs,
          environment: options.environment,
        },
        socketPath: `${options.controlSocketPath}.h`,
        environment: options.baseEnvironment,
        cookie,
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
        onReturned: (frame) => {
          dispatcher.onHostReturned(frame);
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

  #brokerLink(
    parts: Pick<Parts, 'intake' | 'outbox' | 'heartbeat' | 'dispatcher' | 'journal'>,
  ): BrokerLink {
    const { name, ca } = this.#options;
    return new BrokerLink({
      name,
      ...(ca !== undefined && { ca }),
      registrar: this.#registrar,
      intake: parts.intake,
      outbox: parts.outbox,
      heartbeat: parts.heartbeat,
      clock: this.#clock,
      logger: this.#logger.child({ component: 'broker' }),
      onStateChange: () => {
        if (this.#parts !== undefined && this.status().state === 'online') {
          this.#onOnline();
        }
      },
      onFenced: (error) => {
        detach(this.#logger, 'ending a fenced agent', this.#endFenced(parts, error));
      },
      onFatal: (error) => {
        if (this.#phase !== 'draining') {
          this.#onFatal(error);
        }
      },
    });
  }

  /** Somebody took the endpoint over: what runs ends in its own time, its results are published, then the agent ends. */
  async #endFenced(
    { dispatcher, outbox, journal }: Pick<Parts, 'outbox' | 'dispatcher' | 'journal'>,
    error: ConflictError,
  ): Promise<void> {
    dispatcher.quiesce();
    await dispatcher.drained();
    await this.#handBack(journal, dispatcher);
    await this.#bounded(
      SETTLE_LIMIT_MS,
      'publishing the results of a fenced agent',
      outbox.settled(),
    );
    if (this.#phase !== 'draining') {
      this.#onFatal(
        new ConflictError(
          'PRECONDITION_FAILED',
          `this agent was fenced: it has taken no more tasks, finished what ran, and ends. ${error.message}`,
          { cause: error, details: error.details },
        ),
      );
    }
  }

  #admissionRules(endpointId: string): ConstructorParameters<typeof Dispatcher>[0]['rules'] {
    const { allowedFunctions, allowedSerializers, javascriptThreads, pythonInterpreters } =
      this.#options;
    return {
      endpointId,
      allowedFunctions: allowedFunctions === undefined ? undefined : new Set(allowedFunctions),
      ...(allowedSerializers !== undefined && {
        allowedSerializers: new Set(allowedSerializers),
      }),
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
      await this.#handBack(parts.journal, parts.dispatcher);
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

  /**
   * Gives the hub what was acked and has not begun, so that it need not wait for this host. What cannot be given back stays in the
   * journal, and runs when the agent is started here again.
   */
  async #handBack(journal: Journal, dispatcher: Dispatcher): Promise<void> {
    const registration = this.#registrar.current;
    const taskIds = dispatcher.unstarted;
    if (taskIds.length === 0 || registration === undefined) {
      return;
    }
    const { endpointId, epoch } = registration;
    await this.#bounded(
      HAND_BACK_LIMIT_MS,
      `handing ${taskIds.length} tasks back to the hub (they stay in the journal, and run when the agent is started here again)`,
      this.#hub.handBackTasks(endpointId, epoch, taskIds).then(async () => {
        dispatcher.forgetTasks(taskIds);
        await journal.handedBack(taskIds);
        this.#logger.info({ count: taskIds.length }, 'handed tasks that had not begun back');
      }),
    );
  }

  async #settle({ dispatcher, host, outbox, heartbeat, watchdog }: Parts): Promise<void> {
    // From here on every step has a limit of its own.
    watchdog.stop();
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
  readonly link: BrokerLink;
  readonly watchdog: Watchdog;
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

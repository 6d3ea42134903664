/**
 * The agent: its life, and what can be asked of it while it lives.
 *
 *   created ─▶ starting ─▶ running ─▶ draining ─▶ stopped
 *
 * `running` says nothing about the broker: whether the endpoint is online is told by the sessions, and an outage never ends a task.
 * Of what it consists is told by agent-parts.ts, how it ends by agent-shutdown.ts. I7: after `stop` has resolved nothing of ours is alive.
 */
import type { Clock } from '../base/clock.ts';
import { ConfigError, ConflictError, errorText } from '../base/errors.ts';
import type { ComputeError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import { ReleaseStack } from '../base/release-stack.ts';
import { HubClient } from '../client/hub-client.ts';
import { agentJobs, keepWindow } from './agent-jobs.ts';
import type { AgentOptions } from './agent-options.ts';
import { admissionRules, startParts } from './agent-parts.ts';
import type { AgentParts } from './agent-parts.ts';
import type { AgentPhase } from './agent-phase.ts';
import { AgentShutdown, CLOSE_LIMIT_MS, SHUTDOWN_LIMIT_MS } from './agent-shutdown.ts';
import { agentStatus, stateInWords } from './agent-status.ts';
import type { AgentStatus } from './agent-status.ts';
import { controlMethods } from './control-methods.ts';
import { killLeftovers } from './leftovers.ts';
import { concernsHub } from './live-settings.ts';
import type { LiveSettings, ReloadReport, SettingsReading } from './live-settings.ts';
import type { ModeChange } from './mode-switch.ts';
import { Registrar } from './registration.ts';
import { TaskStatuses } from './task-statuses.ts';

/** Who wants to know what becomes of an agent. */
export interface AgentListener {
  /** The endpoint has come online; each time. */
  readonly onOnline?: () => void;
  /** What `status` says may have changed. */
  readonly onChange?: () => void;
  /** It cannot go on: refused credentials at the first registration, another holder of the lease. */
  readonly onFatal?: (error: ComputeError) => void;
  /** It has had nothing to do for so long that its settings say to stop. */
  readonly onIdle?: (reason: string) => void;
  /** Its owner has told it through the hub to stop. */
  readonly onStopCommand?: () => void;
  /** Its settings are being read again. */
  readonly onReloading?: () => void;
  /** They have been, or were refused. */
  readonly onReloaded?: (report: ReloadReport) => void;
}

/** One endpoint agent. */
export class Agent {
  readonly #options: AgentOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #listener: AgentListener;
  readonly #hub: HubClient;
  readonly #registrar: Registrar;
  readonly #shutdown: AgentShutdown;
  readonly #releases = new ReleaseStack();
  readonly #since: string;
  #settings: LiveSettings;
  #phase: AgentPhase = 'created';
  /** In the environment of everything that this agent starts. */
  #cookie: string | undefined;
  #parts: AgentParts | undefined;
  #starting: Promise<void> = Promise.resolve();
  #stopping: Promise<void> | undefined;
  #reloading: Promise<unknown> = Promise.resolve();
  #lastReload: ReloadReport | null = null;
  readonly #cancelled = new AbortController();

  constructor(options: AgentOptions, clock: Clock, logger: Logger, listener: AgentListener = {}) {
    this.#options = options;
    this.#settings = options;
    this.#clock = clock;
    this.#logger = logger;
    this.#listener = listener;
    this.#since = new Date(clock.now()).toISOString();
    const { hubUrl, tokens, ca, killGraceMs } = options;
    this.#hub = new HubClient({ hubUrl, tokens, clock, ...(ca !== undefined && { ca }) });
    const registrationLogger = logger.child({ component: 'registration' });
    this.#registrar = new Registrar(options, this.#hub, clock, registrationLogger);
    const registrar = this.#registrar;
    this.#shutdown = new AgentShutdown({ hub: this.#hub, registrar, killGraceMs, clock, logger });
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

  /** The endpoint id, once registered. */
  get endpointId(): string | undefined {
    return this.#registrar.current?.endpointId;
  }

  /** How long `stop` may take, in milliseconds. */
  get stopLimitMs(): number {
    return this.#settings.drainGraceMs + this.#options.killGraceMs + SHUTDOWN_LIMIT_MS;
  }

  /** Where it is in its life. */
  get phase(): AgentPhase {
    return this.#phase;
  }

  /** False when a loop hangs and starting it again has not helped. */
  get isProgressing(): boolean {
    return this.#parts?.watchdog.isProgressing ?? true;
  }

  /** Whether it has all it needs to run tasks, or knows why it cannot; a worker host that somebody else starts is not waited for. */
  get isUp(): boolean {
    const { host, dispatcher } = this.#parts ?? {};
    const hasVerdict =
      host?.connected === true ||
      this.#options.workerHost === 'unit' ||
      Object.keys(dispatcher?.counts.degraded ?? {}).length > 0;
    return this.#phase === 'running' && hasVerdict;
  }

  /** State for `agent status`. */
  status(): AgentStatus {
    return agentStatus({
      options: this.#options,
      phase: this.#phase,
      since: this.#since,
      registrar: this.#registrar,
      parts: this.#parts,
      reload: this.#lastReload,
    });
  }

  /** Pauses, drains or resumes the endpoint; returns whether that changes anything. @throws ConflictError while it starts or stops. */
  async changeMode(change: ModeChange): Promise<boolean> {
    return await this.#running().modes.change(change);
  }

  /**
   * Reads the settings again and takes over what can be; what is wrong stands in the report, and the old ones stay.
   *
   * @throws ConflictError NOT_RUNNING when the agent ends, or has not started.
   */
  async reload(): Promise<ReloadReport> {
    // One after the other: what has changed during one reading is seen by the next.
    const reloaded = this.#reloading.then(async () => {
      // Whoever has started it is told how that ended.
      await this.#starting.catch(() => undefined);
      return await this.#reload();
    });
    this.#reloading = reloaded.catch(() => undefined);
    return await reloaded;
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

  async #start(): Promise<void> {
    try {
      const parts = await this.#acquire();
      this.#parts = parts;
      this.#phase = 'running';
      await this.#scheduleJobs(parts);
      this.#listener.onChange?.();
    } catch (error) {
      await this.#releases.release();
      await this.#shutdown.releaseLease();
      throw error;
    }
  }

  async #acquire(): Promise<AgentParts> {
    return await startParts({
      options: this.#options,
      hub: this.#hub,
      registrar: this.#registrar,
      statuses: new TaskStatuses(this.#clock),
      releases: this.#releases,
      clock: this.#clock,
      logger: this.#logger,
      since: this.#since,
      phase: () => this.#phase,
      parts: () => this.#parts,
      controlMethods: controlMethods({
        status: () => this.status(),
        changeMode: async (change) => await this.changeMode(change),
        waitWhileDraining: async (limitMs) => {
          await this.#running().modes.waitWhileDraining(limitMs);
        },
        reload: async () => await this.reload(),
      }),
      onCookie: (cookie) => {
        this.#cookie = cookie;
      },
      onStateChange: () => {
        this.#listener.onChange?.();
        const sources = { phase: this.#phase, registrar: this.#registrar, parts: this.#parts };
        if (this.#parts !== undefined && stateInWords(sources).state === 'online') {
          this.#listener.onOnline?.();
        }
      },
      onFenced: (parts, error) => {
        detach(this.#logger, 'ending a fenced agent', this.#endFenced(parts, error));
      },
      onFatal: (error) => {
        if (this.#phase !== 'draining') {
          this.#listener.onFatal?.(error);
        }
      },
      onStopCommand: (how) => {
        if (how === 'cancel') {
          this.cancelRunning();
        }
        this.#listener.onStopCommand?.();
      },
      onIdle: (reason) => {
        if (this.#phase === 'running') {
          this.#logger.info({ reason }, 'idle: the endpoint stops by itself');
          this.#listener.onIdle?.(reason);
        }
      },
    });
  }

  /** The parts of an agent that has started. @throws ConflictError before that. */
  #running(): AgentParts {
    if (this.#parts === undefined) {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        'the agent is still starting; try again when it is online: agent status',
      );
    }
    return this.#parts;
  }

  async #scheduleJobs({ jobs, journal, modes, observation }: AgentParts): Promise<void> {
    const parts = {
      directory: this.#options.directory,
      journal,
      modes,
      clock: this.#clock,
      cleaners: [
        async () => {
          const removed = await observation.taskLogs.clean();
          return removed.length === 0
            ? undefined
            : `removed ${removed.length} files of what tasks printed`;
        },
      ],
    };
    await jobs.schedule(agentJobs(parts, this.#settings));
    try {
      await keepWindow(parts, this.#settings);
    } catch (error) {
      // Tasks do not depend on it, and the jobs look at it again.
      this.#logger.warn({ reason: errorText(error) }, 'the maintenance window cannot be kept now');
    }
  }

  async #reload(): Promise<ReloadReport> {
    const at = new Date(this.#clock.now()).toISOString();
    let report: ReloadReport;
    this.#requireRunning();
    this.#listener.onReloading?.();
    try {
      const reading = await this.#options.readSettings();
      await this.#applySettings(this.#requireRunning(), reading);
      const { applied, restartNeeded } = reading;
      report = { at, ok: true, applied, restart_needed: restartNeeded, problems: [], error: null };
      this.#logger.info(
        { applied: keysOf(applied), restartNeeded: keysOf(restartNeeded) },
        'read the settings again',
      );
    } catch (error) {
      this.#requireRunning();
      const problems = error instanceof ConfigError ? error.problems : [];
      const restartNeeded = this.#lastReload?.restart_needed ?? [];
      const failure = { problems, error: errorText(error) };
      report = { at, ok: false, applied: [], restart_needed: restartNeeded, ...failure };
      this.#logger.error(failure, 'the settings are wrong, going on with those from before');
    }
    this.#lastReload = report;
    this.#listener.onReloaded?.(report);
    return report;
  }

  /** One that ends takes nothing over: jobs would outlive it, and a new registration ends the connections that bring its last results. */
  #requireRunning(): AgentParts {
    if (this.#parts === undefined || this.#phase !== 'running') {
      throw new ConflictError(
        'NOT_RUNNING',
        `the agent takes no settings over while it is ${this.#phase}; it reads them when it is started again`,
      );
    }
    return this.#parts;
  }

  async #applySettings(parts: AgentParts, { settings }: SettingsReading): Promise<void> {
    const old = this.#settings;
    this.#settings = settings;
    const { dispatcher, heartbeat, idle, endpointId, observation } = parts;
    const { maxRetries, taskTimeoutMs } = settings;
    const rules = admissionRules(this.#options, settings, endpointId);
    dispatcher.applySettings({ rules, maxRetries, taskTimeoutMs });
    heartbeat.setPeriod(settings.heartbeatPeriodMs);
    idle.setLimits({ soft: settings.idleHeartbeatsSoft, hard: settings.idleHeartbeatsHard });
    observation.taskLogs.configure(settings.taskLogs);
    if (concernsHub(old, settings)) {
      // The hub may be away; it is told as soon as it is back.
      detach(this.#logger, 'telling the hub', this.#registrar.update(settings));
    }
    if (
      old.cleanupSchedule !== settings.cleanupSchedule ||
      old.drainAt !== settings.drainAt ||
      old.resumeAt !== settings.resumeAt
    ) {
      await this.#scheduleJobs(parts);
    }
  }

  /** Somebody took the endpoint over: what runs ends in its own time, its results are published, then the agent ends. */
  async #endFenced(
    parts: Pick<AgentParts, 'outbox' | 'dispatcher' | 'handBack'>,
    error: ConflictError,
  ): Promise<void> {
    const { dispatcher, outbox } = parts;
    dispatcher.quiesce('stop');
    await dispatcher.drained();
    await this.#shutdown.handBack(parts);
    await this.#shutdown.resultsOut(outbox);
    if (this.#phase !== 'draining') {
      this.#listener.onFatal?.(
        new ConflictError(
          'PRECONDITION_FAILED',
          `this agent was fenced: it has taken no more tasks, finished what ran, and ends. ${error.message}`,
          { cause: error, details: error.details },
        ),
      );
    }
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
    this.#listener.onChange?.();
    if (parts !== undefined) {
      const { drainGraceMs } = this.#settings;
      await this.#shutdown.quiesceAndDrain(parts, drainGraceMs, this.#cancelled.signal);
      await this.#shutdown.handBack(parts);
      await this.#shutdown.settle(parts);
      // What the hub has not answered by now it does not answer to us.
      parts.handBack.cancel();
    }
    await this.#shutdown.bounded(CLOSE_LIMIT_MS * 2, 'closing', this.#releases.release());
    await this.#shutdown.releaseLease();
    this.#phase = 'stopped';
  }
}

function keysOf(changes: readonly { readonly key: string }[]): string[] {
  return changes.map(({ key }) => key);
}

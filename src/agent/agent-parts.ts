/**
 * Puts an agent together, in the order in which its parts need each other, and says how each is released again.
 *
 *   cookie, sweep ─▶ journal ─▶ control socket ─▶ outbox, dispatcher, intake ─▶ worker host ─▶ mode, recovery ─▶ broker link ─▶ watchdog, jobs
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { ReleaseStack } from '../base/release-stack.ts';
import type { HubClient } from '../client/hub-client.ts';
import { thisProcess } from './agent-lock.ts';
import type { AgentOptions } from './agent-options.ts';
import { BrokerLink } from './broker-link.ts';
import type { BrokerLinkOptions } from './broker-link.ts';
import { agentCommands } from './commands/agent-commands.ts';
import { CommandIntake } from './commands/command-intake.ts';
import { startControlSocket } from './control-socket.ts';
import type { ControlMethod } from './control-socket.ts';
import { Dispatcher } from './dispatcher.ts';
import type { DispatcherCounts } from './dispatcher.ts';
import { HandBack } from './hand-back.ts';
import { Heartbeat } from './heartbeat.ts';
import { countsWith } from './host-absence.ts';
import type { HostAbsence } from './host-absence.ts';
import { makeWorkerHost, sharedRunningTable } from './host-choice.ts';
import type { SupervisedHost, WorkerHostEvents } from './host-link.ts';
import { IdleWatch } from './idle-watch.ts';
import type { AdmissionRules } from './incoming-task.ts';
import { Intake } from './intake.ts';
import { openJournal } from './journal/journal.ts';
import type { Journal } from './journal/journal.ts';
import { agentCookie, sweepLeftovers } from './leftovers.ts';
import type { LiveSettings } from './live-settings.ts';
import { ModeSwitch } from './mode-switch.ts';
import { openObservation } from './observation.ts';
import type { Observation, ObservationOptions } from './observation.ts';
import type { Registrar } from './registration.ts';
import { ResultOutbox } from './result-outbox.ts';
import { ResultUploads } from './result-uploads.ts';
import { ScheduledJobs } from './scheduled-jobs.ts';
import { SignInWatch } from './sign-in-watch.ts';
import { packFailure } from './task-failure.ts';
import type { TaskStatuses } from './task-statuses.ts';
import { Watchdog } from './watchdog.ts';
import { watchedLoops } from './watched-loops.ts';

/** What runs while the agent runs. */
export interface AgentParts {
  readonly endpointId: string;
  readonly journal: Journal;
  readonly outbox: ResultOutbox;
  readonly dispatcher: Dispatcher;
  readonly intake: Intake;
  readonly host: SupervisedHost;
  readonly absence: HostAbsence;
  readonly heartbeat: Heartbeat;
  readonly link: BrokerLink;
  readonly watchdog: Watchdog;
  readonly handBack: HandBack;
  readonly modes: ModeSwitch;
  readonly idle: IdleWatch;
  readonly jobs: ScheduledJobs;
  readonly observation: Observation;
}

/** What the parts are made of, and whom they tell. */
export interface AgentSetUp {
  readonly options: AgentOptions;
  readonly hub: HubClient;
  readonly registrar: Registrar;
  readonly statuses: TaskStatuses;
  readonly releases: ReleaseStack;
  readonly clock: Clock;
  readonly logger: Logger;
  /** ISO 8601: since when the agent runs. */
  readonly since: string;
  readonly controlMethods: Readonly<Record<string, ControlMethod>>;
  /** For whoever looks at the agent from the side. */
  readonly phase: ObservationOptions['phase'];
  readonly parts: () => AgentParts | undefined;
  /** In the environment of everything that this agent starts. */
  readonly onCookie: (cookie: string) => void;
  readonly onStateChange: () => void;
  readonly onFenced: (
    parts: Pick<AgentParts, 'dispatcher' | 'outbox' | 'handBack'>,
    error: Parameters<BrokerLinkOptions['onFenced']>[0],
  ) => void;
  readonly onFatal: BrokerLinkOptions['onFatal'];
  /** The owner has told it through the hub to stop, and with `cancel` not to wait for what runs. */
  readonly onStopCommand: (how: 'stop' | 'cancel') => void;
  /** There is nothing to do for so long that the settings say to stop. */
  readonly onIdle: (reason: string) => void;
}

/** Makes and starts every part. @throws ComputeError; what was acquired by then is on the release stack. */
export async function startParts(setUp: AgentSetUp): Promise<AgentParts> {
  const { options, registrar, releases, statuses, clock, logger } = setUp;
  const { directory, javascriptThreads, pythonInterpreters, reserve } = options;
  // It takes the hub longer than all that is opened here.
  registrar.begin();
  await mkdir(options.workingDir, { recursive: true, mode: 0o700 });
  const observation = await openObservation(
    {
      options,
      phase: setUp.phase,
      parts: setUp.parts,
      whyStarting: () => registrar.lastFailure,
      clock,
      logger,
    },
    releases,
  );
  releases.push('registration', async () => {
    await registrar.end();
  });
  // Workers put the endpoint's id into every result, so a first start needs the hub before anything else.
  const endpointId = options.endpointId ?? (await registrar.obtain()).endpointId;
  const cookie = await agentCookie(directory);
  setUp.onCookie(cookie);
  // Before the journal is read: while the old worker host lives, tasks may still begin in it.
  const { survivors } = await sweepLeftovers(cookie, clock, logger);
  const runningTable = await sharedRunningTable(options, logger);
  const { journal, recovered, notices } = await openJournal({
    directory: join(directory, 'journal'),
    host: thisProcess().host,
    bootId: thisProcess().boot_id,
    // One more than the epoch before: the grant itself comes later, and the journal must be open by then.
    epoch: (options.previousEpoch ?? 0) + 1,
    bytesMax: options.journalBytesMax,
    trustRunningTable: survivors.length === 0,
    ...(runningTable !== undefined && { runningTable }),
    clock,
    logger: logger.child({ component: 'journal' }),
  });
  releases.push('journal', async () => {
    await journal.close();
  });
  for (const notice of notices) {
    logger.warn({ notice }, 'journal notice');
  }
  const control = await startControlSocket({
    path: options.controlSocketPath,
    methods: { ...setUp.controlMethods, ...observation.methods },
    logger: logger.child({ component: 'control' }),
  });
  releases.push('control socket', async () => {
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
    new ResultUploads(setUp.hub, clock, logger.child({ component: 'uploads' })),
  );
  const dispatcher: Dispatcher = new Dispatcher({
    rules: admissionRules(options, options, endpointId),
    reserve,
    maxRetries: options.maxRetries,
    taskTimeoutMs: options.taskTimeoutMs,
    journal,
    outbox,
    statuses,
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
    ...(observation.observer !== undefined && { observer: observation.observer }),
  });
  const intake: Intake = new Intake({
    // Without workers and reserve there is one all the same, so that a task is told why it cannot run; 0 would mean no limit.
    prefetch: Math.max(1, javascriptThreads + pythonInterpreters + reserve),
    logger: logger.child({ component: 'intake' }),
    onDelivery: (delivery, consumer) => {
      dispatcher.offer(delivery, consumer);
    },
    onForget: (consumer) => {
      dispatcher.forget(consumer);
    },
  });
  const events = hostEvents(dispatcher, setUp.onStateChange);
  const absence: HostAbsence = { reason: undefined };
  const onAbsence = (reason: string | undefined): void => {
    absence.reason = reason;
    setUp.onStateChange();
  };
  const host: SupervisedHost = makeWorkerHost(
    { options, endpointId, cookie, runningTable: journal.runningTablePath, onAbsence, clock, logger }, // prettier-ignore
    observation.environments.noting(observation.restarts.counting(events)),
  );
  await host.start();
  releases.push('worker host', async () => {
    await host.stop();
  });
  const handBack = new HandBack({ hub: setUp.hub, registrar, dispatcher, journal, logger });
  const modes: ModeSwitch = new ModeSwitch({
    record: options.mode,
    save: options.saveMode,
    intake,
    dispatcher,
    handBack,
    clock,
    logger: logger.child({ component: 'mode' }),
    onChange: () => {
      heartbeat.reportNow();
      setUp.onStateChange();
    },
  });
  modes.begin();
  dispatcher.recover(recovered);
  if (recovered.length > 0) {
    logger.info({ count: recovered.length }, 'recovered tasks from the journal');
  }
  const commands = new CommandIntake({
    methods: agentCommands(setUp.controlMethods, setUp.onStopCommand),
    epoch: () => registrar.current?.epoch,
    onOutcome: () => {
      heartbeat.reportNow();
    },
    clock,
    logger: logger.child({ component: 'commands' }),
  });
  const idle = new IdleWatch({
    soft: options.idleHeartbeatsSoft,
    hard: options.idleHeartbeatsHard,
  });
  const heartbeat = new Heartbeat({
    periodMs: options.heartbeatPeriodMs,
    statuses,
    describe: () => ({
      ...describeToHub(countsWith(absence, dispatcher.counts), modes, setUp.since),
      ...(commands.last !== undefined && { last_command: commands.last }),
    }),
    onPeriod: () => {
      const reason = idle.onHeartbeat(dispatcher.work(modes.document.state === 'running'));
      if (reason !== undefined) {
        setUp.onIdle(reason);
      }
    },
    clock,
    logger: logger.child({ component: 'heartbeat' }),
  });
  const link = new BrokerLink({
    name: options.name,
    ...(options.ca !== undefined && { ca: options.ca }),
    registrar,
    intake,
    commands,
    outbox,
    heartbeat,
    clock,
    logger: logger.child({ component: 'broker' }),
    onStateChange: setUp.onStateChange,
    onFenced: (error) => {
      setUp.onFenced({ dispatcher, outbox, handBack }, error);
    },
    onFatal: setUp.onFatal,
  });
  link.start();
  releases.push('broker sessions', async () => {
    registrar.stop();
    await link.stop();
    outbox.stop();
    heartbeat.pause();
  });
  if (options.watchesSignIn === true) {
    const signInWatch = new SignInWatch({
      tokens: options.tokens,
      ask: async (signal) => await setUp.hub.endpointStatus(endpointId, signal),
      onChange: (failure) => {
        link.holdBack(failure);
      },
      clock,
      logger: logger.child({ component: 'sign-in' }),
    });
    signInWatch.start();
    releases.push('watch over the login', () => {
      signInWatch.stop();
    });
  }
  const watchdog = new Watchdog({
    loops: watchedLoops({ link, registrar, outbox, heartbeat, journal, host, clock }),
    clock,
    logger: logger.child({ component: 'watchdog' }),
  });
  watchdog.start();
  releases.push('watchdog', () => {
    watchdog.stop();
  });
  const jobs = new ScheduledJobs({ clock, logger: logger.child({ component: 'scheduled-jobs' }) });
  releases.push('scheduled jobs', async () => {
    modes.stop();
    await jobs.stop();
  });
  return {
    endpointId,
    journal,
    outbox,
    dispatcher,
    intake,
    host,
    absence,
    heartbeat,
    link,
    watchdog,
    handBack,
    modes,
    idle,
    jobs,
    observation,
  };
}

/** Which tasks this endpoint accepts. */
export function admissionRules(
  options: AgentOptions,
  { allowedFunctions, allowedSerializers }: LiveSettings,
  endpointId: string,
): AdmissionRules {
  const { javascriptThreads, pythonInterpreters, batchScheduler } = options;
  return {
    endpointId,
    allowedFunctions: allowedFunctions === undefined ? undefined : new Set(allowedFunctions),
    ...(options.environments !== undefined && { environments: options.environments.rules }),
    ...(allowedSerializers !== undefined && {
      allowedSerializers: new Set(allowedSerializers),
    }),
    places: { javascript: javascriptThreads, python: pythonInterpreters },
    ...(batchScheduler !== undefined && { batchScheduler }),
  };
}

function hostEvents(dispatcher: Dispatcher, onChange: () => void): WorkerHostEvents {
  return {
    onReady: (frame) => {
      dispatcher.onHostReady(frame);
      onChange();
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
      onChange();
    },
    onLost: (reason) => {
      dispatcher.onHostLost(reason);
    },
    onBroken: (reason) => {
      dispatcher.onHostBroken(reason);
      onChange();
    },
  };
}

/** `global_state`: the keys that the hub's status document reads (protocol.md 10.2), and ours. */
function describeToHub(
  { running, waiting, slots, degraded }: DispatcherCounts,
  modes: ModeSwitch,
  since: string,
): Record<string, unknown> {
  const total = slots.javascript + slots.python;
  return {
    engine_type: 'OutpostWorkerHost',
    total_workers: total,
    idle_workers: Math.max(0, total - running),
    pending_tasks: waiting,
    outstanding_tasks: running,
    managers: 1,
    degraded,
    mode: modes.document,
    posix_pid: process.pid,
    start_iso: since,
  };
}

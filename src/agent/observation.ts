/**
 * What looks at an agent from the side: the kept output of its tasks, its restarts, the methods of the control socket that show both,
 * and the listener for health and metrics where one is configured. Tasks depend on none of it.
 */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { ReleaseStack } from '../base/release-stack.ts';
import type { AgentOptions } from './agent-options.ts';
import type { AgentPhase } from './agent-phase.ts';
import type { ControlMethod } from './control-socket.ts';
import { EnvironmentReports } from './environment-reports.ts';
import type { ReadParts } from './health/agent-readings.ts';
import { inspectionMethods } from './inspection-methods.ts';
import { RestartCounts } from './restart-counts.ts';
import { taskLogDirectory } from './task-logs/task-log-files.ts';
import { TaskLogs } from './task-logs/task-logs.ts';
import { allObservers } from './task-observer.ts';
import type { TaskObserver } from './task-observer.ts';

/** Whom it looks at. */
export interface ObservationOptions {
  readonly options: AgentOptions;
  readonly phase: () => AgentPhase;
  /** Undefined while the agent starts. */
  readonly parts: () => Omit<ReadParts, 'restarts' | 'environments'> | undefined;
  readonly whyStarting: () => string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What was opened. */
export interface Observation {
  /** Has to be told of tasks. */
  readonly observer: TaskObserver | undefined;
  readonly restarts: RestartCounts;
  readonly environments: EnvironmentReports;
  readonly taskLogs: TaskLogs;
  /** For the control socket. */
  readonly methods: Readonly<Record<string, ControlMethod>>;
}

/** Begins to look; `releases` takes how to end it. */
export async function openObservation(
  { options, phase, parts, whyStarting, clock, logger }: ObservationOptions,
  releases: ReleaseStack,
): Promise<Observation> {
  const restarts = new RestartCounts();
  const environments = new EnvironmentReports();
  const taskLogs = new TaskLogs({
    directory: taskLogDirectory(options.directory),
    bounds: options.taskLogs,
    clock,
    logger: logger.child({ component: 'task-logs' }),
  });
  releases.push('output of tasks', async () => {
    await taskLogs.close();
  });
  let metricsObserver: TaskObserver | undefined;
  if (options.metricsListen !== undefined) {
    // Loaded only here: an agent that nobody watches pays nothing for it.
    const { openMonitoring } = await import('./health/monitoring.ts');
    const monitoring = await openMonitoring({
      target: options.metricsListen,
      tokens: options.tokens,
      places: { javascript: options.javascriptThreads, python: options.pythonInterpreters },
      reserve: options.reserve,
      journalBytesMax: options.journalBytesMax,
      phase,
      parts: () => {
        const running = parts();
        return running && { ...running, restarts, environments };
      },
      whyStarting,
      clock,
      logger: logger.child({ component: 'monitoring' }),
    });
    releases.push('health and metrics', monitoring.close);
    metricsObserver = monitoring.observer;
  }
  return {
    observer: allObservers([taskLogs, metricsObserver]),
    restarts,
    environments,
    taskLogs,
    methods: inspectionMethods({ parts, taskLogs, logControl: options.logControl, logger }),
  };
}

/** Which worker host an agent has: a child of its own, or one that a unit of another user starts; and what it is told. */
import { rm } from 'node:fs/promises';
import { isAbsolute, relative } from 'node:path';

import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HostConfig } from '../protocol/host-frames.ts';
import type { AgentOptions } from './agent-options.ts';
import type { SupervisedHost, WorkerHostEvents } from './host-link.ts';
import { UnitWorkerHost, checkMeetingPlace, unitHostPaths } from './unit-worker-host.ts';
import type { UnitHostPaths } from './unit-worker-host.ts';
import { WorkerHost } from './worker-host.ts';

/** What a host is made from. */
export interface HostSetUp {
  readonly options: AgentOptions;
  readonly endpointId: string;
  /** In the environment of everything that the agent starts. */
  readonly cookie: string;
  /** Path of the table of running tasks. */
  readonly runningTable: string;
  /** A host that somebody else starts has not come for long; undefined: it is there again. */
  readonly onAbsence: (reason: string | undefined) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Where the table of running tasks lies when it cannot lie in the journal, because another user's host marks it.
 *
 * @throws ConfigError when there is no place for it.
 */
export async function sharedRunningTable(
  options: AgentOptions,
  logger: Logger,
): Promise<{ readonly path: string; readonly mode: number } | undefined> {
  const paths = meetingPaths(options);
  if (paths === undefined) {
    return undefined;
  }
  if (options.workerHost === 'unit') {
    await checkMeetingPlace(paths);
    return { path: paths.runningTable, mode: 0o660 };
  }
  try {
    // It would be believed when the setting changes back.
    await rm(paths.runningTable, { force: true });
  } catch (error) {
    logger.debug({ reason: errorText(error) }, 'a table of running tasks of another user stays');
  }
  return undefined;
}

/** Makes the host; it is not started. */
export function makeWorkerHost(setUp: HostSetUp, events: WorkerHostEvents): SupervisedHost {
  const { options, onAbsence, clock } = setUp;
  const logger = setUp.logger.child({ component: 'worker-host' });
  const config = hostConfig(setUp);
  const paths = meetingPaths(options);
  if (options.workerHost === 'unit' && paths !== undefined) {
    const workingDir = withinHost(options);
    return new UnitWorkerHost(
      { name: options.name, config: { ...config, workingDir }, paths, onAbsence, clock, logger },
      events,
    );
  }
  return new WorkerHost(
    {
      config,
      socketPath: `${options.controlSocketPath}.h`,
      environment: options.baseEnvironment,
      cookie: setUp.cookie,
      clock,
      logger,
    },
    events,
  );
}

function meetingPaths({
  workerSocketDirectory,
  workerHost,
  name,
}: AgentOptions): UnitHostPaths | undefined {
  // A name that is too long for a meeting place matters only to those who want one.
  return workerSocketDirectory === undefined || (workerHost !== 'unit' && name.length > 64)
    ? undefined
    : unitHostPaths(workerSocketDirectory, name);
}

/** The endpoint's own directory is closed to a host of another user: what lies in it begins in the host's directory instead. */
function withinHost({ directory, workingDir }: AgentOptions): string {
  const inside = relative(directory, workingDir);
  return inside === '' || inside.startsWith('..') || isAbsolute(inside) ? workingDir : inside;
}

function hostConfig({ options, endpointId, runningTable }: HostSetUp): HostConfig {
  return {
    endpointId,
    javascript: { threads: options.javascriptThreads, heapMb: options.javascriptHeapMb },
    python: {
      interpreters: options.pythonInterpreters,
      executable: options.python,
      memoryMb: options.workerMemoryMb ?? 0,
    },
    nice: options.workerNice ?? 0,
    workingDir: options.workingDir,
    runInSandbox: options.runInSandbox,
    resultCharsMax: options.resultCharsMax,
    outputBytesMax: options.outputBytesMax,
    killGraceMs: options.killGraceMs,
    runningTable,
    startTimeoutMs: options.workerStartTimeoutMs,
    environment: options.environment,
    ...(options.environments !== undefined && { environments: options.environments }),
  };
}

/** Methods of the control socket for looking at a running agent: its open tasks, what is known of one, and how much it logs. */
import { UsageError } from '../base/errors.ts';
import type { LogControl, LogLevels, Logger } from '../base/logger.ts';
import { canonicalUuid } from '../protocol/messages.ts';
import type { ControlMethod } from './control-socket.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { Journal } from './journal/journal.ts';
import type { TaskLogs } from './task-logs/task-logs.ts';
import type { TaskTimeline } from './task-timeline.ts';

/** An answer must fit into a line of the control socket; results that wait for an outage to end may be many. */
const LISTED_COUNT_MAX = 2_000;
const LEVELS: readonly string[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'];
/** What a timer can hold. */
const LEVEL_MS_MAX = 7 * 24 * 3600 * 1000;

/** The answer to `tasks`. */
export interface HeldTasks {
  readonly total: number;
  readonly tasks: readonly TaskTimeline[];
}

/** The answer to `task`. */
export interface KnownTask {
  /** Null unless the agent holds it now. */
  readonly task: TaskTimeline | null;
  /** What the journal says of the id: never seen, open, or answered within the last days. */
  readonly journal: 'new' | 'live' | 'confirmed';
}

/** What is looked at. */
export interface InspectedParts {
  readonly dispatcher: Dispatcher;
  readonly journal: Journal;
}

/** The methods; `parts` is undefined while the agent starts. */
export function inspectionMethods(options: {
  readonly parts: () => InspectedParts | undefined;
  readonly taskLogs: TaskLogs;
  readonly logControl: LogControl | undefined;
  readonly logger: Logger;
}): Readonly<Record<string, ControlMethod>> {
  const { parts, taskLogs, logControl, logger } = options;
  const setLogLevel: ControlMethod = ({ level, for_ms: forMs }): LogLevels => {
    if (logControl === undefined) {
      throw new UsageError('the log of this agent belongs to the program that runs it');
    }
    const levels = logControl.setLevel(levelOf(level), durationOf(forMs));
    logger.info({ ...levels }, 'the level of the log was changed');
    return levels;
  };
  return {
    tasks: (): HeldTasks => {
      const dispatcher = parts()?.dispatcher;
      return {
        total: dispatcher?.heldCount ?? 0,
        tasks: dispatcher?.tasks(LISTED_COUNT_MAX) ?? [],
      };
    },
    task: async (params): Promise<KnownTask> => {
      const taskId = taskIdOf(params['task_id']);
      // What it has printed may not be in the files yet, where the caller looks next.
      await taskLogs.flush();
      const running = parts();
      return {
        task: running?.dispatcher.task(taskId) ?? null,
        journal: running?.journal.lookup(taskId) ?? 'new',
      };
    },
    set_log_level: setLogLevel,
  };
}

function taskIdOf(value: unknown): string {
  const taskId = typeof value === 'string' ? canonicalUuid(value) : undefined;
  if (taskId === undefined) {
    throw new UsageError('task_id must be a UUID');
  }
  return taskId;
}

/** Null goes back to what the settings say. */
function levelOf(value: unknown): string | undefined {
  if (value === null) {
    return undefined;
  }
  if (typeof value !== 'string' || !LEVELS.includes(value)) {
    throw new UsageError(
      `level must be one of ${LEVELS.join(', ')}, or null for the settings' own`,
    );
  }
  return value;
}

function durationOf(value: unknown): number | undefined {
  if (value === undefined) {
    return undefined;
  }
  if (typeof value !== 'number' || !(value > 0 && value <= LEVEL_MS_MAX)) {
    throw new UsageError('for_ms must be a number of milliseconds, at most a week');
  }
  return value;
}

/** When a cron expression came last and comes next, in the time zone of this process. */
import { createTask, parse } from 'node-cron';
import type { ParsedFields, ScheduledTask } from 'node-cron';

/** Fields of an expression that say on which days it comes. */
const DAY_FIELDS = 3;

/** No schedule that comes at all comes more rarely than 29 February around a century that has none. */
const DAYS_MAX = 8 * 366 + 1;

/** The last time at or before `now`; undefined when there was none in eight years. */
export function previousRun(expression: string, now: Date): Date | undefined {
  const fields = parse(expression);
  const days = expression.trim().split(/\s+/).slice(-DAY_FIELDS).join(' ');
  return withTask(`* * * ${days}`, (task) => {
    for (let daysBack = 0; daysBack <= DAYS_MAX; daysBack += 1) {
      const day = new Date(now.getFullYear(), now.getMonth(), now.getDate() - daysBack);
      const found = lastTimeOfDay(task, fields, day, now);
      if (found !== undefined) {
        return found;
      }
    }
    return undefined;
  });
}

/** The next time from now on; null when it never comes. */
export function nextRun(expression: string): Date | null {
  return withTask(expression, (task) => {
    try {
      return task.getNextRuns(1)[0] ?? null;
    } catch {
      // What the library throws when it has looked far enough ahead.
      return null;
    }
  });
}

function lastTimeOfDay(
  task: ScheduledTask,
  { hour, minute, second }: ParsedFields,
  day: Date,
  now: Date,
): Date | undefined {
  for (const hours of descending(hour)) {
    for (const minutes of descending(minute)) {
      for (const seconds of descending(second)) {
        const time = new Date(day);
        time.setHours(hours, minutes, seconds, 0);
        // A clock that is put forward skips some times: they have come an hour later, as nothing else ends a window on that day.
        if (time > now) {
          continue;
        }
        // The times of day are all the schedule's own; what is left to ask is whether the day is.
        return task.match(time) ? time : undefined;
      }
    }
  }
  return undefined;
}

function descending(values: readonly number[]): number[] {
  return [...values].sort((one, other) => other - one);
}

function withTask<T>(expression: string, use: (task: ScheduledTask) => T): T {
  const task = createTask(expression, () => undefined);
  try {
    return use(task);
  } finally {
    // The library keeps a list of all tasks. Nothing runs in this one, so there is nothing to wait for.
    const ended = task.destroy();
    ended?.catch(() => undefined);
  }
}

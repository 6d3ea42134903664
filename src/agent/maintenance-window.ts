/**
 * Maintenance windows: what `drain_at` and `resume_at` ask for at a given time, worked out from the two schedules and not from having
 * seen them come. So a window that began while the machine slept or the agent was down is found all the same.
 *
 * The schedule undoes only what it has done itself, and what somebody asks for after a window has begun stands until the next event.
 */
import { SCHEDULE } from './agent-mode.ts';
import type { ModeRecord, RequestedMode } from './agent-mode.ts';
import { nextRun, previousRun } from './cron-times.ts';

/** Cron expressions of the begin and the end of windows. */
export interface MaintenanceWindow {
  readonly drainAt: string;
  readonly resumeAt: string;
}

/** What the schedule asks for. */
export interface ScheduledChange {
  readonly mode: RequestedMode;
  readonly by: string;
  readonly reason: string | null;
  readonly before?: ModeRecord;
}

/** A clock that was ahead by more than this when somebody asked was wrong; less is an adjustment. */
const CLOCK_AHEAD_MS = 3_600_000;

/** What is to be changed now, if anything. */
export function scheduledChange(
  window: MaintenanceWindow,
  record: ModeRecord | undefined,
  now: Date,
): ScheduledChange | undefined {
  const drainedAt = previousRun(window.drainAt, now)?.getTime() ?? -Infinity;
  const resumedAt = previousRun(window.resumeAt, now)?.getTime() ?? -Infinity;
  const isOpen = drainedAt > resumedAt;
  const since = record === undefined ? -Infinity : Date.parse(record.since);
  if (since >= Math.max(drainedAt, resumedAt) && since <= now.getTime() + CLOCK_AHEAD_MS) {
    return undefined;
  }
  if (isOpen) {
    return record?.mode === 'drained' ? undefined : beginOfWindow(window, record);
  }
  if (record?.by !== SCHEDULE || record.mode !== 'drained') {
    return undefined;
  }
  // Whoever had paused the endpoint before the window has not said anything since.
  const { before } = record;
  return before === undefined
    ? { mode: 'running', by: SCHEDULE, reason: null }
    : { mode: before.mode, by: before.by, reason: before.reason };
}

function beginOfWindow(
  { resumeAt }: MaintenanceWindow,
  record: ModeRecord | undefined,
): ScheduledChange {
  const until = nextRun(resumeAt);
  return {
    mode: 'drained',
    by: SCHEDULE,
    reason: until === null ? 'maintenance' : `maintenance until ${until.toISOString()}`,
    ...(record?.mode === 'paused' && { before: record }),
  };
}

/** What an agent does by the clock: clean-up, the upkeep of its journal, maintenance windows. */
import type { Clock } from '../base/clock.ts';
import { removeLeftovers } from './clean-up.ts';
import type { Journal } from './journal/journal.ts';
import type { LiveSettings } from './live-settings.ts';
import { scheduledChange } from './maintenance-window.ts';
import type { MaintenanceWindow } from './maintenance-window.ts';
import type { ModeSwitch } from './mode-switch.ts';
import type { ScheduledJob } from './scheduled-jobs.ts';

const CLEAN_UP_LIMIT_MS = 10 * 60_000;
const COMPACTION_LIMIT_MS = 10 * 60_000;
const MODE_LIMIT_MS = 30_000;
const WINDOW_CHECK_SCHEDULE = '*/30 * * * *';

/** What the jobs work on. */
export interface JobParts {
  /** Directory of the endpoint. */
  readonly directory: string;
  readonly journal: Pick<Journal, 'compact'>;
  readonly modes: Pick<ModeSwitch, 'record' | 'change'>;
  readonly clock: Clock;
  /** What else is removed once a night; each says what it did. */
  readonly cleaners?: readonly ((signal: AbortSignal) => Promise<string | undefined>)[];
}

/** The jobs that the settings ask for. */
export function agentJobs(parts: JobParts, settings: LiveSettings): ScheduledJob[] {
  const schedule = settings.cleanupSchedule;
  const window = windowOf(settings);
  const applyWindow = async (): Promise<string | undefined> => await keepWindow(parts, settings);
  return [
    {
      name: 'clean-up',
      schedule,
      limitMs: CLEAN_UP_LIMIT_MS,
      run: async (signal) => await cleanUp(parts, signal),
    },
    {
      name: 'journal compaction',
      schedule,
      limitMs: COMPACTION_LIMIT_MS,
      run: async () => {
        const bytes = await parts.journal.compact();
        return bytes === 0 ? undefined : `freed ${bytes} bytes`;
      },
    },
    ...(window === undefined
      ? []
      : [
          {
            name: 'drain for maintenance',
            schedule: window.drainAt,
            limitMs: MODE_LIMIT_MS,
            run: applyWindow,
          },
          {
            name: 'resume after maintenance',
            schedule: window.resumeAt,
            limitMs: MODE_LIMIT_MS,
            run: applyWindow,
          },
          {
            // A clock that was set skips times, and a full disk keeps no wish.
            name: 'maintenance window',
            schedule: WINDOW_CHECK_SCHEDULE,
            limitMs: MODE_LIMIT_MS,
            run: applyWindow,
          },
        ]),
  ];
}

/** Brings the mode in line with the maintenance windows: at their times, at the start and when the settings have changed. */
export async function keepWindow(
  { modes, clock }: Pick<JobParts, 'modes' | 'clock'>,
  settings: LiveSettings,
): Promise<string | undefined> {
  const window = windowOf(settings);
  if (window === undefined) {
    return undefined;
  }
  // Judged when its turn has come: the two ends of a window may be near each other.
  const isChanged = await modes.change((record) =>
    scheduledChange(window, record, new Date(clock.now())),
  );
  return isChanged ? modes.record?.mode : undefined;
}

function windowOf({ drainAt, resumeAt }: LiveSettings): MaintenanceWindow | undefined {
  return drainAt === undefined || resumeAt === undefined ? undefined : { drainAt, resumeAt };
}

async function cleanUp(
  { directory, clock, cleaners = [] }: JobParts,
  signal: AbortSignal,
): Promise<string | undefined> {
  const removed = await removeLeftovers(directory, clock.now(), signal);
  const said = [removed.length === 0 ? undefined : `removed ${removed.length} leftovers`];
  for (const clean of cleaners) {
    signal.throwIfAborted();
    said.push(await clean(signal));
  }
  const texts = said.filter((text) => text !== undefined);
  return texts.length === 0 ? undefined : texts.join('; ');
}

/**
 * The settings that a running agent takes over when its files are read again, and the report of such a reading. All others wait for
 * the next start; the table of options says which is which.
 */
import type { ConfigProblem } from '../base/errors.ts';
import type { TaskLogBounds } from './task-logs/task-log-files.ts';

/** Settings that can change while the agent runs. */
export interface LiveSettings {
  readonly displayName?: string;
  /** Ids of the only functions that may run; undefined means all. */
  readonly allowedFunctions?: readonly string[];
  /** Identifiers of the only serializers that are accepted; undefined means all. */
  readonly allowedSerializers?: readonly string[];
  /** Wall-clock limit of a task; 0 means none. */
  readonly taskTimeoutMs: number;
  /** How often a task is started again after its worker was lost. */
  readonly maxRetries: number;
  readonly drainGraceMs: number;
  readonly heartbeatPeriodMs: number;
  /** Heartbeats without work after which the agent stops; 0: never. */
  readonly idleHeartbeatsSoft: number;
  /** As that, while there was no work yet or something hangs; 0: never. */
  readonly idleHeartbeatsHard: number;
  /** Cron expression. */
  readonly cleanupSchedule: string;
  /** Begin and end of maintenance windows, as cron expressions; both or none. */
  readonly drainAt: string | undefined;
  readonly resumeAt: string | undefined;
  /** How much of what tasks print is kept here, and for how long. */
  readonly taskLogs: TaskLogBounds;
}

/** A setting that has changed. */
export interface SettingChange {
  readonly key: string;
  /** As in config.yaml; null: not set. */
  readonly from: unknown;
  readonly to: unknown;
}

/** What was found when the files were read again. */
export interface SettingsReading {
  readonly settings: LiveSettings;
  readonly applied: readonly SettingChange[];
  readonly restartNeeded: readonly SettingChange[];
}

/** How reading the settings again ended; what `agent reload --json` prints. */
export interface ReloadReport {
  /** ISO 8601. */
  readonly at: string;
  /** False: the settings are wrong, and the agent goes on with those that it had. */
  readonly ok: boolean;
  readonly applied: readonly SettingChange[];
  /** Changed since the agent was started, and waiting for its next start. */
  readonly restart_needed: readonly SettingChange[];
  readonly problems: readonly ConfigProblem[];
  /** What is wrong, in words. */
  readonly error: string | null;
}

/** Whether the hub has to be told. */
export function concernsHub(old: LiveSettings, next: LiveSettings): boolean {
  return (
    old.displayName !== next.displayName ||
    !isSameList(old.allowedFunctions, next.allowedFunctions) ||
    !isSameList(old.allowedSerializers, next.allowedSerializers)
  );
}

function isSameList(
  one: readonly string[] | undefined,
  other: readonly string[] | undefined,
): boolean {
  return one?.join() === other?.join();
}

/**
 * Whether an endpoint takes tasks: what somebody has asked for, and how far that has come.
 *
 *   asked for   shown      new tasks          tasks that are held      tasks that run
 *   running     running    are taken          run                      go on
 *   paused      paused     stay at the hub    run                      go on
 *   drained     draining   stay at the hub    are handed back          go on; while there are any
 *   drained     drained    stay at the hub    none are left            none are left
 *
 * What was asked for outlives the process: it stands in a file of the endpoint's directory, with when, by whom and why.
 */

/** What can be asked for. */
export type RequestedMode = 'running' | 'paused' | 'drained';

/** How far that has come. */
export type ModeState = RequestedMode | 'draining';

/** Who asks when it is the schedule of maintenance windows. */
export const SCHEDULE = 'schedule';

/** What was asked for last, as it is kept. */
export interface ModeRecord {
  readonly mode: RequestedMode;
  /** ISO 8601. */
  readonly since: string;
  /** Name of a user of this machine, or {@link SCHEDULE}. */
  readonly by: string;
  readonly reason: string | null;
  /** What comes back when a maintenance window ends. */
  readonly before?: Omit<ModeRecord, 'before'>;
}

/** A mode as commands and heartbeats show it. */
export interface ModeDocument {
  readonly state: ModeState;
  /** Null as long as nobody has asked for anything. */
  readonly since: string | null;
  readonly by: string | null;
  readonly reason: string | null;
}

/** The mode of an endpoint that nobody has asked anything of. */
export const RUNNING: ModeDocument = { state: 'running', since: null, by: null, reason: null };

const MODES: readonly unknown[] = ['running', 'paused', 'drained'] satisfies RequestedMode[];

/** A record as text for its file. */
export function encodeModeRecord(record: ModeRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** The record of a file; undefined when the text is none. */
export function decodeModeRecord(text: string): ModeRecord | undefined {
  try {
    return readRecord(JSON.parse(text));
  } catch (error) {
    if (error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

/** A record as commands show it, when the agent itself cannot be asked. */
export function modeDocument(record: ModeRecord | undefined): ModeDocument {
  if (record === undefined) {
    return RUNNING;
  }
  const { mode, since, by, reason } = record;
  return { state: mode, since, by, reason };
}

function readRecord(value: unknown): ModeRecord | undefined {
  if (typeof value !== 'object' || value === null) {
    return undefined;
  }
  const { mode, since, by, reason, before } = value as Readonly<Record<string, unknown>>;
  const isRecord =
    MODES.includes(mode) &&
    typeof by === 'string' &&
    typeof since === 'string' &&
    !Number.isNaN(Date.parse(since));
  if (!isRecord) {
    return undefined;
  }
  const earlier = readRecord(before);
  return {
    mode: mode as RequestedMode,
    since,
    by,
    reason: typeof reason === 'string' ? reason : null,
    ...(earlier !== undefined && { before: earlier }),
  };
}

/** Counts interpreters in execution environments for the operator, and tells of changes: at most a few times a second, whatever tasks do. */
import type { Clock } from '../../base/clock.ts';
import { ENVIRONMENT_REPORTS_MAX } from '../../protocol/host-frames.ts';
import type { EnvironmentReport } from '../../protocol/host-frames.ts';
import type { TaskEnvironment } from '../../protocol/sharing.ts';

const PERIOD_MS = 250;
const REASON_CHARS_MAX = 1000;

/** What is counted, one entry for each interpreter or each environment that does not start. */
export interface Counted {
  readonly environment: TaskEnvironment;
  readonly state: 'running' | 'idle' | 'starting' | { readonly reason: string };
}

/** Tells of changes. */
export class EnvironmentCensus {
  readonly #clock: Clock;
  readonly #count: () => readonly Counted[];
  readonly #onChange: (reports: readonly EnvironmentReport[]) => void;
  #isDue = false;
  #told = '[]';

  constructor(
    clock: Clock,
    count: () => readonly Counted[],
    onChange: (reports: readonly EnvironmentReport[]) => void,
  ) {
    this.#clock = clock;
    this.#count = count;
    this.#onChange = onChange;
  }

  /** Something may have changed. */
  changed(): void {
    if (this.#isDue) {
      return;
    }
    this.#isDue = true;
    this.#clock.after(
      PERIOD_MS,
      () => {
        this.#isDue = false;
        this.#tell();
      },
      { background: true },
    );
  }

  #tell(): void {
    const reports = environmentReports(this.#count());
    const text = JSON.stringify(reports);
    if (text !== this.#told) {
      this.#told = text;
      this.#onChange(reports);
    }
  }
}

/** One report for each environment; those that do not start come first, because somebody has to see to them. */
export function environmentReports(counted: readonly Counted[]): EnvironmentReport[] {
  const reports = new Map<string, EnvironmentReport>();
  for (const { environment, state } of counted) {
    const { type, location } = environment;
    const key = `${type}:${location}`;
    const before = reports.get(key) ?? { type, location, running: 0, idle: 0, starting: 0 };
    reports.set(
      key,
      typeof state === 'string'
        ? { ...before, [state]: before[state] + 1 }
        : { ...before, reason: state.reason.slice(0, REASON_CHARS_MAX) },
    );
  }
  const all = [...reports.values()];
  const failing = all.filter(({ reason }) => reason !== undefined);
  const working = all.filter(({ reason }) => reason === undefined);
  return [...failing, ...working].slice(0, ENVIRONMENT_REPORTS_MAX);
}

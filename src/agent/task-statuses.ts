/**
 * Collects what happened to tasks until the next report to the hub. Only the last state of a task that still lives is kept, so a
 * burst of short tasks costs nothing: their results say it all.
 *
 * A state leaves this table when the broker has confirmed the report that carried it. Until then it is remembered with that report,
 * and comes back if the report was lost, unless there is something newer to say about the task or nothing any more.
 */
import type { Clock } from '../base/clock.ts';
import { nanoseconds } from '../protocol/task-state.ts';
import type { TaskState, TaskTransition } from '../protocol/task-state.ts';

/** Bound on what one report may carry; the rest waits for the next one. */
const REPORT_COUNT_MAX = 2_000;

/** What one report carries, until it is known whether it arrived. */
export interface TakenStatuses {
  readonly report: Readonly<Record<string, readonly TaskTransition[]>>;
  /** The broker has the report. */
  confirm: () => void;
  /** It may not have arrived: what still holds goes with the next one. */
  giveBack: () => void;
}

/** Transitions that the hub has not been told yet. */
export class TaskStatuses {
  readonly #clock: Clock;
  #states = new Map<string, TaskTransition>();
  /** Reports under way. */
  readonly #taken = new Set<Map<string, TaskTransition>>();
  #onChange: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls back when there is something to report. */
  onChange(listener: () => void): void {
    this.#onChange = listener;
  }

  /** Notes the state of a task. */
  record(taskId: string, state: Extract<TaskState, 'received' | 'running'>): void {
    const timestamp = nanoseconds(this.#clock.now());
    this.#states.set(taskId, { timestamp, state, actor: 'endpoint' });
    this.#onChange();
  }

  /** There is nothing to say about the task any more: its result will tell, or it was handed back. */
  drop(taskId: string): void {
    this.#states.delete(taskId);
    for (const taken of this.#taken) {
      taken.delete(taskId);
    }
  }

  /** Takes out what is to be reported now. */
  take(): TakenStatuses {
    const taken = new Map<string, TaskTransition>();
    for (const [taskId, transition] of this.#states) {
      if (taken.size === REPORT_COUNT_MAX) {
        break;
      }
      taken.set(taskId, transition);
      this.#states.delete(taskId);
    }
    this.#taken.add(taken);
    const report = Object.fromEntries(
      [...taken].map(([taskId, transition]) => [taskId, [transition]] as const),
    );
    return {
      report,
      confirm: () => {
        this.#taken.delete(taken);
      },
      giveBack: () => {
        if (this.#taken.delete(taken) && taken.size > 0) {
          // Before the newer ones, which win.
          this.#states = new Map([...taken, ...this.#states]);
          this.#onChange();
        }
      },
    };
  }

  get size(): number {
    return this.#states.size;
  }
}

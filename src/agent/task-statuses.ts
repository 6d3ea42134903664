/**
 * Collects what happened to tasks until the next report to the hub. Only the last state of a task that still lives is kept, so a
 * burst of short tasks costs nothing: their results say it all.
 */
import type { Clock } from '../base/clock.ts';
import { nanoseconds } from '../protocol/task-state.ts';
import type { TaskState, TaskTransition } from '../protocol/task-state.ts';

/** Bound on what one report may carry; the rest waits for the next one. */
const REPORT_COUNT_MAX = 2_000;

/** Transitions that the hub has not been told yet. */
export class TaskStatuses {
  readonly #clock: Clock;
  readonly #states = new Map<string, TaskTransition>();
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

  /** The task has ended: its result will tell. */
  drop(taskId: string): void {
    this.#states.delete(taskId);
  }

  /** Takes out what is to be reported now. */
  take(): Record<string, TaskTransition[]> {
    const report: Record<string, TaskTransition[]> = {};
    let count = 0;
    for (const [taskId, transition] of this.#states) {
      if (count === REPORT_COUNT_MAX) {
        break;
      }
      count += 1;
      report[taskId] = [transition];
      this.#states.delete(taskId);
    }
    return report;
  }

  get size(): number {
    return this.#states.size;
  }
}

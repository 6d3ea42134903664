/** The way of an open task so far, for `agent tasks`: its states, each with the time at which it was reached. */
import type { Clock } from '../base/clock.ts';
import type { Language } from '../protocol/serialization.ts';
import type { HeldTask, TaskPhase } from './held-task.ts';

/** States that have a time. */
export type TimedState = 'received' | 'running' | 'ended';

/** A task that the agent holds. */
export interface TaskTimeline {
  readonly taskId: string;
  readonly functionId: string;
  readonly language: Language;
  /** Where it is now. */
  readonly phase: TaskPhase;
  readonly attempts: number;
  /** In order; `running` is that of the current attempt. Of a task of an earlier run of the agent, what was before is not known. */
  readonly states: readonly { readonly state: TimedState; readonly at: string }[];
}

/** Tells the way of a task. */
export function taskTimeline(task: HeldTask, clock: Clock): TaskTimeline {
  const { taskId, meta, phase, attempts, receivedAtMs, begunAtMs, endedAtMs } = task;
  // Kept on the clock that never jumps, shown on the wall's.
  const epochOfZeroMs = clock.now() - clock.monotonicMs();
  const reached: readonly (readonly [TimedState, number])[] = [
    ['received', receivedAtMs],
    ['running', begunAtMs],
    ['ended', endedAtMs],
  ];
  return {
    taskId,
    functionId: meta.functionId,
    language: meta.language,
    phase,
    attempts,
    states: reached
      .filter(([, atMs]) => atMs > 0)
      .map(([state, atMs]) => ({ state, at: new Date(epochOfZeroMs + atMs).toISOString() })),
  };
}

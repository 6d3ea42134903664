/**
 * Who wants to know what becomes of tasks: the kept output, and the metrics when somebody listens. Called from the dispatcher on the
 * hot path, so an observer takes notes and returns; none may throw.
 */
import type { TaskOutput } from '../protocol/host-frames.ts';
import type { HeldTask } from './held-task.ts';
import type { TaskFailure } from './task-failure.ts';

/** How an attempt to run a task ended. */
export interface TaskEnd {
  readonly task: HeldTask;
  readonly failed: boolean;
  /** Our own words, when not the function but something around it ended the task. */
  readonly failure?: TaskFailure | undefined;
  /** What was captured of it. */
  readonly output?: TaskOutput | undefined;
  /** Whether the task is started again: its worker was lost. */
  readonly isRetried: boolean;
}

/** What an observer is told. */
export interface TaskObserver {
  /** The task is durable, and acked. */
  readonly onReceived?: (task: HeldTask) => void;
  /** A worker has it, as far as the agent can tell. */
  readonly onBegun?: (task: HeldTask) => void;
  /** It has a result, or its worker was lost and it is started again. */
  readonly onEnded?: (end: TaskEnd) => void;
  /** The broker has its result. */
  readonly onConfirmed?: (task: HeldTask) => void;
}

/** Several observers as one; undefined when there is none. */
export function allObservers(
  observers: readonly (TaskObserver | undefined)[],
): TaskObserver | undefined {
  const present = observers.filter((observer) => observer !== undefined);
  const [only] = present;
  if (present.length < 2) {
    return only;
  }
  return {
    onReceived: (task) => {
      present.forEach((observer) => observer.onReceived?.(task));
    },
    onBegun: (task) => {
      present.forEach((observer) => observer.onBegun?.(task));
    },
    onEnded: (end) => {
      present.forEach((observer) => observer.onEnded?.(end));
    },
    onConfirmed: (task) => {
      present.forEach((observer) => observer.onConfirmed?.(task));
    },
  };
}

/** How a task ends that was ended from outside: one text for every kind of worker. */
import type { AbortReason, FailedOutcome } from './engine.ts';

/** The outcome of a task whose worker was told to end it. */
export function abortedOutcome(reason: AbortReason, timeoutMs: number | undefined): FailedOutcome {
  return { kind: 'failed', code: reason, message: message(reason, timeoutMs), workerLost: false };
}

function message(reason: AbortReason, timeoutMs: number | undefined): string {
  switch (reason) {
    case 'TASK_TIMED_OUT':
      return `the task ran longer than its limit of ${(timeoutMs ?? 0) / 1000} s and was ended`;
    case 'TASK_CANCELLED':
      return 'the task was cancelled while it ran';
    case 'AGENT_STOPPED':
      return 'the agent stopped while the task ran';
  }
}

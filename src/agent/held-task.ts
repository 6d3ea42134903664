/** A task between its delivery and the broker's confirm of its result. */
import type { TaskMeta } from './incoming-task.ts';

/**
 *   accepting ─▶ waiting ─▶ starting ─▶ ready ─▶ ahead ─▶ running ─▶ done
 *
 * - accepting  on its way into the journal, its delivery unacked
 * - waiting    in line; only the journal has its body
 * - starting   its STARTED is on its way to the disk
 * - ready      may run, and waits for a worker host
 * - ahead      handed to the worker host, where it waits for a free place
 * - running    in a place, as far as the agent can tell from the order of what it sent
 * - done       has a result, which the broker has not confirmed yet
 */
export type TaskPhase =
  'accepting' | 'waiting' | 'starting' | 'ready' | 'ahead' | 'running' | 'done';

/** A task that the agent answers for. */
export interface HeldTask {
  readonly taskId: string;
  readonly meta: TaskMeta;
  phase: TaskPhase;
  /** How often it was started; the retry policy counts it. */
  attempts: number;
  /** Of the current attempt. */
  nonce: string;
  /** Monotonic time of its delivery; 0 when that was in an earlier run of the agent. */
  readonly receivedAtMs: number;
  /** Monotonic time at which the current attempt began to run; 0 before the first. */
  begunAtMs: number;
  /** Monotonic time at which it got its result; 0 before. */
  endedAtMs: number;
  /** Size of the task message; 0 until it is known again after a restart. */
  bodyBytes: number;
  /** The task message, while it is ready and not large. */
  body: Buffer | undefined;
  /** Settles when the journal has the task, or has refused it. */
  accepted: Promise<void>;
}

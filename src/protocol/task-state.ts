/** Task states and actors of the wire (protocol.md 7.4). */

export const TASK_STATES = [
  'received',
  'waiting-for-ep',
  'waiting-for-nodes',
  'waiting-for-launch',
  'execution-start',
  'execution-end',
  'running',
  'success',
  'failed',
  'result-received',
  'result-enqueued',
] as const;

/** State of a task as it stands in transitions and status documents. */
export type TaskState = (typeof TASK_STATES)[number];

export const ACTOR_NAMES = [
  'worker',
  'manager',
  'interchange',
  'endpoint',
  'result-processor',
  'web-service',
] as const;

/** Who reports a transition. */
export type ActorName = (typeof ACTOR_NAMES)[number];

/** Milliseconds since the epoch as the wire's nanoseconds. */
export function nanoseconds(epochMs: number): bigint {
  return BigInt(Math.trunc(epochMs)) * 1_000_000n;
}

/** One step in the life of a task; `timestamp` is nanoseconds since the epoch and exceeds 2^53. */
export interface TaskTransition {
  readonly timestamp: bigint;
  readonly state: TaskState;
  readonly actor: ActorName;
}

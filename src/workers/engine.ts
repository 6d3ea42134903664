/**
 * What an engine is: it takes a task and yields an outcome, exactly one per task, however its worker ends.
 *
 * A place is one worker (a thread or an interpreter) that runs one task at a time; when its worker ends, the place is
 * gone and the engine makes another.
 */
import type { EnvironmentReport, TaskFailureCode, TaskOutput } from '../protocol/host-frames.ts';
import type { Language } from '../protocol/serialization.ts';
import type { TaskEnvironment } from '../protocol/sharing.ts';

/** A task as a worker gets it. */
export interface WorkerTask {
  readonly taskId: string;
  readonly nonce: string;
  /** To be marked when the task begins. */
  readonly cell?: number;
  /** Wall-clock limit, counted from the moment the worker gets the task. */
  readonly timeoutMs?: number;
  readonly resultSerializers?: readonly string[];
  readonly resourceSpecification?: Readonly<Record<string, unknown>>;
  /** Where to run it; absent: in the place itself. */
  readonly environment?: TaskEnvironment;
  /** The task message. */
  readonly body: Uint8Array;
}

/** A Result was packed by the worker. */
export interface ResultOutcome {
  readonly kind: 'result';
  /** Whether the Result is an error. */
  readonly failed: boolean;
  /** The packed Result message. */
  readonly body: Uint8Array;
  readonly output?: TaskOutput;
}

/** Our machinery ended the task; no Result exists. */
export interface FailedOutcome {
  readonly kind: 'failed';
  readonly code: TaskFailureCode;
  /** What happened and what to do, for the person who submitted the task. */
  readonly message: string;
  readonly workerLost: boolean;
  readonly output?: TaskOutput;
}

/** How a task ended. */
export type TaskOutcome = ResultOutcome | FailedOutcome;

/** Takes the outcome of a task; called once. */
export type Settle = (outcome: TaskOutcome) => void;

/** Why a running task is ended from outside. */
export type AbortReason = 'TASK_TIMED_OUT' | 'TASK_CANCELLED' | 'AGENT_STOPPED';

/** Why a worker is gone that nobody had asked to end. */
export interface PlaceFailure {
  readonly reason: string;
  /** Trying again cannot help. */
  readonly hopeless: boolean;
  /** It could take tasks before. */
  readonly wasReady?: boolean;
}

/** What a place reports. Each is called at most once, `onReady` before `onLost`. */
export interface PlaceListener {
  /** The worker can take tasks. */
  readonly onReady: () => void;
  /** The worker is gone; a task that it has not settled by then has not begun. `failure` says why, unless it was asked to end or the place does not care. */
  readonly onLost: (failure?: PlaceFailure) => void;
  /** The worker does not die: its process has to be replaced. The place is given up. */
  readonly onQuarantined: () => void;
}

/** One worker, for its lifetime. */
export interface Place {
  /** Launches the worker. */
  start: () => void;
  /** Whether tasks may be given ahead of time. */
  readonly canReclaim: boolean;
  /** Whether the worker is being ended, or has ended: it gets no more tasks. */
  readonly isEnding: boolean;
  /** Runs a task; only when ready and not running another. Settles before the place reports that it is lost. */
  run: (task: WorkerTask, settle: Settle) => void;
  /** Runs a task after those that it has, in order, and marks its cell then. Only when it can reclaim. */
  runAhead: (task: WorkerTask, settle: Settle) => void;
  /** Takes back the newest task that was given ahead of time; false when every one of them has begun. Those that remain are settled. */
  reclaim: () => boolean;
  /** Ends the worker, and with it the task that it runs: asks first, kills after the grace period. Idempotent. */
  abort: (reason: AbortReason) => void;
  /** Kills the worker now, without waiting; for a host that exits. */
  kill: () => void;
}

/** Makes places of one language. */
export type PlaceFactory = (listener: PlaceListener) => Place;

/** What an engine reports to its host. */
export interface EngineListener {
  /** A worker gets this task now. Not called for a task that was given ahead of time: the worker itself marks that. */
  readonly onBegin: (task: WorkerTask) => void;
  /** The number of places that can be used has changed. */
  readonly onPlacesChanged: () => void;
  /** No worker of this language can start; places coming back take it back. */
  readonly onDegraded: (language: Language, reason: string) => void;
  /** Interpreters in execution environments have started or ended, or changed hands. */
  readonly onEnvironments?: (reports: readonly EnvironmentReport[]) => void;
  /** This process holds a thread that cannot be ended. */
  readonly onQuarantined: (language: Language) => void;
}

/** Runs the tasks of one language. */
export interface Engine {
  readonly language: Language;
  /** Places that can be used: idle or running a task. */
  readonly placeCount: number;
  /** Workers that were started in the place of others. */
  readonly restartCount: number;
  /** Tasks that wait for a free place. */
  readonly waitingCount: number;
  /** Tasks that are held and not settled. */
  readonly taskCount: number;
  start: () => void;
  /** Runs a task in the next free place. */
  submit: (task: WorkerTask, settle: Settle) => void;
  /** Ends a task; false when it is not held (any more). */
  cancel: (nonce: string) => boolean;
  /** Gives up every task that no worker has got, unsettled; returns their nonces in order. */
  recall: () => string[];
  /** Ends everything; resolves when every worker is gone or has been given up. */
  stop: () => Promise<void>;
  /** Kills everything without waiting. */
  kill: () => void;
}

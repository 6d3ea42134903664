/**
 * What agent and worker host say to each other, as frames (frames.ts) over a stream socket that the host dials.
 *
 *   host                                   agent
 *    ├─ hello {token} ──────────────────────▶│   one-time token, handed over on the host's stdin
 *    │◀───────────────────── welcome {config}┤
 *    ├─ ready {javascript, python} ─────────▶│   places that can take tasks now
 *    │◀──────────────── task {…} + envelope ─┤   also ahead of time: it waits here for a free place
 *    ├─ result {…} + Result message ────────▶│   the worker's own bytes, passed through
 *    ├─ failed {code, …} ───────────────────▶│   our machinery ended the task: the agent packs the Result
 *    │◀─────────────────────── cancel {…} ───┤
 *    │◀──────────────────────────── recall ──┤   give back every task that has not begun
 *    ├─ returned {nonces} ──────────────────▶│
 *    ├─ degraded {language, reason} ────────▶│   the breaker is open: no worker of that language starts
 *    ├─ environments {list} ────────────────▶│   interpreters in execution environments, when that has changed
 *    │◀──────────────────────────────── ping ┤   a host that answers nothing for long is replaced
 *    ├─ pong ───────────────────────────────▶│
 *    │◀──────────────────────────── stop {} ─┤   end what runs, then exit
 *
 * A result or failure counts only with the nonce of the task it answers, so that leftovers of an earlier task
 * cannot forge one.
 */
import type { EnvironmentRules } from './environments.ts';
import type { BlobReference } from './rest.ts';
import type { Language } from './serialization.ts';
import type { EnvironmentType, TaskEnvironment } from './sharing.ts';

/** Version of this dialogue; both sides ship together, so a difference is a broken installation. */
export const HOST_PROTOCOL_VERSION = 1;

/** Why our machinery, rather than the function, ended a task. */
export type TaskFailureCode =
  | 'TASK_TIMED_OUT'
  | 'TASK_CANCELLED'
  | 'WORKER_EXITED'
  | 'WORKER_KILLED_OOM'
  | 'WORKER_UNRESPONSIVE'
  | 'WORKER_PROTOCOL_FAULT'
  | 'WORKER_START_FAILED'
  | 'AGENT_RESTARTED'
  | 'AGENT_STOPPED'
  | 'ENVELOPE_INVALID'
  | 'FUNCTION_NOT_ALLOWED'
  | 'SERIALIZER_NOT_ALLOWED'
  | 'LANGUAGE_NOT_AVAILABLE'
  | 'ENVIRONMENT_NOT_AVAILABLE'
  | 'RESULT_UNREADABLE'
  | 'RESULT_UNDELIVERABLE'
  | 'RESULT_NOT_KEPT'
  | 'MaxResultSizeExceeded';

/** Settings that the agent hands to a host. Sizes in bytes or characters, times in milliseconds. */
export interface HostConfig {
  readonly endpointId: string;
  readonly javascript: {
    /** Number of threads, each running one task at a time. */
    readonly threads: number;
    /** Old-generation heap of one thread, in MiB. */
    readonly heapMb: number;
  };
  readonly python: {
    /** Number of interpreters, each running one task at a time. */
    readonly interpreters: number;
    /** Absolute path of the interpreter, or a name looked up on PATH. */
    readonly executable: string;
    /** Address space of one interpreter, in MiB; absent or 0: no limit. */
    readonly memoryMb?: number;
  };
  /** Niceness of the host and all that it runs, 0 to 19; absent: as it was started. */
  readonly nice?: number;
  /** Directory that tasks run in. */
  readonly workingDir: string;
  /** Whether each task gets a directory of its own in it, removed when the task has ended. */
  readonly runInSandbox?: boolean;
  readonly resultCharsMax: number;
  readonly outputBytesMax: number;
  /** Time between asking a task to end and killing its worker. */
  readonly killGraceMs: number;
  /** File in which a task's cell is marked when it begins (running-cells.ts). */
  readonly runningTable?: string;
  /** How long an interpreter may take to become ready. */
  readonly startTimeoutMs: number;
  /** Execution environments that Python functions may name; absent: none. */
  readonly environments?: EnvironmentSettings;
  /** Environment that user code sees, beside PATH, HOME, USER, LANG and TMPDIR. */
  readonly environment: Readonly<Record<string, string>>;
}

/** How a host runs functions in execution environments. */
export interface EnvironmentSettings {
  readonly rules: EnvironmentRules;
  /** Idle interpreters in environments that are kept for the next task. */
  readonly warmMax: number;
  readonly startTimeoutMs: number;
}

/** Captured output of one task: the tail of each stream, at most `outputBytesMax` bytes. */
export interface TaskOutput {
  readonly stdout?: string;
  readonly stderr?: string;
  /** True when more was written than is kept. */
  readonly truncated?: boolean;
  /** Beside a result that the hub keeps in its blob store: which one. */
  readonly blob?: BlobReference;
}

/** host → agent, first frame. */
export interface HelloFrame {
  readonly type: 'hello';
  readonly version: number;
  readonly token: string;
  readonly pid: number;
}

/** agent → host. */
export interface WelcomeFrame {
  readonly type: 'welcome';
  readonly config: HostConfig;
}

/** host → agent: how many places of each language can take tasks. Sent again when the number changes. */
export interface ReadyFrame {
  readonly type: 'ready';
  readonly javascript: number;
  readonly python: number;
  /** Workers that this host has started in the place of others. */
  readonly restarts?: { readonly javascript: number; readonly python: number };
}

/** agent → host; the body is the task message as it came from the broker. */
export interface TaskFrame {
  readonly type: 'task';
  readonly task_id: string;
  readonly nonce: string;
  readonly language: Language;
  /** Wall-clock limit; absent means none. */
  readonly timeout_ms?: number;
  /** To be marked in the table of running tasks right before a worker gets the task. */
  readonly cell?: number;
  readonly result_serializers?: readonly string[];
  readonly resource_specification?: Readonly<Record<string, unknown>>;
  /** Where its function is to run; absent: in the endpoint's own workers. */
  readonly environment?: TaskEnvironment;
}

/** host → agent; the body is the packed Result message. */
export interface ResultFrame {
  readonly type: 'result';
  readonly task_id: string;
  readonly nonce: string;
  /** Whether the Result is an error: what the function raised, or a value that could not be returned. */
  readonly failed: boolean;
  readonly output?: TaskOutput;
}

/** host → agent: no Result exists. */
export interface FailedFrame {
  readonly type: 'failed';
  readonly task_id: string;
  readonly nonce: string;
  readonly code: TaskFailureCode;
  /** What happened and what to do, for the person who submitted the task. */
  readonly message: string;
  /** Whether the worker was lost under the task, so that its retry policy applies. */
  readonly worker_lost: boolean;
  readonly output?: TaskOutput;
}

/** agent → host: end this task now. */
export interface CancelFrame {
  readonly type: 'cancel';
  readonly task_id: string;
  readonly nonce: string;
}

/** agent → host: give back every task that waits here for a free place. */
export interface RecallFrame {
  readonly type: 'recall';
}

/** host → agent: these tasks have not begun and never will here. The answer to a recall; also sent when the host is about to end. */
export interface ReturnedFrame {
  readonly type: 'returned';
  readonly nonces: readonly string[];
}

/** host → agent: no worker of this language can start; `ready` takes it back. */
export interface DegradedFrame {
  readonly type: 'degraded';
  readonly language: Language;
  /** What the worker said when it died, for the operator. */
  readonly reason: string;
}

/** The interpreters in one execution environment, under whatever ids it was registered. */
export interface EnvironmentReport {
  readonly type: EnvironmentType;
  readonly location: string;
  /** Interpreters that run a task, that are kept for the next one, and that are being started. */
  readonly running: number;
  readonly idle: number;
  readonly starting: number;
  /** Why none starts, and its tasks fail; absent: they start. */
  readonly reason?: string;
}

/** host → agent: for the operator. At most a few a second, and at most {@link ENVIRONMENT_REPORTS_MAX} environments. */
export interface EnvironmentsFrame {
  readonly type: 'environments';
  readonly list: readonly EnvironmentReport[];
}

/** More are not reported. */
export const ENVIRONMENT_REPORTS_MAX = 32;

/** agent → host: say that you are there. */
export interface PingFrame {
  readonly type: 'ping';
}

/** host → agent: the answer to a ping. */
export interface PongFrame {
  readonly type: 'pong';
}

/** agent → host: end running tasks (SIGTERM, then SIGKILL after `killGraceMs`) and exit. */
export interface StopFrame {
  readonly type: 'stop';
}

/** What a host sends. */
export type HostToAgentFrame =
  | HelloFrame
  | ReadyFrame
  | ResultFrame
  | FailedFrame
  | ReturnedFrame
  | DegradedFrame
  | EnvironmentsFrame
  | PongFrame;

/** What an agent sends. */
export type AgentToHostFrame =
  WelcomeFrame | TaskFrame | CancelFrame | RecallFrame | PingFrame | StopFrame;

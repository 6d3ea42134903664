/**
 * Runs inside a thread: one task at a time, from its message to its packed Result.
 *
 * Invariants: `runTasks` never rejects, so a rejection means that the thread was lost; an error that nobody can catch ends the task
 * that caused it, and only while that task runs; what a function leaves behind never ends or fills another task.
 */
import process from 'node:process';
import { setImmediate } from 'node:timers';
import { isMainThread, workerData } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';

import { ComputeError, ProtocolError } from '../../base/errors.ts';
import type { TaskOutput } from '../../protocol/host-frames.ts';
import { packResult, unpackTask } from '../../protocol/messages.ts';
import type { ResultErrorDetails } from '../../protocol/messages.ts';
import {
  SERIALIZERS,
  codePointLength,
  splitSerialized,
  unpackBuffers,
} from '../../protocol/serialization.ts';
import { BegunMarks } from '../begun-marks.ts';
import { discardSandbox, makeSandbox } from '../sandboxes.ts';
import type { SandboxDirectories } from '../sandboxes.ts';
import { AheadTokens } from './ahead-tokens.ts';
import { describeThrown } from './error-text.ts';
import { FunctionSources } from './function-source.ts';
import { TaskContext, captureStreams, taskContexts } from './thread-output.ts';
import { deserializeData, serializeResult } from './values.ts';

/** What every thread is told when it starts. */
export interface ThreadSettings {
  readonly workingDir: string;
  readonly resultCharsMax: number;
  readonly outputBytesMax: number;
  /** Memory of {@link AheadTokens}. */
  readonly tokens: SharedArrayBuffer;
  /** The table of running tasks, to be marked when a task begins that came ahead of time. */
  readonly runningTable?: string;
  /** Set when each task gets a directory of its own. */
  readonly sandboxes?: SandboxDirectories;
}

/** A task as a thread gets it. */
export interface ThreadTask {
  readonly taskId: string;
  readonly body: Uint8Array;
  /** Set when the task came ahead of time: it begins after those before it, unless it has been reclaimed. */
  readonly aheadCell?: number;
  readonly timeoutMs?: number;
  readonly resultSerializers?: readonly string[];
}

/** What a thread answers. */
export interface ThreadResult {
  readonly failed: boolean;
  readonly body: Uint8Array;
  readonly output?: TaskOutput;
}

const EXECUTION_FAILED = 'An error occurred during the execution of this task';

const settings = workerData as ThreadSettings;
const tokens = new AheadTokens(settings.tokens);
const marks = new BegunMarks(settings.runningTable);
const sources = new FunctionSources(settings.workingDir);

/** The serialized result is over the limit. */
class ResultTooLarge extends ComputeError {
  readonly size: number;
  readonly limit: number;

  constructor(size: number, limit: number) {
    super('RESULT_TOO_LARGE', `Task result of ${size}B exceeded current limit of ${limit}B`, 65);
    this.size = size;
    this.limit = limit;
  }
}

let current: TaskContext | undefined;

/** An error that no promise or call stack of ours carries. */
function onStray(thrown: unknown): void {
  const context = taskContexts.getStore();
  // Without a context it cannot be told whose it is; the task that runs is the only one that can have caused it now.
  (context ?? current)?.fail(thrown);
}

if (!isMainThread) {
  captureStreams();
  process.on('uncaughtException', onStray);
  process.on('unhandledRejection', onStray);
}

/** Where results go. */
let results: MessagePort | undefined;

/** Answers as soon as the thread can take tasks. */
export function ready(port: MessagePort): true {
  results = port;
  return true;
}

/** Runs tasks one after the other, behind those that came before them, and sends each result by itself. Never rejects. */
export async function runTasks(tasks: readonly ThreadTask[]): Promise<void> {
  await Promise.all(
    tasks.map(async (task) => {
      const result = await runTask(task);
      // Without one the task was reclaimed.
      if (result !== undefined) {
        results?.postMessage(result);
      }
    }),
  );
}

let isRunning = false;
/** Tasks that came ahead of time, in order. */
const behind: (() => void)[] = [];

/** Runs a task after those that came before it; undefined when it was reclaimed. */
async function runTask(task: ThreadTask): Promise<ThreadResult | undefined> {
  if (isRunning) {
    await new Promise<void>((resolve) => {
      behind.push(resolve);
    });
  }
  // Nothing comes between: one is woken at a time, and goes on in the same turn.
  // eslint-disable-next-line require-atomic-updates
  isRunning = true;
  try {
    if (task.aheadCell === undefined) {
      return await runNow(task);
    }
    if (!tokens.take()) {
      return undefined;
    }
    marks.mark({ cell: task.aheadCell, taskId: task.taskId });
    return await runNow(task);
  } finally {
    // In a turn of its own: the result leaves first, and what a function keeps open is served between two tasks.
    setImmediate(() => {
      isRunning = false;
      behind.shift()?.();
    });
  }
}

async function runNow(task: ThreadTask): Promise<ThreadResult> {
  const context = new TaskContext(settings.outputBytesMax);
  current = context;
  const startedAt = wallClockNs();
  let data: string;
  let errorDetails: ResultErrorDetails | null = null;
  try {
    data = await taskContexts.run(context, async () => await execute(task, context));
  } catch (thrown) {
    ({ data, errorDetails } = failure(thrown));
  }
  current = undefined;
  if (settings.sandboxes !== undefined) {
    discardSandbox(settings.sandboxes, task.taskId);
  }
  const output = context.end();
  const packed = packResult({
    task_id: task.taskId,
    data,
    // Details without a Python version would make the Python SDK warn about a difference of versions.
    details: null,
    error_details: errorDetails,
    task_statuses: [
      { timestamp: startedAt, state: 'execution-start', actor: 'worker' },
      { timestamp: wallClockNs(), state: 'execution-end', actor: 'worker' },
    ],
  });
  return {
    failed: errorDetails !== null,
    body: ownMemory(packed),
    ...(output !== undefined && { output }),
  };
}

async function execute(task: ThreadTask, context: TaskContext): Promise<string> {
  const [code, args, kwargs, ...rest] = unpackBuffers(unpackTask(task.body).task_buffer);
  if (code === undefined || args === undefined || kwargs === undefined || rest.length > 0) {
    throw new ProtocolError(
      'BUFFER_INVALID',
      'a task has 3 packed buffers: function, args and kwargs',
    );
  }
  setTaskEnvironment(task);
  const { id, payload } = splitSerialized(code);
  if (id !== SERIALIZERS.JAVASCRIPT_SOURCE) {
    throw new ProtocolError(
      'BUFFER_INVALID',
      `the function is serialized as ${JSON.stringify(id)}, not as JavaScript source (js)`,
    );
  }
  const callArgs = deserializeData(args);
  const values = argumentList(callArgs.value, deserializeData(kwargs).value);
  const value = await call(payload, values, context);
  const text = serializeResult(value, callArgs.id, task.resultSerializers);
  if (text.length > settings.resultCharsMax) {
    const size = codePointLength(text);
    if (size > settings.resultCharsMax) {
      throw new ResultTooLarge(size, settings.resultCharsMax);
    }
  }
  return text;
}

async function call(payload: string, values: unknown[], context: TaskContext): Promise<unknown> {
  const userFunction = await sources.load(payload);
  return await new Promise((resolve, reject) => {
    // Resolving with a pending promise would be final: a stray error could no longer end the task.
    context.fail = reject;
    const returned = Reflect.apply(userFunction, undefined, values);
    if (returned instanceof Promise) {
      returned.then(resolve, reject);
    } else {
      resolve(returned);
    }
  });
}

/** Keyword arguments, which only Python callers have, come as one last object. */
function argumentList(args: unknown, kwargs: unknown): unknown[] {
  if (!Array.isArray(args)) {
    throw new ProtocolError('BUFFER_INVALID', 'the arguments are not a list');
  }
  const named = typeof kwargs === 'object' && kwargs !== null && Object.keys(kwargs).length > 0;
  return named ? [...(args as unknown[]), kwargs] : (args as unknown[]);
}

function setTaskEnvironment(task: ThreadTask): void {
  // The environment of a thread is a copy of its own.

  const { env } = process;
  env['GC_TASK_UUID'] = task.taskId;
  if (task.timeoutMs !== undefined) {
    env['GC_TASK_TIMEOUT'] = String(task.timeoutMs / 1000);
  } else if (env['GC_TASK_TIMEOUT'] !== undefined) {
    delete env['GC_TASK_TIMEOUT'];
  }
  if (settings.sandboxes !== undefined) {
    const path = makeSandbox(settings.sandboxes, task.taskId);
    env['GC_TASK_SANDBOX_DIR'] = path;
    env['GC_TASK_WORKING_DIR'] = path;
  }
}

function failure(thrown: unknown): { data: string; errorDetails: ResultErrorDetails } {
  if (thrown instanceof ResultTooLarge) {
    return {
      data: `MaxResultSizeExceeded(${thrown.size}, ${thrown.limit})`,
      errorDetails: {
        code: 'MaxResultSizeExceeded',
        user_message: `remote error: ${thrown.message}`,
      },
    };
  }
  if (
    thrown instanceof ProtocolError &&
    (thrown.code === 'ENVELOPE_INVALID' || thrown.code === 'MESSAGE_TYPE_UNKNOWN')
  ) {
    return {
      data: `CouldNotExecuteUserTaskError(${JSON.stringify(thrown.message)})`,
      errorDetails: {
        code: 'CouldNotExecuteUserTaskError',
        user_message: `remote error: ${thrown.message}`,
      },
    };
  }
  const { text, type, message } =
    thrown instanceof ProtocolError
      ? {
          text: `DeserializationError: ${thrown.message}`,
          type: 'DeserializationError',
          message: thrown.message,
        }
      : describeThrown(thrown);
  return {
    data:
      text.length > settings.resultCharsMax
        ? `${text.slice(0, settings.resultCharsMax)}\n(the rest is cut)`
        : text,
    errorDetails: {
      code: 'RemoteExecutionError',
      user_message: EXECUTION_FAILED,
      exception: { type, message },
    },
  };
}

/** Small buffers are views of a shared pool, all of which would be copied to the host. */
function ownMemory(bytes: Buffer): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
}

let clockOffset = 0n;

/** Nanoseconds since the epoch, finer than Date tells; follows the wall clock when that is set. */
function wallClockNs(): bigint {
  const monotonic = process.hrtime.bigint();
  const wall = BigInt(Date.now()) * 1_000_000n;
  const derived = monotonic + clockOffset;
  const drift = derived > wall ? derived - wall : wall - derived;
  if (drift > 50_000_000n) {
    clockOffset = wall - monotonic;
    return wall;
  }
  return derived;
}

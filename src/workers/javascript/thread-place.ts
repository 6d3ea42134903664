/**
 * One thread for JavaScript tasks, for its lifetime: starting → ready ⇄ running → ending → gone. Each has a Piscina of its own,
 * so that it is known which thread runs which task, and when that thread is really gone.
 *
 * What it is given in one turn of the loop travels as one message, which costs the host less than what is in it; each result comes
 * back by itself, as soon as it is there, over a port that only the two of them know.
 *
 * Invariants: the running task is settled when the thread has exited, or when it did not within the grace period (it is blocked in
 * a synchronous call, and only the end of the process ends it: quarantine).
 */
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import type { MessagePort, Worker } from 'node:worker_threads';

import { Piscina } from 'piscina';

import type { Clock, Timer } from '../../base/clock.ts';
import { errorCode, errorText } from '../../base/errors.ts';
import { programFile } from '../../base/package-root.ts';
import { abortedOutcome } from '../aborted.ts';
import type {
  AbortReason,
  FailedOutcome,
  Place,
  PlaceListener,
  Settle,
  TaskOutcome,
  WorkerTask,
} from '../engine.ts';
import { GivenTasks } from '../given-tasks.ts';
import { AheadTokens } from './ahead-tokens.ts';
import type { ThreadResult, ThreadSettings, ThreadTask } from './thread-worker.ts';

/** Settings of a thread. */
export interface ThreadPlaceOptions {
  readonly heapMb: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly settings: Omit<ThreadSettings, 'tokens'>;
  readonly killGraceMs: number;
  readonly clock: Clock;
}

/** Messages that Piscina passes on at once: always more than a thread can have. */
const MESSAGES_MAX = 1024;

const THREAD_FILE = programFile('workers/javascript/thread-worker.js');

/** A place for JavaScript tasks. */
export class ThreadPlace implements Place {
  readonly canReclaim = true;
  readonly #options: ThreadPlaceOptions;
  readonly #listener: PlaceListener;
  readonly #pool: Piscina;
  #thread: Worker | undefined;
  #isReady = false;
  #isGone = false;
  #exitCode: number | undefined;
  readonly #given = new GivenTasks();
  /** Given in this turn, and not sent yet. */
  #outgoing: ThreadTask[] = [];
  readonly #results: MessagePort;
  /** The thread's end of `#results`. */
  readonly #resultsEnd: MessagePort;
  #abortReason: AbortReason | undefined;
  #graceTimer: Timer | undefined;
  /** What the thread died of, when it said so. */
  #error: unknown;

  constructor(options: ThreadPlaceOptions, listener: PlaceListener) {
    this.#options = options;
    this.#listener = listener;
    const tokens = new AheadTokens();
    this.#given.tokens = tokens;
    const { port1, port2 } = new MessageChannel();
    this.#results = port1;
    this.#resultsEnd = port2;
    this.#pool = new Piscina({
      filename: THREAD_FILE,
      name: 'runTasks',
      // Started by the first task and never by itself again: a lost thread is replaced with its place.
      minThreads: 0,
      maxThreads: 1,
      // The thread still runs one at a time; the others lie at hand.
      concurrentTasksPerWorker: MESSAGES_MAX,
      idleTimeout: Infinity,
      // The thread's own loop runs between tasks, as a function that keeps a connection open expects.
      atomics: 'disabled',
      recordTiming: false,
      env: { ...options.environment },
      execArgv: ['--disable-warning=ExperimentalWarning'],
      workerData: { ...options.settings, tokens: tokens.buffer } satisfies ThreadSettings,
      resourceLimits: { maxOldGenerationSizeMb: options.heapMb },
    });
    this.#pool.on('error', (error) => {
      this.#error = error;
    });
  }

  start(): void {
    const isUp = this.#pool.run(this.#resultsEnd, {
      name: 'ready',
      transferList: [this.#resultsEnd],
    });
    this.#results.on('message', (result: ThreadResult) => {
      this.#onResult({ kind: 'result', ...result });
    });
    // What keeps the host alive is its agent.
    this.#results.unref();
    [this.#thread] = this.#pool.threads;
    this.#thread?.once('error', (error) => {
      this.#error = error;
    });
    this.#thread?.once('exit', (exitCode) => {
      this.#onExit(exitCode);
    });
    isUp.then(
      () => {
        this.#isReady = true;
        if (this.#abortReason === undefined && !this.#isGone) {
          this.#listener.onReady();
        }
      },
      (error: unknown) => {
        this.#error ??= error;
      },
    );
  }

  get isEnding(): boolean {
    return this.#abortReason !== undefined || this.#exitCode !== undefined || this.#isGone;
  }

  run(task: WorkerTask, settle: Settle): void {
    this.#given.add(task, settle);
    this.#give(task, false);
  }

  runAhead(task: WorkerTask, settle: Settle): void {
    this.#given.addAhead(task, settle);
    this.#give(task, true);
  }

  reclaim(): boolean {
    return this.#given.reclaim();
  }

  #give(task: WorkerTask, isAhead: boolean): void {
    if (this.#outgoing.length === 0) {
      queueMicrotask(() => {
        this.#send();
      });
    }
    this.#outgoing.push({
      taskId: task.taskId,
      // A view of what the socket read would be cloned with all that was read.
      body: new Uint8Array(task.body),
      ...(isAhead && task.cell !== undefined && { aheadCell: task.cell }),
      ...(task.timeoutMs !== undefined && { timeoutMs: task.timeoutMs }),
      ...(task.resultSerializers !== undefined && { resultSerializers: task.resultSerializers }),
    });
  }

  #send(): void {
    const tasks = this.#outgoing;
    this.#outgoing = [];
    (this.#pool.run(tasks) as Promise<void>).catch((error: unknown) => {
      this.#onRejected(error);
    });
  }

  abort(reason: AbortReason): void {
    if (this.#abortReason !== undefined || this.#isGone) {
      return;
    }
    this.#abortReason = reason;
    this.#terminate();
    this.#graceTimer = this.#options.clock.after(this.#options.killGraceMs, () => {
      this.#quarantine();
    });
  }

  kill(): void {
    if (!this.#isGone) {
      this.#terminate();
    }
  }

  #terminate(): void {
    // The exit event tells when it is done, which may be never.
    this.#thread?.terminate().catch((error: unknown) => {
      this.#error ??= error;
    });
  }

  #onResult(outcome: TaskOutcome): void {
    if (this.isEnding) {
      this.#given.keep(outcome);
      return;
    }
    this.#given.settleNext(outcome);
  }

  #onRejected(error: unknown): void {
    this.#error ??= error;
    if (this.#exitCode !== undefined) {
      this.#finish();
    } else {
      // The thread is about to exit, or cannot answer any more.
      this.#terminate();
    }
  }

  #onExit(exitCode: number): void {
    this.#exitCode = exitCode;
    // Piscina rejects the running task in this very turn; only then is everything known.
    setImmediate(() => {
      this.#finish();
    });
  }

  #finish(): void {
    if (this.#isGone) {
      return;
    }
    // What it answered before it exited.
    for (let last = nextOn(this.#results); last !== undefined; last = nextOn(this.#results)) {
      this.#onResult({ kind: 'result', ...last });
    }
    this.#results.close();
    this.#isGone = true;
    this.#graceTimer?.cancel();
    this.#given.settleBegun((task, late) => late ?? this.#failure(task));
    const isExpected = this.#isReady || this.#abortReason !== undefined;
    this.#listener.onLost(
      isExpected ? undefined : { reason: this.#startFailure(), hopeless: false },
    );
  }

  #failure(task: WorkerTask): FailedOutcome {
    if (this.#abortReason !== undefined) {
      return abortedOutcome(this.#abortReason, task.timeoutMs);
    }
    if (errorCode(this.#error) === 'ERR_WORKER_OUT_OF_MEMORY') {
      return {
        kind: 'failed',
        code: 'WORKER_KILLED_OOM',
        message: `the JavaScript thread needed more than its heap of ${this.#options.heapMb} MiB (javascript_heap_mb in the endpoint's config.yaml) and was ended`,
        workerLost: true,
      };
    }
    return {
      kind: 'failed',
      code: 'WORKER_EXITED',
      message: `the JavaScript thread ended with exit code ${this.#exitCode ?? 'unknown'} while it ran the task (a function must return or throw; process.exit() ends the worker)${this.#errorSuffix()}`,
      workerLost: true,
    };
  }

  #errorSuffix(): string {
    const text = this.#error === undefined ? '' : errorText(this.#error);
    return text === '' || text.startsWith('worker exited with code') ? '' : `: ${text}`;
  }

  #startFailure(): string {
    return `a JavaScript thread ended before it was ready (exit code ${this.#exitCode ?? 'unknown'}, heap ${this.#options.heapMb} MiB)${this.#errorSuffix()}`;
  }

  #quarantine(): void {
    if (this.#isGone) {
      return;
    }
    this.#isGone = true;
    this.#results.close();
    this.#given.settleBegun((task, late) => {
      if (late !== undefined) {
        return late;
      }
      const failure = this.#failure(task);
      return {
        ...failure,
        message: `${failure.message}; its thread is blocked in a synchronous call (such as execSync) that only the end of its process can end, so the worker host is replaced`,
      };
    });
    this.#listener.onQuarantined();
  }
}

function nextOn(port: MessagePort): ThreadResult | undefined {
  return receiveMessageOnPort(port)?.message as ThreadResult | undefined;
}

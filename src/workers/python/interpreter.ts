/**
 * One Python interpreter (python/outpost_worker.py), for its lifetime: starting → ready ⇄ running → ending → gone.
 *
 * Invariants: it leads a process group of its own, and when it is gone nothing of the group is left; a result counts only with the
 * nonce of the running task; the task that it runs is settled when the interpreter is gone at the latest; what it wrote to its
 * standard streams before it died is returned with the failure.
 */
import { existsSync } from 'node:fs';
import type { Duplex } from 'node:stream';

import type { Clock, Timer } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import { FrameDecoder } from '../../protocol/frames.ts';
import type { Frame, FrameHeader } from '../../protocol/frames.ts';
import type { TaskOutput } from '../../protocol/host-frames.ts';
import { taskKey } from '../../protocol/task-id.ts';
import { abortedOutcome } from '../aborted.ts';
import type {
  AbortReason,
  Place,
  PlaceFailure,
  PlaceListener,
  Settle,
  TaskOutcome,
  WorkerTask,
} from '../engine.ts';
import type { Launch } from '../environments/launch.ts';
import { FrameWriter } from '../frame-writer.ts';
import { GivenTasks } from '../given-tasks.ts';
import { signalGroup } from '../process-group.ts';
import { AheadPipe } from './ahead-pipe.ts';
import { CapturedOutput } from './captured-output.ts';
import { classifyExit, limitedMemory, quoteStderr } from './exit-reason.ts';
import type { InterpreterExit } from './exit-reason.ts';
import { GroupEnding } from './group-ending.ts';
import { countOomKills } from './oom-kills.ts';
import { killThroughLauncher, spawnFailure, spawnInterpreter } from './spawn-interpreter.ts';
import { killTaskProcesses } from './task-processes.ts';

/** Settings of an interpreter. */
export interface InterpreterOptions {
  readonly executable: string;
  /** Limit of its address space in MiB; 0: none. */
  readonly memoryMb: number;
  readonly endpointId: string;
  readonly workingDir: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly resultCharsMax: number;
  readonly outputBytesMax: number;
  readonly killGraceMs: number;
  readonly startTimeoutMs: number;
  /** Where the marks of sandboxes lie; without it, tasks run in the working directory itself. */
  readonly sandboxMarksDir?: string;
  /** The table of running tasks, which the interpreter marks when it begins a task that came ahead of time. */
  readonly runningTable?: string;
  /** The execution environment that it is started in, and how; without it, the executable is. */
  readonly inside?: { readonly title: string; readonly launch: Launch };
  readonly clock: Clock;
}

/** How long an interpreter that closed its answer descriptor may take to exit by itself. */
const FAREWELL_MS = 1_000;

interface InterpreterFrame extends FrameHeader {
  readonly nonce?: string;
  readonly failed?: boolean;
  readonly output?: TaskOutput;
  /** Descriptor of its end of the pipe of {@link AheadPipe}. */
  readonly tokens?: number;
}

/** A place for Python tasks. */
export class Interpreter implements Place {
  readonly #options: InterpreterOptions;
  readonly #listener: PlaceListener;
  readonly #decoder = new FrameDecoder();
  readonly #captured: CapturedOutput;
  readonly #oomKillsBefore = countOomKills();
  #writer: FrameWriter | undefined;
  #pid: number | undefined;
  #isReady = false;
  #isGone = false;
  readonly #given = new GivenTasks();
  #tokens: AheadPipe | undefined;
  #abortReason: AbortReason | undefined;
  #fault: string | undefined;
  #startTimedOut = false;
  #ending: GroupEnding | undefined;
  #answersEnded = false;
  #exit: { exitCode: number | null; signal: NodeJS.Signals | null } | undefined;
  #startTimer: Timer | undefined;
  #farewellTimer: Timer | undefined;

  constructor(options: InterpreterOptions, listener: PlaceListener) {
    this.#options = options;
    this.#listener = listener;
    // Through a launcher no descriptor is sure to arrive; the working directory is there in every environment.
    const namedIn =
      this.#isLaunched && existsSync(options.workingDir) ? options.workingDir : undefined;
    this.#captured = new CapturedOutput({
      tailBytesMax: options.outputBytesMax,
      ...(namedIn !== undefined && { namedIn }),
      clock: options.clock,
    });
  }

  /** Whether another process stands between this one and the interpreter. */
  get #isLaunched(): boolean {
    return this.#options.inside?.launch.transport === 'stdio';
  }

  start(): void {
    const { executable, workingDir, environment, startTimeoutMs, clock, inside } = this.#options;
    const { pid, requests, answers } = spawnInterpreter(
      {
        executable,
        launch: inside?.launch,
        workingDir,
        environment,
        ...this.#captured.descriptors,
      },
      {
        onExit: (exitCode, signal) => {
          this.#onExit(exitCode, signal);
        },
        onError: (error) => {
          this.#onSpawnError(error);
        },
      },
    );
    this.#pid = pid;
    if (this.#pid === undefined || requests === undefined || answers === undefined) {
      return;
    }
    this.#connect(requests, answers);
    this.#startTimer = clock.after(startTimeoutMs, () => {
      this.#startTimedOut = true;
      this.#end('SIGKILL');
    });
  }

  get canReclaim(): boolean {
    return this.#tokens !== undefined;
  }

  get isEnding(): boolean {
    return this.#ending !== undefined || this.#isGone;
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
    // One that the interpreter waits for leaves at once, the others together.
    const write = isAhead ? 'write' : 'writeNow';
    this.#writer?.[write](
      {
        type: 'task',
        task_id: task.taskId,
        nonce: task.nonce,
        ...(isAhead && { cell: task.cell, key: taskKey(task.taskId).toString('hex') }),
        ...(task.timeoutMs !== undefined && { timeout_ms: task.timeoutMs }),
        ...(task.resultSerializers !== undefined && { result_serializers: task.resultSerializers }),
        ...(task.resourceSpecification !== undefined && {
          resource_specification: task.resourceSpecification,
        }),
      } as FrameHeader,
      task.body,
    );
    this.#captured.boundWhile(() => !this.#given.isEmpty && !this.#isGone);
  }

  abort(reason: AbortReason): void {
    this.#abortReason ??= reason;
    this.#end('SIGTERM');
  }

  kill(): void {
    if (this.#pid !== undefined && !this.#isGone) {
      signalGroup(this.#pid, 'SIGKILL');
      const { inside, environment } = this.#options;
      if (inside?.launch.killCommand !== undefined) {
        killThroughLauncher(inside.launch.killCommand, environment);
      }
    }
  }

  #connect(requests: Duplex, answers: Duplex): void {
    const { endpointId, workingDir, resultCharsMax, outputBytesMax } = this.#options;
    const { sandboxMarksDir, runningTable, memoryMb } = this.#options;
    // A broken pipe says that the interpreter is gone, which its exit event says with the reason.
    requests.on('error', () => undefined);
    answers.on('error', () => undefined);
    answers.on('data', (chunk: Buffer) => {
      this.#onData(chunk);
    });
    answers.once('end', () => {
      this.#answersEnded = true;
      this.#onAnswersEnd();
    });
    requests.resume();
    this.#writer = new FrameWriter(requests);
    this.#writer.writeNow({
      type: 'configure',
      endpoint_id: endpointId,
      working_dir: workingDir,
      result_chars_max: resultCharsMax,
      output_bytes_max: outputBytesMax,
      ...(memoryMb > 0 && { memory_mb: memoryMb }),
      ...(sandboxMarksDir !== undefined && { sandbox_marks_dir: sandboxMarksDir }),
      ...(runningTable !== undefined && { running_table: runningTable }),
      ...(this.#isLaunched && { capture: this.#captured.paths }),
    } as FrameHeader);
  }

  #onData(chunk: Buffer): void {
    let frames: Frame[];
    try {
      frames = this.#decoder.push(chunk);
    } catch (error) {
      this.#breakOff(
        `it wrote what is no frame to descriptor 4, which belongs to the worker (${errorText(error)})`,
      );
      return;
    }
    for (const { header, body } of frames) {
      this.#onFrame(header, body);
    }
  }

  #onFrame(header: InterpreterFrame, body: Buffer): void {
    if (header.type === 'ready' && !this.#isReady) {
      this.#startTimer?.cancel();
      this.#isReady = true;
      if (this.#isLaunched) {
        // It has opened them.
        this.#captured.unlink();
      }
      // In an environment nothing is run ahead of time; through a launcher the process is another one anyway.
      if (
        this.#pid !== undefined &&
        header.tokens !== undefined &&
        this.#options.inside === undefined
      ) {
        this.#tokens = AheadPipe.open(this.#pid, header.tokens);
        this.#given.tokens = this.#tokens;
      }
      if (this.#ending === undefined) {
        this.#listener.onReady();
      }
      return;
    }
    const { next } = this.#given;
    if (header.type !== 'result' || next === undefined || header.nonce !== next.nonce) {
      // Something that an earlier task left behind wrote it: it answers nothing that is held.
      return;
    }
    const outcome: TaskOutcome = {
      kind: 'result',
      failed: header.failed === true,
      body,
      ...(header.output !== undefined && { output: header.output }),
    };
    if (this.#ending !== undefined) {
      this.#given.keep({ ...outcome, body: Buffer.from(body) });
      return;
    }
    this.#given.settleNext(
      this.#captured.takeCut()
        ? { ...outcome, output: { ...outcome.output, truncated: true } }
        : outcome,
    );
  }

  #onAnswersEnd(): void {
    if (this.#exit !== undefined || this.#ending !== undefined) {
      return;
    }
    // Usually the exit event is about to come; a function that closed the descriptor can never answer.
    this.#farewellTimer ??= this.#options.clock.after(FAREWELL_MS, () => {
      this.#breakOff('it closed descriptor 4, over which the worker answers');
    });
  }

  #breakOff(fault: string): void {
    this.#fault ??= fault;
    this.#end('SIGKILL');
  }

  /** Asks the group to end, and kills it after the grace period. */
  #end(signal: 'SIGTERM' | 'SIGKILL'): void {
    if (this.#ending !== undefined || this.#isGone || this.#pid === undefined) {
      return;
    }
    this.#startTimer?.cancel();
    this.#farewellTimer?.cancel();
    const { killGraceMs, clock } = this.#options;
    this.#ending = new GroupEnding({
      pid: this.#pid,
      killGraceMs,
      kill: () => {
        this.kill();
      },
      leader: () => ({ hasExited: this.#exit !== undefined, isHeardOut: this.#answersEnded }),
      onGone: () => {
        this.#finish();
      },
      clock,
    });
    this.#ending.start(signal);
  }

  #onExit(exitCode: number | null, signal: NodeJS.Signals | null): void {
    this.#exit = { exitCode, signal };
    // When nobody had asked it to end, nothing of its group has a claim to grace.
    this.#end('SIGKILL');
  }

  /** The group is gone, or has been given up. */
  #finish(): void {
    this.#isGone = true;
    this.#given.settleBegun((task, late) => {
      killTaskProcesses(task.taskId);
      return late ?? this.#failure(task);
    });
    this.#tokens?.close();
    const failure = this.#abortReason === undefined ? this.#placeFailure() : undefined;
    this.#captured.close();
    this.#listener.onLost(failure);
  }

  #failure(task: WorkerTask): TaskOutcome {
    const output = this.#captured.tails();
    const withOutput = output === undefined ? {} : { output };
    if (this.#abortReason !== undefined) {
      return { ...abortedOutcome(this.#abortReason, task.timeoutMs), ...withOutput };
    }
    const reason = classifyExit(this.#exitDescription(), output?.stderr ?? '');
    return { kind: 'failed', ...reason, workerLost: true, ...withOutput };
  }

  #exitDescription(): InterpreterExit {
    const exit = this.#exit ?? { exitCode: null, signal: null };
    const before = this.#oomKillsBefore;
    // Read only when it matters: the kernel counts before it kills.
    const now = exit.signal === 'SIGKILL' ? countOomKills() : undefined;
    const { memoryMb } = this.#options;
    return {
      ...exit,
      ...(memoryMb > 0 && { memoryMb }),
      ...(this.#fault !== undefined && { fault: this.#fault }),
      ...(before !== undefined && now !== undefined && { wasOutOfMemory: now > before }),
    };
  }

  #placeFailure(): PlaceFailure {
    const { startTimeoutMs } = this.#options;
    const text = this.#captured.stderrTail();
    if (this.#isReady) {
      const { message } = classifyExit(this.#exitDescription(), text);
      return { reason: `${message} (${this.#name})`, hopeless: false, wasReady: true };
    }
    const how = this.#startTimedOut
      ? `was not ready within ${startTimeoutMs / 1000} s`
      : `ended before it was ready (${this.#exit?.signal ?? `exit code ${this.#exit?.exitCode ?? 'unknown'}`})`;
    const limit = limitedMemory(this.#options.memoryMb, text);
    return {
      reason: `the Python interpreter ${this.#name} ${how}${limit}${quoteStderr(text)}`,
      hopeless: false,
    };
  }

  /** In messages. */
  get #name(): string {
    const { executable, inside } = this.#options;
    return inside === undefined ? executable : `of ${inside.title}`;
  }

  /** The process was never made. */
  #onSpawnError(error: unknown): void {
    if (this.#pid !== undefined || this.#isGone) {
      return;
    }
    this.#isGone = true;
    this.#captured.close();
    const { inside, workingDir } = this.#options;
    const launcher = inside?.launch.command[0];
    this.#listener.onLost(spawnFailure(error, { name: this.#name, workingDir, launcher }));
  }
}

/**
 * The worker host: a process between agent and user code that can be killed and replaced (design: it runs everything that a
 * function might block, fill or take down).
 *
 * Invariants: each task is answered once, with its nonce; nothing it started outlives it; when the agent's socket ends, it kills
 * everything and exits at once; a thread that cannot be ended makes it give back all places, finish what runs elsewhere, and exit,
 * so that the agent starts a new host.
 */
import { mkdirSync } from 'node:fs';
import type { Socket } from 'node:net';
import { resolve } from 'node:path';

import type { Clock } from '../base/clock.ts';
import { ProtocolError, errorText } from '../base/errors.ts';
import { FrameDecoder } from '../protocol/frames.ts';
import { HOST_PROTOCOL_VERSION } from '../protocol/host-frames.ts';
import type {
  AgentToHostFrame,
  FailedFrame,
  HostConfig,
  HostToAgentFrame,
  ResultFrame,
  TaskFrame,
} from '../protocol/host-frames.ts';
import { FRAME_HEADER_BYTES_MAX } from '../protocol/limits.ts';
import type { Language } from '../protocol/serialization.ts';
import { BegunMarks } from './begun-marks.ts';
import type { Engine, EngineListener, TaskOutcome, WorkerTask } from './engine.ts';
import { workerEnvironment } from './environment.ts';
import { FrameWriter } from './frame-writer.ts';
import { beNice } from './niceness.ts';
import { PlaceEngine } from './place-engine.ts';

/** How a host's work ended. `clean` is false when something of it can only be ended with the process. */
export interface HostEnd {
  readonly kind: 'stopped' | 'agent-lost' | 'quarantined';
  readonly reason: string;
  readonly clean: boolean;
}

/** Settings of a {@link WorkerHost}. */
export interface WorkerHostOptions {
  /** Connected to the agent. */
  readonly socket: Socket;
  readonly token: string;
  /** Environment of this process; workers see a part of it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** Called once, when there is nothing left to do but exit. */
  readonly onEnd: (end: HostEnd) => void;
}

/** Both streams of a task's output travel in a header; escaped, a byte may become six. */
const OUTPUT_BYTES_CAP = Math.floor(FRAME_HEADER_BYTES_MAX / 16);

/** Results waiting for the agent to read them; beyond, no new task is read. */
const PENDING_BYTES_MAX = 16 * 1024 * 1024;

/** Time on top of the grace period for what is being ended. */
const STOP_MARGIN_MS = 6_000;

/** One session with an agent. */
export class WorkerHost {
  readonly #options: WorkerHostOptions;
  readonly #writer: FrameWriter;
  readonly #decoder = new FrameDecoder();
  #engines: Readonly<Record<Language, Engine>> | undefined;
  #config: HostConfig | undefined;
  #announced = '';
  #isReadyScheduled = false;
  #isQuarantined = false;
  /** Takes no tasks any more, and ends when those that run have ended. */
  #isClosed = false;
  #isStopping = false;
  #hasEnded = false;

  constructor(options: WorkerHostOptions) {
    this.#options = options;
    this.#writer = new FrameWriter(options.socket);
  }

  /** Introduces itself and serves until the end. */
  start(): void {
    const { socket, token } = this.#options;
    socket.on('data', (chunk: Buffer) => {
      this.#onData(chunk);
    });
    socket.on('error', (error) => {
      this.#onAgentLost(errorText(error));
    });
    socket.on('close', () => {
      this.#onAgentLost('the agent closed the connection');
    });
    socket.on('end', () => {
      this.#onAgentLost('the agent closed the connection');
    });
    this.#send({ type: 'hello', version: HOST_PROTOCOL_VERSION, token, pid: process.pid });
  }

  /** Ends what runs, then ends. */
  async stop(): Promise<void> {
    if (this.#isStopping) {
      return;
    }
    this.#isStopping = true;
    // Before tasks are refused, lest they be sent here again.
    this.#sendPlaces();
    // If an engine cannot end in time, or the agent does not read, the process ends nevertheless.
    this.#options.clock.after(
      (this.#config?.killGraceMs ?? 0) + STOP_MARGIN_MS,
      () => {
        this.#end({ kind: 'stopped', reason: 'workers did not end in time', clean: false });
      },
      { background: true },
    );
    await Promise.all(
      this.#allEngines().map(async (engine) => {
        await engine.stop();
      }),
    );
    this.#writer.flush();
    const end: HostEnd = { kind: 'stopped', reason: 'stopped', clean: !this.#isQuarantined };
    // What is written must reach the agent before the process exits.
    this.#options.socket.end(() => {
      this.#end(end);
    });
  }

  /** Gives back what has not begun, lets what runs end in its own time, then ends. The agent may still say `stop`. */
  drain(): void {
    if (!this.#isClosed && !this.#isStopping) {
      this.#close();
    }
  }

  /** Kills every worker without waiting. */
  kill(): void {
    for (const engine of this.#allEngines()) {
      engine.kill();
    }
  }

  #allEngines(): Engine[] {
    return this.#engines === undefined ? [] : Object.values(this.#engines);
  }

  /** Tasks without an answer. */
  get #taskCount(): number {
    return this.#allEngines().reduce((sum, engine) => sum + engine.taskCount, 0);
  }

  #send(frame: HostToAgentFrame, body?: Uint8Array): void {
    this.#writer.write(frame, body);
  }

  #end(end: HostEnd): void {
    if (!this.#hasEnded) {
      this.#hasEnded = true;
      this.#options.onEnd(end);
    }
  }

  #onAgentLost(reason: string): void {
    if (!this.#hasEnded && !this.#isStopping) {
      this.kill();
      this.#end({ kind: 'agent-lost', reason, clean: false });
    }
  }

  #onData(chunk: Buffer): void {
    try {
      for (const { header, body } of this.#decoder.push(chunk)) {
        this.#onFrame(header as AgentToHostFrame, body);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) {
        throw error;
      }
      // Both sides ship together: whatever speaks there is not the agent.
      this.#onAgentLost(errorText(error));
    }
    this.#respectBackpressure();
  }

  #respectBackpressure(): void {
    const { socket } = this.#options;
    if (this.#writer.pendingBytes > PENDING_BYTES_MAX && !socket.isPaused()) {
      socket.pause();
      socket.once('drain', () => {
        socket.resume();
      });
    }
  }

  #onFrame(frame: AgentToHostFrame, body: Buffer): void {
    switch (frame.type) {
      case 'welcome':
        this.#onWelcome(frame.config);
        return;
      case 'task':
        this.#onTask(frame, body);
        return;
      case 'cancel':
        for (const engine of this.#allEngines()) {
          engine.cancel(frame.nonce);
        }
        return;
      case 'recall':
        this.#returnAll();
        return;
      case 'ping':
        this.#send({ type: 'pong' });
        return;
      case 'stop':
        this.#stopSoon();
        return;
    }
  }

  #stopSoon(): void {
    this.stop().catch((error: unknown) => {
      this.#end({ kind: 'stopped', reason: errorText(error), clean: false });
    });
  }

  #onWelcome(given: HostConfig): void {
    if (this.#engines !== undefined) {
      return;
    }
    // Relative for a host of another user: the agent's own directories are closed to it.
    const config = { ...given, workingDir: resolve(given.workingDir) };
    this.#config = config;
    if (config.nice !== undefined) {
      beNice(config.nice);
    }
    const bounded = {
      ...config,
      outputBytesMax: Math.min(config.outputBytesMax, OUTPUT_BYTES_CAP),
    };
    try {
      // Threads cannot change their directory; they see the one of the process.
      mkdirSync(config.workingDir, { recursive: true });
      process.chdir(config.workingDir);
    } catch (error) {
      const reason = `the working directory ${config.workingDir} cannot be used (${errorText(error)}): set \`working_dir\` in the endpoint's config.yaml to one that this user can write to`;
      this.#reportDegraded('javascript', reason);
      this.#reportDegraded('python', reason);
      return;
    }
    this.#startEngines(bounded).catch((error: unknown) => {
      this.#onAgentLost(errorText(error));
    });
  }

  async #startEngines(config: HostConfig): Promise<void> {
    const environment = workerEnvironment(this.#options.environment, config.environment);
    const { clock } = this.#options;
    const marks = new BegunMarks(config.runningTable);
    const listener: EngineListener = {
      onBegin: (task) => {
        marks.mark(task);
      },
      onPlacesChanged: () => {
        this.#announcePlaces();
      },
      onDegraded: (language, reason) => {
        this.#reportDegraded(language, reason);
      },
      onEnvironments: (list) => {
        if (!this.#hasEnded && !this.#options.socket.writableEnded) {
          this.#send({ type: 'environments', list });
        }
      },
      onQuarantined: (language) => {
        this.#onQuarantined(language);
      },
    };
    // A language that nobody runs here costs no memory: its library is not even loaded.
    const javascript =
      config.javascript.threads > 0
        ? (await import('./javascript/javascript-engine.ts')).createJavascriptEngine(
            config,
            environment,
            clock,
            listener,
          )
        : unavailable('javascript', listener, clock);
    const python =
      config.python.interpreters > 0
        ? (await import('./python/python-engine.ts')).createPythonEngine(
            config,
            environment,
            clock,
            listener,
          )
        : unavailable('python', listener, clock);
    this.#engines = { javascript, python };
    if (this.#isStopping) {
      return;
    }
    javascript.start();
    python.start();
    if (config.javascript.threads === 0 && config.python.interpreters === 0) {
      this.#announcePlaces();
    }
  }

  #reportDegraded(language: Language, reason: string): void {
    // A host is known by its places first, even when it has none.
    this.#sendPlaces();
    this.#send({ type: 'degraded', language, reason });
  }

  /** Tells the number of places, once per turn of the loop and only when it changed. */
  #announcePlaces(): void {
    if (!this.#isReadyScheduled) {
      this.#isReadyScheduled = true;
      queueMicrotask(() => {
        this.#isReadyScheduled = false;
        this.#sendPlaces();
      });
    }
  }

  #sendPlaces(): void {
    const isOpen = !this.#isClosed && !this.#isStopping;
    const counts = {
      javascript: isOpen ? (this.#engines?.javascript.placeCount ?? 0) : 0,
      python: isOpen ? (this.#engines?.python.placeCount ?? 0) : 0,
    };
    const text = `${counts.javascript}/${counts.python}`;
    if (text !== this.#announced && !this.#hasEnded && !this.#options.socket.writableEnded) {
      this.#announced = text;
      const restarts = {
        javascript: this.#engines?.javascript.restartCount ?? 0,
        python: this.#engines?.python.restartCount ?? 0,
      };
      this.#send({ type: 'ready', ...counts, restarts });
    }
  }

  #onTask(frame: TaskFrame, body: Buffer): void {
    const answerTo = { task_id: frame.task_id, nonce: frame.nonce };
    const engine = this.#engines?.[frame.language];
    if (engine === undefined) {
      this.#send({
        type: 'failed',
        ...answerTo,
        code: 'WORKER_START_FAILED',
        message: 'the worker host has no workers: see the reason in the status of the agent',
        worker_lost: false,
      });
      return;
    }
    const task: WorkerTask = {
      taskId: frame.task_id,
      nonce: frame.nonce,
      body,
      ...(frame.cell !== undefined && { cell: frame.cell }),
      ...(frame.timeout_ms !== undefined && { timeoutMs: frame.timeout_ms }),
      ...(frame.result_serializers !== undefined && {
        resultSerializers: frame.result_serializers,
      }),
      ...(frame.resource_specification !== undefined && {
        resourceSpecification: frame.resource_specification,
      }),
      ...(frame.environment !== undefined && { environment: frame.environment }),
    };
    engine.submit(task, (outcome) => {
      this.#answer(answerTo, outcome);
    });
    if (this.#isClosed && engine.waitingCount > 0) {
      // It was on its way when this host closed.
      this.#returnAll();
    }
  }

  #answer(answerTo: { task_id: string; nonce: string }, outcome: TaskOutcome): void {
    const output = outcome.output === undefined ? {} : { output: outcome.output };
    if (outcome.kind === 'result') {
      const frame: ResultFrame = { type: 'result', ...answerTo, failed: outcome.failed, ...output };
      if (this.#allEngines().some((engine) => engine.waitingCount > 0)) {
        // More results follow as soon as the tasks that wait here have run.
        this.#writer.writeHeld(frame, this.#taskCount, outcome.body);
      } else {
        this.#send(frame, outcome.body);
      }
    } else {
      const frame: FailedFrame = {
        type: 'failed',
        ...answerTo,
        code: outcome.code,
        message: outcome.message,
        worker_lost: outcome.workerLost,
        ...output,
      };
      this.#send(frame);
    }
    if (this.#isClosed) {
      this.#endWhenIdle();
    }
  }

  #onQuarantined(language: Language): void {
    this.#isQuarantined = true;
    process.emitWarning(
      `a ${language} worker cannot be ended; this host takes no new tasks and exits when the others have ended`,
    );
    this.#close();
  }

  #close(): void {
    this.#isClosed = true;
    // Before anything is given back, lest it be sent here again.
    this.#sendPlaces();
    // What waits here would only delay the host that replaces this one, and can run there.
    this.#returnAll();
    this.#endWhenIdle();
  }

  #returnAll(): void {
    this.#send({ type: 'returned', nonces: this.#recallAll() });
  }

  #recallAll(): string[] {
    return this.#allEngines().flatMap((engine) => engine.recall());
  }

  #endWhenIdle(): void {
    if (this.#taskCount === 0 && !this.#isStopping) {
      this.#stopSoon();
    }
  }
}

function unavailable(language: Language, listener: EngineListener, clock: Clock): Engine {
  return new PlaceEngine({
    language,
    size: 0,
    listener,
    clock,
    createPlace: () => {
      throw new ProtocolError('ENVELOPE_INVALID', `no ${language} worker is configured`);
    },
  });
}

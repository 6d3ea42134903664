/** A real worker host process with the test as its agent: a Unix socket, a token, frames. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { FrameDecoder, encodeFrame } from '../../src/protocol/frames.ts';
import type {
  AgentToHostFrame,
  FailedFrame,
  HelloFrame,
  HostConfig,
  HostToAgentFrame,
  ResultFrame,
  TaskFrame,
} from '../../src/protocol/host-frames.ts';
import { packTask, unpackResult } from '../../src/protocol/messages.ts';
import type { Result } from '../../src/protocol/messages.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import type { TaskEnvironment } from '../../src/protocol/sharing.ts';

/** How a task was answered. */
export type Answer =
  { frame: ResultFrame; result: Result } | { frame: FailedFrame; result?: undefined };

export const PYTHON = '/usr/bin/python3';
export const ENDPOINT_ID = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee';

/** For what never comes. */
const DEADLINE_MS = 30_000;
const HOST_MAIN = fileURLToPath(new URL('../../src/workers/host-main.js', import.meta.url));

export interface TaskOptions {
  readonly timeoutMs?: number;
  readonly resultSerializers?: readonly string[];
  readonly kwargs?: string;
  readonly nonce?: string;
  readonly taskId?: string;
  readonly environment?: TaskEnvironment;
}

/** The host under test. */
export class TestHost {
  readonly process: ChildProcess;
  readonly directory: string;
  readonly workingDir: string;
  readonly frames: HostToAgentFrame[] = [];
  /** Every place count that was announced. */
  readonly ready: { javascript: number; python: number }[] = [];
  readonly degraded: { language: string; reason: string }[] = [];
  readonly returned: string[] = [];
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  stderr = '';
  socket: Socket | undefined;
  hello: HelloFrame | undefined;
  readonly token = randomUUID();
  readonly #server: Server;
  readonly #pending = new Map<string, (answer: Answer) => void>();
  readonly #watchers = new Set<() => void>();

  private constructor(directory: string, server: Server) {
    this.directory = directory;
    this.workingDir = join(directory, 'tasks');
    this.#server = server;
    this.process = spawn(process.execPath, [HOST_MAIN, join(directory, 's')], {
      detached: true,
      stdio: ['pipe', 'ignore', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        HOME: process.env['HOME'],
        LANG: 'C.UTF-8',
        OUTPOST_SECRET_THING: 'leaked',
      },
    });
    this.process.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    this.exited = new Promise((resolve) => {
      this.process.once('exit', (code, signal) => {
        resolve({ code, signal });
      });
    });
    this.process.stdin?.write(`${this.token}\n`);
  }

  static async start(overrides: Partial<HostConfig> = {}): Promise<TestHost> {
    const directory = mkdtempSync(join(tmpdir(), 'outpost-host-test-'));
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(join(directory, 's'), resolve);
    });
    const host = new TestHost(directory, server);
    await host.#accept(overrides);
    return host;
  }

  async #accept(overrides: Partial<HostConfig>): Promise<void> {
    const socket = await new Promise<Socket>((resolve) => {
      this.#server.once('connection', resolve);
    });
    this.socket = socket;
    socket.on('error', () => undefined);
    const decoder = new FrameDecoder();
    socket.on('data', (chunk: Buffer) => {
      for (const { header, body } of decoder.push(chunk)) {
        this.#onFrame(header as HostToAgentFrame, body, overrides);
      }
      for (const watcher of this.#watchers) {
        watcher();
      }
    });
  }

  #onFrame(frame: HostToAgentFrame, body: Buffer, overrides: Partial<HostConfig>): void {
    this.frames.push(frame);
    switch (frame.type) {
      case 'hello':
        this.hello = frame;
        this.send({ type: 'welcome', config: this.#config(overrides) });
        return;
      case 'ready':
        this.ready.push({ javascript: frame.javascript, python: frame.python });
        return;
      case 'pong':
      case 'environments':
        return;
      case 'returned':
        this.returned.push(...frame.nonces);
        return;
      case 'degraded':
        this.degraded.push({ language: frame.language, reason: frame.reason });
        return;
      case 'result': {
        const settle = this.#pending.get(frame.nonce);
        this.#pending.delete(frame.nonce);
        settle?.({ frame, result: unpackResult(body) });
        return;
      }
      case 'failed': {
        const settle = this.#pending.get(frame.nonce);
        this.#pending.delete(frame.nonce);
        settle?.({ frame });
        return;
      }
    }
  }

  #config(overrides: Partial<HostConfig>): HostConfig {
    return {
      endpointId: ENDPOINT_ID,
      javascript: { threads: 0, heapMb: 256 },
      python: { interpreters: 0, executable: PYTHON },
      workingDir: this.workingDir,
      resultCharsMax: 10_000,
      outputBytesMax: 1024,
      killGraceMs: 500,
      startTimeoutMs: DEADLINE_MS,
      environment: { GREETING: 'hello' },
      ...overrides,
    };
  }

  send(frame: AgentToHostFrame, body?: Uint8Array): void {
    const [head, rest] = encodeFrame(frame, body);
    this.socket?.write(head);
    if (rest.length > 0) {
      this.socket?.write(rest);
    }
  }

  /** Waits until the last announced places are these. */
  async placesAre(javascript: number, python: number, deadlineMs = DEADLINE_MS): Promise<void> {
    await this.when(() => {
      const last = this.ready.at(-1);
      return last?.javascript === javascript && last.python === python;
    }, deadlineMs);
  }

  /** Waits until something holds, looking after every frame. */
  async when(holds: () => boolean, deadlineMs = DEADLINE_MS): Promise<void> {
    if (holds()) {
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (holds()) {
          clearTimeout(timer);
          this.#watchers.delete(look);
          resolve();
        }
      };
      const timer = setTimeout(() => {
        this.#watchers.delete(look);
        const state = JSON.stringify({
          ready: this.ready,
          degraded: this.degraded,
          stderr: this.stderr,
        });
        reject(new Error(`nothing in ${deadlineMs} ms: ${state}`));
      }, deadlineMs);
      this.#watchers.add(look);
    });
  }

  /** Runs a task from serialized buffers. */
  async runRaw(
    language: 'javascript' | 'python',
    code: string,
    args: string,
    options: TaskOptions = {},
  ): Promise<Answer> {
    const taskId = options.taskId ?? randomUUID();
    const frame: TaskFrame = {
      type: 'task',
      task_id: taskId,
      nonce: options.nonce ?? randomUUID(),
      language,
      ...(options.timeoutMs !== undefined && { timeout_ms: options.timeoutMs }),
      ...(options.environment !== undefined && { environment: options.environment }),
      ...(options.resultSerializers !== undefined && {
        result_serializers: options.resultSerializers,
      }),
    };
    const body = packTask({
      task_id: taskId,
      task_buffer: packBuffers([code, args, options.kwargs ?? '11\n{}']),
    });
    return await new Promise((resolve) => {
      this.#pending.set(frame.nonce, resolve);
      this.send(frame, body);
    });
  }

  /** Runs a JavaScript function with JSON arguments. */
  async js(
    source: string,
    args: unknown[] = [],
    options: TaskOptions & { name?: string } = {},
  ): Promise<Answer> {
    return await this.runRaw(
      'javascript',
      `js\n${options.name ?? 'f'}:${source}`,
      `11\n${JSON.stringify(args)}`,
      options,
    );
  }

  /** Runs a Python function `f` with JSON arguments. */
  async py(source: string, args: unknown[] = [], options: TaskOptions = {}): Promise<Answer> {
    return await this.runRaw('python', `st\nf:${source}`, `11\n${JSON.stringify(args)}`, options);
  }

  /**
   * Runs a Python task that does not end until its time limit ends it. How far it gets until then is up to the machine: with a limit that
   * was over before the task had printed `said`, it is run again with a longer one.
   */
  async overtime(
    source: string,
    said: RegExp,
    options: TaskOptions & { args?: unknown[] } = {},
  ): Promise<{ frame: FailedFrame }> {
    for (let timeoutMs = 700; ; timeoutMs *= 3) {
      const { frame } = await this.py(source, options.args, { ...options, timeoutMs });
      assert.ok(frame.type === 'failed');
      assert.equal(frame.code, 'TASK_TIMED_OUT');
      if (said.test(frame.output?.stdout ?? '') || timeoutMs > DEADLINE_MS) {
        return { frame };
      }
    }
  }

  /** Ends the host, whatever it does. */
  async dispose(): Promise<void> {
    if (
      this.process.exitCode === null &&
      this.process.signalCode === null &&
      this.process.pid !== undefined
    ) {
      process.kill(-this.process.pid, 'SIGKILL');
    }
    await this.exited;
    this.socket?.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
    });
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Interpreters that a host has started. */
export function interpretersOf(host: TestHost): number[] {
  const marker = `outpost_worker.py\0${host.process.pid ?? 0}\0`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, 'latin1').includes(marker);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** The interpreter with dill that the suite was given. */
export function pythonWithDill(): string {
  const python = process.env['OUTPOST_TEST_DILL_PYTHON'];
  if (python === undefined || python === '') {
    throw new Error(
      'set OUTPOST_TEST_DILL_PYTHON to a Python interpreter that has globus-compute-sdk (or dill) installed, e.g. of a virtual environment',
    );
  }
  return python;
}

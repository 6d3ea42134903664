/**
 * A real worker host with tasks that it gives to threads and interpreters ahead of time, while tasks are cancelled and recalled and
 * workers die: every task has one fate, and what ran is what the fates and the table of running tasks say.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { FailedFrame, ResultFrame } from '../../src/protocol/host-frames.ts';
import { packTask } from '../../src/protocol/messages.ts';
import {
  RUNNING_CELL_BYTES,
  RUNNING_CELL_COUNT,
  runningCellOffset,
} from '../../src/protocol/running-cells.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import type { Language } from '../../src/protocol/serialization.ts';
import { taskKey } from '../../src/protocol/task-id.ts';
import { eventually } from '../support/eventually.ts';
import { PYTHON, TestHost, interpretersOf } from '../support/worker-host.ts';

/** A number in [0, 1), the same ones for the same seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What functions do after they have noted that they run. `ms` is their argument. */
const JAVASCRIPT: Readonly<Record<string, string>> = {
  short: 'return ms;',
  wait: 'await new Promise((resolve) => setTimeout(resolve, ms));',
  block: 'const end = Date.now() + ms; while (Date.now() < end);',
  throw: "throw new Error('no');",
  stray: "setImmediate(() => { throw new Error('stray'); });",
  tamper: 'globalThis.setImmediate = () => undefined;',
  exit: 'process.exit(3);',
};
const PYTHON_BODIES: Readonly<Record<string, string>> = {
  short: 'return ms',
  wait: 'time.sleep(ms / 1000)',
  raise: 'raise ValueError("no")',
  forkAndReturn: 'os.fork()',
  forkAndClose:
    'pid = os.fork()\n    if pid == 0:\n        os.closerange(3, 64)\n        os._exit(0)\n    os.waitpid(pid, 0)',
  exit: 'os._exit(3)',
  killed: 'os.kill(os.getpid(), 9)',
  garbage: 'os.write(4, b"\\xff" * 64)',
  closeTokens: 'os.closerange(5, 64)',
};

function sourceOf(language: Language, kind: string): string {
  if (kind === 'garbageUnseen') {
    // The host sleeps meanwhile, so that it reads this with the results of those that follow.
    return sourceOf(language, 'garbage').replace(
      'os.write(4',
      'time.sleep(0.1); os.kill(os.getppid(), 19); os.write(4',
    );
  }
  return language === 'javascript'
    ? `js\nf:async (log, id, ms) => { (await import('node:fs')).appendFileSync(log, id + '\\n'); ${JAVASCRIPT[kind] ?? ''} }`
    : `st\nf:def f(log, id, ms):\n    import os, time\n    fd = os.open(log, os.O_WRONLY | os.O_APPEND)\n    os.write(fd, (id + "\\n").encode())\n    os.close(fd)\n    ${PYTHON_BODIES[kind] ?? ''}\n`;
}

type Fate = ResultFrame | FailedFrame | 'returned';

interface SentTask {
  readonly taskId: string;
  readonly nonce: string;
  readonly cell: number;
  readonly kind: string;
}

/** Sends tasks to a host and notes what becomes of each. */
class Trial {
  readonly tasks: SentTask[] = [];
  readonly fates = new Map<string, Fate[]>();
  readonly log: string;
  readonly #directory = mkdtempSync(join(tmpdir(), 'outpost-ahead-test-'));
  readonly #table: string;
  #seenFrames = 0;
  #host: TestHost | undefined;

  constructor() {
    this.log = join(this.#directory, 'log');
    this.#table = join(this.#directory, 'table');
    writeFileSync(this.log, '');
    writeFileSync(this.#table, Buffer.alloc(runningCellOffset(RUNNING_CELL_COUNT)));
  }

  get host(): TestHost {
    assert.ok(this.#host !== undefined);
    return this.#host;
  }

  async start(threads: number, interpreters: number): Promise<void> {
    this.#host = await TestHost.start({
      javascript: { threads, heapMb: 128 },
      python: { interpreters, executable: PYTHON },
      runningTable: this.#table,
      killGraceMs: 3000,
    });
    await this.host.placesAre(threads, interpreters);
  }

  send(language: Language, kind: string, ms: number, timeoutMs?: number): SentTask {
    const cell = this.tasks.length;
    const task = { taskId: randomUUID(), nonce: `n${cell}`, cell, kind: `${language} ${kind}` };
    const { taskId, nonce } = task;
    this.tasks.push(task);
    const args = `11\n${JSON.stringify([this.log, taskId, ms])}`;
    this.host.send(
      {
        type: 'task',
        task_id: taskId,
        nonce,
        language,
        cell,
        ...(timeoutMs !== undefined && { timeout_ms: timeoutMs }),
      },
      packTask({
        task_id: taskId,
        task_buffer: packBuffers([sourceOf(language, kind), args, '11\n{}']),
      }),
    );
    return task;
  }

  /** Waits until no more than `left` tasks have no fate yet. */
  async fated(left: number): Promise<void> {
    await this.host
      .when(() => {
        this.#note();
        return this.tasks.length - this.fates.size <= left;
      })
      .catch((error: unknown) => {
        const lost = this.tasks.filter(({ nonce }) => !this.fates.has(nonce));
        assert.fail(`no answer: ${JSON.stringify(lost.slice(0, 20))} ${String(error)}`);
      });
  }

  #note(): void {
    for (const frame of this.host.frames.slice(this.#seenFrames)) {
      if (frame.type === 'result' || frame.type === 'failed') {
        this.#add(frame.nonce, frame);
      } else if (frame.type === 'returned') {
        for (const nonce of frame.nonces) {
          this.#add(nonce, 'returned');
        }
      }
    }
    this.#seenFrames = this.host.frames.length;
  }

  #add(nonce: string, fate: Fate): void {
    this.fates.set(nonce, [...(this.fates.get(nonce) ?? []), fate]);
  }

  /** Ids of the tasks that ran, once for each time. */
  executions(): string[] {
    return readFileSync(this.log, 'utf8').split('\n').slice(0, -1);
  }

  /** Holds fates, executions and marks against each other. */
  check(): void {
    const runs = new Map<string, number>();
    for (const id of this.executions()) {
      runs.set(id, (runs.get(id) ?? 0) + 1);
    }
    const table = readFileSync(this.#table);
    for (const { taskId, nonce, cell, kind } of this.tasks) {
      const fates = this.fates.get(nonce) ?? [];
      const story = `${nonce} (${kind}): ${JSON.stringify(fates)}`;
      const ran = runs.get(taskId) ?? 0;
      const offset = runningCellOffset(cell);
      const isMarked = taskKey(taskId).equals(table.subarray(offset, offset + RUNNING_CELL_BYTES));
      const [fate] = fates;
      assert.ok(fate !== undefined && fates.length === 1, `${story} has not one fate`);
      assert.ok(ran <= 1, `${story} ran ${ran} times`);
      assert.ok(ran === 0 || isMarked, `${story} ran and is not marked`);
      if (fate === 'returned') {
        assert.ok(ran === 0 && !isMarked, `${story} was returned and had begun`);
      } else if (fate.type === 'result') {
        assert.equal(ran, 1, `${story} has a result and did not run`);
      } else if (fate.message.includes('before it started')) {
        assert.ok(ran === 0 && !isMarked, `${story} had begun`);
      }
    }
  }

  async end(): Promise<void> {
    await this.#host?.dispose();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

describe('tasks that are given ahead of time', () => {
  let trial: Trial;

  beforeEach(() => {
    trial = new Trial();
  });

  afterEach(async () => {
    await trial.end();
  });

  /** Sends a task with a random behaviour. */
  function sendRandom(random: () => number): void {
    const language = random() < 0.5 ? 'javascript' : 'python';
    const kinds = Object.keys(language === 'javascript' ? JAVASCRIPT : PYTHON_BODIES);
    const roll = random();
    const kind =
      roll < 0.85 ? 'short' : roll < 0.97 ? 'wait' : kinds[Math.floor(random() * kinds.length)];
    const ms = Math.floor(random() * 12);
    // A limit that is about as long as the task: its end and its result meet.
    const timeoutMs = kind === 'wait' && random() < 0.04 ? Math.max(1, ms) : undefined;
    trial.send(language, kind ?? 'short', ms, timeoutMs);
  }

  async function disturb(random: () => number): Promise<void> {
    const roll = random();
    if (roll < 0.25) {
      trial.host.send({ type: 'recall' });
    } else if (roll < 0.55) {
      const index = trial.tasks.length - 1 - Math.floor(random() * 30);
      const { taskId = '', nonce = '' } = trial.tasks[index] ?? {};
      trial.host.send({ type: 'cancel', task_id: taskId, nonce });
    } else if (roll < 0.65) {
      const pids = interpretersOf(trial.host);
      const pid = pids[Math.floor(random() * pids.length)];
      if (pid !== undefined) {
        process.kill(pid, 'SIGKILL');
      }
    } else {
      await trial.fated(Math.floor(random() * 40));
    }
  }

  for (const seed of [1, 2]) {
    it(`have one fate each, and the one that they had (seed ${seed})`, async () => {
      const random = generator(seed);
      await trial.start(2, 2);
      for (let wave = 0; wave < 40; wave += 1) {
        for (let count = Math.floor(random() * 60); count >= 0; count -= 1) {
          sendRandom(random);
        }
        await disturb(random);
        await trial.fated(60);
      }
      await trial.fated(0);
      await trial.host.when(() => trial.host.ready.at(-1)?.python === 2);
      trial.check();
    });
  }

  it('run once when the task before them closes descriptors that are not its own', async () => {
    await trial.start(0, 1);
    for (let round = 0; round < 4; round += 1) {
      trial.send('python', 'closeTokens', 0);
      for (let count = 0; count < 4; count += 1) {
        trial.send('python', 'short', 0);
      }
      await trial.fated(0);
    }
    trial.check();
  });

  it('run at most once when the task before them disturbs the answers', async () => {
    await trial.start(0, 1);
    for (let round = 0; round < 4; round += 1) {
      const before = trial.executions().length;
      // In one piece: what comes later is not put behind a task that runs for long.
      trial.host.socket?.cork();
      trial.send('python', 'garbageUnseen', 0);
      for (let count = 0; count < 4; count += 1) {
        trial.send('python', 'short', 0);
      }
      trial.host.socket?.uncork();
      // As many as a place is given; on a busy machine it may have been given fewer.
      await eventually(() => {
        assert.equal(trial.executions().length, before + 4);
      }, 1000).catch(() => undefined);
      process.kill(trial.host.process.pid ?? 0, 'SIGCONT');
      await trial.fated(0);
    }
    trial.check();
  });

  it('begin also when the task before them has replaced setImmediate', async () => {
    await trial.start(1, 0);
    trial.send('javascript', 'tamper', 0);
    trial.send('javascript', 'short', 0);
    trial.send('javascript', 'short', 0);
    await trial.fated(0);
    trial.send('javascript', 'short', 0);
    await trial.fated(0);
    trial.check();
    assert.ok(trial.tasks.every(({ nonce }) => trial.fates.get(nonce)?.[0] !== 'returned'));
  });
});

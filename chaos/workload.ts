/**
 * The workload: a program that uses the public SDK as people do, and writes down what it did and what it was told.
 *
 *   node build/chaos/workload.js PLAN.json        credentials in OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET
 *
 * It submits a mix of JavaScript and Python tasks, most of them short, some of 0.2 to 2 s, some allowed to be started again; it asks
 * the API about tasks all the while; and when every future is settled, or its time is over, it asks about every task twice more.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { sleep, systemClock } from '../src/base/clock.ts';
import { errorText } from '../src/base/errors.ts';
import { Client, ComputeError, Executor } from '../src/sdk/index.ts';
import type { RegisteredFunction, TaskRecord } from '../src/sdk/index.ts';
import { HISTORY_FILES, HistoryWriter } from './history.ts';
import type { Answer, Outcome, WorkloadRecord } from './history.ts';
import { seededRandom } from './seeded-random.ts';
import type { SeededRandom } from './seeded-random.ts';
import { JAVASCRIPT_FUNCTION, PYTHON_FUNCTION } from './task-functions.ts';
import { RELEASE_FILE } from './workload-plan.ts';
import type { WorkloadPlan } from './workload-plan.ts';

const TICK_MS = 50;
const ASK_EVERY_MS = 1_000;
const ASK_TASKS = 100;
const RETRIES = 2;
const CALM_MS = 500;
/** Of a gated run: what is submitted at once, how the trickle goes on, and up to where before the release. */
const FIRST_SHARE = 0.35;
const TRICKLE_EVERY_MS = 100;
const GATED_SHARE = 0.85;

class Workload {
  readonly #plan: WorkloadPlan;
  readonly #history: HistoryWriter<WorkloadRecord>;
  readonly #random: SeededRandom;
  readonly #client: Client;
  /** One that lets tasks be started again, one that does not. */
  readonly #executors: Readonly<Record<'retried' | 'once', Executor>>;
  readonly #taskIds: string[] = [];
  #functions: Readonly<Record<'javascript' | 'python', RegisteredFunction>> | undefined;
  #unsettled = 0;
  #submitted = 0;

  constructor(plan: WorkloadPlan) {
    this.#plan = plan;
    this.#history = new HistoryWriter(join(plan.directory, HISTORY_FILES.workload));
    this.#random = seededRandom(plan.seed);
    this.#client = new Client({
      hubUrl: plan.hubUrl,
      throttlingEnabled: false,
      resultCacheBytes: 0,
    });
    const shared = { client: this.#client, endpointId: plan.endpointId };
    this.#executors = {
      once: new Executor(shared),
      retried: new Executor({ ...shared, resourceSpecification: { max_retries: RETRIES } }),
    };
  }

  async run(): Promise<void> {
    this.#functions = {
      javascript: await this.#client.registerFunction(JAVASCRIPT_FUNCTION, { name: 'mark' }),
      python: await this.#client.registerPythonFunction(PYTHON_FUNCTION),
    };
    const { tasks, limitMs } = this.#plan;
    const begunMs = systemClock.monotonicMs();
    let askedMs = begunMs;
    const elapsedMs = (): number => systemClock.monotonicMs() - begunMs;
    while ((this.#submitted < tasks || this.#unsettled > 0) && elapsedMs() < limitMs) {
      const due = this.#due(elapsedMs());
      while (this.#submitted < due) {
        this.#submit(this.#submitted);
      }
      if (systemClock.monotonicMs() - askedMs >= ASK_EVERY_MS) {
        askedMs = systemClock.monotonicMs();
        await this.#ask(this.#sample(ASK_TASKS));
      }
      await sleep(systemClock, TICK_MS);
    }
    for (let round = 0; round < 2; round += 1) {
      await sleep(systemClock, CALM_MS);
      await this.#ask(this.#taskIds);
    }
    this.#history.write({ type: 'finished', at: Date.now() });
    const cancelPending = this.#unsettled > 0;
    // Rejections from here on are our own doing and no part of the history.
    this.#unsettled = -Infinity;
    await Promise.all([
      this.#executors.once.shutdown({ cancelPending }),
      this.#executors.retried.shutdown({ cancelPending }),
    ]);
  }

  /** How many tasks are to have been submitted by now. */
  #due(elapsedMs: number): number {
    const { tasks, pace, directory } = this.#plan;
    if (pace.kind === 'even') {
      return Math.min(tasks, Math.ceil((elapsedMs / pace.ms) * tasks));
    }
    if (existsSync(join(directory, RELEASE_FILE))) {
      return tasks;
    }
    const trickle = tasks * FIRST_SHARE + elapsedMs / TRICKLE_EVERY_MS;
    return Math.floor(Math.min(trickle, tasks * GATED_SHARE));
  }

  #submit(key: number): void {
    const language = this.#random.pick(['javascript', 'python'] as const);
    const isRetried = this.#random.next() < 0.2;
    const durationMs = this.#durationMs();
    const fn = this.#functions?.[language];
    if (fn === undefined) {
      return;
    }
    const at = Date.now();
    this.#history.write({
      type: 'submitted',
      ...{ key, at, language, durationMs },
      maxRetries: isRetried ? RETRIES : 0,
      deadlineAt: at + this.#plan.deadlineMs,
    });
    this.#submitted += 1;
    this.#unsettled += 1;
    const markers = join(this.#plan.directory, HISTORY_FILES.markers);
    const executor = this.#executors[isRetried ? 'retried' : 'once'];
    const future = executor.submitToRegisteredFunction(fn, [markers, key, durationMs] as never);
    future.submitted.then(
      (taskId) => {
        this.#taskIds.push(taskId);
        this.#history.write({ type: 'accepted', key, at: Date.now(), taskId });
      },
      // The future says the same.
      () => undefined,
    );
    const settled = (outcome: Outcome): void => {
      if (this.#unsettled > -Infinity) {
        this.#unsettled -= 1;
        this.#history.write({
          type: 'settled',
          ...{ key, at: Date.now(), taskId: future.taskId, outcome },
        });
      }
    };
    future.then(
      (value: unknown) => {
        settled({ status: 'value', value: JSON.stringify(value) });
      },
      (error: unknown) => {
        settled(failure(error));
      },
    );
  }

  #durationMs(): number {
    const dice = this.#random.next();
    if (dice < 0.6) {
      return this.#random.integer(0, 20);
    }
    return dice < 0.92 ? this.#random.integer(100, 400) : this.#random.integer(600, 2_000);
  }

  #sample(count: number): string[] {
    const size = this.#taskIds.length;
    const chosen = new Set<string>();
    for (let index = 0; index < Math.min(count, size); index += 1) {
      chosen.add(this.#taskIds[this.#random.integer(0, size - 1)] ?? '');
    }
    return [...chosen];
  }

  async #ask(taskIds: readonly string[]): Promise<void> {
    if (taskIds.length === 0) {
      return;
    }
    const askedAt = Date.now();
    try {
      const records = await this.#client.getBatchResult(taskIds);
      const at = Date.now();
      this.#history.write(
        ...[...records].map(([taskId, record]): Answer => ({
          type: 'answer',
          askedAt,
          at,
          taskId,
          outcome: answered(record),
        })),
      );
    } catch (error) {
      // The hub is one of the things that are taken away.
      process.stderr.write(`asking about ${taskIds.length} tasks failed: ${errorText(error)}\n`);
    }
  }
}

function answered(record: TaskRecord): Answer['outcome'] {
  if (record.pending) {
    return { status: 'pending' };
  }
  return record.status === 'success'
    ? { status: 'value', value: JSON.stringify(record.result) }
    : failure(record.exception);
}

function failure(error: unknown): Outcome {
  const code = error instanceof ComputeError ? error.code : '';
  return { status: 'failure', code, message: errorText(error).slice(0, 500) };
}

const [planPath] = process.argv.slice(2);
if (planPath === undefined) {
  process.stderr.write('usage: workload.js PLAN.json\n');
  process.exit(64);
}
await new Workload(JSON.parse(readFileSync(planPath, 'utf8')) as WorkloadPlan).run();

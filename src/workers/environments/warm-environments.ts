/**
 * Interpreters in execution environments: started when a task first asks for one, kept for the next task, and ended when others are
 * wanted more.
 *
 * Invariants: every task is settled exactly once; an interpreter runs one task at a time; at most `warmMax` interpreters stand idle,
 * and those that were used last stay; while an environment does not start, its tasks fail at once with what it said, and others are not
 * concerned. How many run at a time is the engine's affair: each task comes from a place of its own.
 */
import type { Clock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import { environmentTitle } from '../../protocol/environments.ts';
import type { EnvironmentReport } from '../../protocol/host-frames.ts';
import type { TaskEnvironment } from '../../protocol/sharing.ts';
import { abortedOutcome } from '../aborted.ts';
import type {
  AbortReason,
  FailedOutcome,
  Place,
  PlaceFailure,
  PlaceListener,
  Settle,
  WorkerTask,
} from '../engine.ts';
import { StartBreaker } from '../start-breaker.ts';
import { EnvironmentCensus } from './environment-census.ts';
import type { Counted } from './environment-census.ts';

/** How long the tasks of an environment that does not start fail without another try. */
const PROBE_PERIOD_MS = 30_000;
/** Environments of which it is remembered that they do not start; the oldest is forgotten. */
const BREAKERS_MAX = 256;

/** Settings of {@link WarmEnvironments}. */
export interface WarmEnvironmentsOptions {
  readonly warmMax: number;
  readonly clock: Clock;
  /** Told which interpreters there are, when that has changed. */
  readonly onChange?: (reports: readonly EnvironmentReport[]) => void;
  /** Why the environment is refused; undefined when it is allowed. */
  readonly obstacle: (environment: TaskEnvironment) => string | undefined;
  readonly createPlace: (environment: TaskEnvironment, listener: PlaceListener) => Place;
}

/** A task on its way through an environment. */
export interface EnvironmentRun {
  /** Ends the task and its interpreter. */
  readonly abort: (reason: AbortReason) => void;
}

interface Run {
  readonly task: WorkerTask;
  readonly environment: TaskEnvironment;
  readonly settle: Settle;
  warm: WarmInterpreter | undefined;
  abortReason: AbortReason | undefined;
}

interface WarmInterpreter {
  readonly key: string;
  readonly environment: TaskEnvironment;
  readonly place: Place;
  /** What it runs, or is being started for. */
  run: Run | undefined;
  isReady: boolean;
}

interface Trouble {
  readonly environment: TaskEnvironment;
  readonly breaker: StartBreaker;
  openedAtMs: number;
}

/** All interpreters in environments of a host. */
export class WarmEnvironments {
  readonly #options: WarmEnvironmentsOptions;
  readonly #all = new Set<WarmInterpreter>();
  /** The one that was used last stands last. */
  readonly #idle: WarmInterpreter[] = [];
  readonly #troubles = new Map<string, Trouble>();
  #isStopping = false;
  readonly #waiters: (() => void)[] = [];
  readonly #census: EnvironmentCensus;

  constructor(options: WarmEnvironmentsOptions) {
    this.#options = options;
    const { clock, onChange = () => undefined } = options;
    this.#census = new EnvironmentCensus(clock, () => this.#counted(), onChange);
  }

  /** Interpreters that wait for a task. */
  get idleCount(): number {
    return this.#idle.length;
  }

  /** Runs a task in its environment. Never settles before it returns. */
  run(task: WorkerTask, environment: TaskEnvironment, settle: Settle): EnvironmentRun {
    const run: Run = { task, environment, settle, warm: undefined, abortReason: undefined };
    const refusal = this.#refusal(environment);
    if (refusal !== undefined) {
      queueMicrotask(() => {
        settle(refusal);
      });
      return { abort: () => undefined };
    }
    const warm = this.#takeIdle(environment.id);
    if (warm === undefined) {
      this.#launch(run);
    } else {
      this.#give(run, warm);
    }
    return {
      abort: (reason) => {
        run.abortReason ??= reason;
        run.warm?.place.abort(reason);
      },
    };
  }

  /** Ends every interpreter; resolves when they are gone. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const { place } of this.#all) {
      place.abort('AGENT_STOPPED');
    }
    if (this.#all.size > 0) {
      await new Promise<void>((resolve) => {
        this.#waiters.push(resolve);
      });
    }
  }

  /** Kills every interpreter without waiting. */
  kill(): void {
    for (const { place } of this.#all) {
      place.kill();
    }
  }

  #refusal(environment: TaskEnvironment): FailedOutcome | undefined {
    const failed = { kind: 'failed', workerLost: false } as const;
    if (this.#isStopping) {
      return { ...failed, code: 'AGENT_STOPPED', message: 'the worker host is stopping' };
    }
    const obstacle = this.#options.obstacle(environment);
    if (obstacle !== undefined) {
      return { ...failed, code: 'ENVIRONMENT_NOT_AVAILABLE', message: obstacle };
    }
    const trouble = this.#troubles.get(environment.id);
    const reason = trouble?.breaker.openReason;
    if (trouble === undefined || reason === undefined) {
      return undefined;
    }
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - trouble.openedAtMs >= PROBE_PERIOD_MS) {
      // One tries again, and those that come meanwhile do not wait for it.
      trouble.openedAtMs = nowMs;
      return undefined;
    }
    return { ...failed, code: 'WORKER_START_FAILED', message: reason };
  }

  #takeIdle(key: string): WarmInterpreter | undefined {
    const index = this.#idle.findLastIndex((warm) => warm.key === key && !warm.place.isEnding);
    return index === -1 ? undefined : this.#idle.splice(index, 1)[0];
  }

  #launch(run: Run): void {
    const { environment } = run;
    let place: Place;
    try {
      place = this.#options.createPlace(environment, {
        onReady: () => {
          this.#onReady(warm);
        },
        onLost: (failure) => {
          this.#onLost(warm, failure);
        },
        onQuarantined: () => undefined,
      });
    } catch (error) {
      const reason = `an interpreter of ${environmentTitle(environment)} cannot be started: ${errorText(error)}`;
      queueMicrotask(() => {
        this.#noteFailure(environment, { reason, hopeless: false });
        this.#startAgain(run, { reason, hopeless: false });
      });
      return;
    }
    const warm: WarmInterpreter = { key: environment.id, environment, place, run, isReady: false };
    run.warm = warm;
    this.#all.add(warm);
    this.#census.changed();
    // Not now: a start that fails at once would settle the task before its place knows of it.
    queueMicrotask(() => {
      if (run.abortReason === undefined && !this.#isStopping) {
        place.start();
      } else {
        this.#onLost(warm, undefined);
      }
    });
  }

  #onReady(warm: WarmInterpreter): void {
    warm.isReady = true;
    this.#troubles.delete(warm.key);
    this.#census.changed();
    const { run } = warm;
    if (run !== undefined) {
      this.#give(run, warm);
    }
  }

  #give(run: Run, warm: WarmInterpreter): void {
    run.warm = warm;
    warm.run = run;
    this.#census.changed();
    warm.place.run(run.task, (outcome) => {
      warm.run = undefined;
      this.#census.changed();
      if (outcome.kind === 'result' && !warm.place.isEnding && !this.#isStopping) {
        this.#idle.push(warm);
        this.#trim();
      }
      run.settle(outcome);
    });
  }

  /** Ends what was not used for longest. */
  #trim(): void {
    while (this.#idle.length > this.#options.warmMax) {
      this.#idle.shift()?.place.abort('AGENT_STOPPED');
    }
  }

  #onLost(warm: WarmInterpreter, failure: PlaceFailure | undefined): void {
    this.#all.delete(warm);
    this.#census.changed();
    const index = this.#idle.indexOf(warm);
    if (index !== -1) {
      this.#idle.splice(index, 1);
    }
    const { run } = warm;
    if (failure !== undefined && !warm.isReady) {
      this.#noteFailure(warm.environment, failure);
    }
    if (run !== undefined) {
      warm.run = undefined;
      this.#startAgain(run, failure);
    }
    if (this.#isStopping && this.#all.size === 0) {
      for (const resolve of this.#waiters.splice(0)) {
        resolve();
      }
    }
  }

  /** The task has not begun: it is given another interpreter as long as there is hope. */
  #startAgain(run: Run, failure: PlaceFailure | undefined): void {
    const { environment, task } = run;
    const reason = run.abortReason ?? (this.#isStopping ? 'AGENT_STOPPED' : undefined);
    if (reason !== undefined) {
      run.settle(abortedOutcome(reason, task.timeoutMs));
      return;
    }
    const openReason = this.#troubles.get(environment.id)?.breaker.openReason;
    if (failure !== undefined && openReason !== undefined) {
      const message = openReason;
      run.settle({ kind: 'failed', code: 'WORKER_START_FAILED', message, workerLost: false });
      return;
    }
    this.#launch(run);
  }

  #counted(): Counted[] {
    const interpreters = [...this.#all].map(({ environment, isReady, run }): Counted => {
      const busy = run === undefined ? 'idle' : 'running';
      return { environment, state: isReady ? busy : 'starting' };
    });
    const failing = [...this.#troubles.values()].flatMap(({ environment, breaker }): Counted[] => {
      const reason = breaker.openReason;
      return reason === undefined ? [] : [{ environment, state: { reason } }];
    });
    return [...interpreters, ...failing];
  }

  #noteFailure(environment: TaskEnvironment, { reason, hopeless }: PlaceFailure): void {
    const { id: key } = environment;
    const breaker = new StartBreaker();
    const trouble = this.#troubles.get(key) ?? { environment, breaker, openedAtMs: 0 };
    // The one that failed last is the one that is forgotten last.
    this.#troubles.delete(key);
    this.#troubles.set(key, trouble);
    trouble.breaker.fail(reason, hopeless);
    trouble.openedAtMs = this.#options.clock.monotonicMs();
    for (const oldest of this.#troubles.keys()) {
      if (this.#troubles.size <= BREAKERS_MAX) {
        break;
      }
      this.#troubles.delete(oldest);
    }
  }
}

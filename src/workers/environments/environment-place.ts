/**
 * A place for Python tasks, some of which want an execution environment: those run in an interpreter there, while the place's own one
 * stands idle. So the places of an engine bound what runs, whatever it runs in.
 *
 * Invariants: one task at a time, in one of the two interpreters; the loss of the place's own interpreter is told only when no task runs
 * elsewhere, since the engine would otherwise start that task a second time.
 */
import type {
  AbortReason,
  Place,
  PlaceFactory,
  PlaceFailure,
  PlaceListener,
  Settle,
  WorkerTask,
} from '../engine.ts';
import type { EnvironmentRun, WarmEnvironments } from './warm-environments.ts';

/** A place that can run tasks in environments, too. */
export class EnvironmentPlace implements Place {
  readonly #own: Place;
  readonly #environments: WarmEnvironments;
  readonly #listener: PlaceListener;
  #elsewhere: EnvironmentRun | undefined;
  #lost: { readonly failure: PlaceFailure | undefined } | undefined;

  constructor(createOwn: PlaceFactory, environments: WarmEnvironments, listener: PlaceListener) {
    this.#environments = environments;
    this.#listener = listener;
    this.#own = createOwn({
      ...listener,
      onLost: (failure) => {
        this.#lost = { failure };
        this.#tellLost();
      },
    });
  }

  get canReclaim(): boolean {
    return this.#elsewhere === undefined && this.#own.canReclaim;
  }

  get isEnding(): boolean {
    return this.#own.isEnding;
  }

  start(): void {
    this.#own.start();
  }

  run(task: WorkerTask, settle: Settle): void {
    if (task.environment === undefined) {
      this.#own.run(task, settle);
      return;
    }
    this.#elsewhere = this.#environments.run(task, task.environment, (outcome) => {
      this.#elsewhere = undefined;
      settle(outcome);
      this.#tellLost();
    });
  }

  runAhead(task: WorkerTask, settle: Settle): void {
    this.#own.runAhead(task, settle);
  }

  reclaim(): boolean {
    return this.#own.reclaim();
  }

  abort(reason: AbortReason): void {
    const elsewhere = this.#elsewhere;
    if (elsewhere === undefined || reason === 'AGENT_STOPPED') {
      this.#own.abort(reason);
    }
    elsewhere?.abort(reason);
  }

  kill(): void {
    this.#own.kill();
  }

  #tellLost(): void {
    const lost = this.#lost;
    if (lost !== undefined && this.#elsewhere === undefined) {
      this.#lost = undefined;
      this.#listener.onLost(lost.failure);
    }
  }
}

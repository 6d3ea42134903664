/**
 * The tasks that a worker was given and that are not settled, in order: the first runs, the others were given ahead of time.
 *
 * Invariants: each task is settled once, or was taken back and is not settled at all; a task of which the worker has taken the token has
 * begun, so it is never handed to another worker.
 */
import type { Settle, TaskOutcome, WorkerTask } from './engine.ts';

/** One token for each task that was given ahead of time and has not begun; whoever takes it has the task. */
export interface TaskTokens {
  add: () => void;
  /** Takes a token, if there is one. */
  take: () => boolean;
}

interface GivenTask {
  readonly task: WorkerTask;
  readonly settle: Settle;
}

/** What one worker has to answer for. */
export class GivenTasks {
  readonly #tasks: GivenTask[] = [];
  /** Results that came while the worker was being ended, of the first tasks in order. */
  readonly #lateOutcomes: TaskOutcome[] = [];
  /** Undefined while nothing can be taken back. */
  tokens: TaskTokens | undefined;

  get isEmpty(): boolean {
    return this.#tasks.length === 0;
  }

  /** The task whose result comes next. */
  get next(): WorkerTask | undefined {
    return this.#tasks[this.#lateOutcomes.length]?.task;
  }

  /** Adds a task that an idle worker gets. */
  add(task: WorkerTask, settle: Settle): void {
    this.#tasks.push({ task, settle });
  }

  /** Adds a task that a worker gets while it runs another. Call before the worker can see it. */
  addAhead(task: WorkerTask, settle: Settle): void {
    this.tokens?.add();
    this.add(task, settle);
  }

  /** Takes back the newest task that has not begun; false when there is none. */
  reclaim(): boolean {
    const isReclaimed = this.tokens?.take() === true;
    if (isReclaimed) {
      this.#tasks.pop();
    }
    return isReclaimed;
  }

  /** The first task has this outcome. */
  settleNext(outcome: TaskOutcome): void {
    this.#tasks.shift()?.settle(outcome);
  }

  /** The next task has this outcome, but its worker is being ended: it is settled once the worker is gone. */
  keep(outcome: TaskOutcome): void {
    this.#lateOutcomes.push(outcome);
  }

  /**
   * The worker is gone. Settles every task that it had begun: usually one, more when it had begun others before their predecessors'
   * results were read. `outcomeOf` is told what the worker answered, if it did. What it had not begun is left to the engine.
   */
  settleBegun(outcomeOf: (task: WorkerTask, late: TaskOutcome | undefined) => TaskOutcome): void {
    while (this.reclaim()) {
      // These the engine gives to another place.
    }
    this.#tasks.splice(0).forEach(({ task, settle }, index) => {
      settle(outcomeOf(task, this.#lateOutcomes[index]));
    });
  }
}

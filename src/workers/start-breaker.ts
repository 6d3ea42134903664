/**
 * Stops launching workers that do not work here. It opens after a number of starts in a row that never became ready, at once when
 * trying again is hopeless, and after a number of workers that became ready and died within a while, of which none had ended a task.
 * While it is open, one start is tried now and then; one that succeeds closes it, and the next death of a series opens it again.
 */

/** Starts in a row that may fail: one can be bad luck (memory, a slow disk), three are a cause. */
const FAILURES_MAX = 3;
/** Deaths after having been ready. More than that, because a function can end its worker, and that is its own affair. */
const DEATHS_MAX = 10;
/** Deaths that lie longer apart are not a series. Longer than the time between two probes, so that a series outlives them. */
const DEATH_WINDOW_MS = 120_000;

/** Circuit breaker of one engine. */
export class StartBreaker {
  #failures = 0;
  /** When workers died that had been ready, since a task has ended in one. */
  #deathsMs: number[] = [];
  #reason: string | undefined;

  /** Why no worker starts; undefined while starts are allowed. */
  get openReason(): string | undefined {
    return this.#reason;
  }

  /** A worker became ready. */
  succeed(): void {
    this.#failures = 0;
    this.#reason = undefined;
  }

  /** A worker ended a task and lives: what others died of was not the place. */
  work(): void {
    this.#deathsMs = [];
  }

  /** A worker died before it was ready. Returns whether this failure opened the breaker. */
  fail(reason: string, hopeless: boolean): boolean {
    this.#failures += 1;
    return hopeless || this.#failures >= FAILURES_MAX ? this.#open(reason) : false;
  }

  /** A worker died by itself after it had been ready. Returns whether this death opened the breaker. */
  lose(reason: string, nowMs: number): boolean {
    this.#deathsMs = this.#deathsMs.filter((atMs) => nowMs - atMs < DEATH_WINDOW_MS);
    this.#deathsMs.push(nowMs);
    const count = this.#deathsMs.length;
    return count < DEATHS_MAX
      ? false
      : this.#open(
          `${count} workers died without having ended a task in between, the last one like this: ${reason}`,
        );
  }

  #open(reason: string): boolean {
    const opened = this.#reason === undefined;
    this.#reason = reason;
    return opened;
  }
}

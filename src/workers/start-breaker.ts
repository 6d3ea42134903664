/**
 * Stops launching workers that cannot start: opens after a number of starts in a row that never became ready, or at once when
 * trying again is hopeless. While it is open, one start is tried now and then; one that succeeds closes it.
 */

/** Starts in a row that may fail: one can be bad luck (memory, a slow disk), three are a cause. */
const FAILURES_MAX = 3;

/** Circuit breaker of one engine. */
export class StartBreaker {
  #failures = 0;
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

  /** A worker died before it was ready. Returns whether this failure opened the breaker. */
  fail(reason: string, hopeless: boolean): boolean {
    this.#failures += 1;
    if (!hopeless && this.#failures < FAILURES_MAX) {
      return false;
    }
    const opened = this.#reason === undefined;
    this.#reason = reason;
    return opened;
  }
}

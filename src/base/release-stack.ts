/**
 * Everything that is acquired goes onto the stack at the moment of acquisition; releasing runs in reverse order,
 * goes on after a failure, and reports all failures together at the end.
 */

type Release = () => void | Promise<void>;

/** A stack of things to release. */
export class ReleaseStack {
  readonly #releases: { name: string; release: Release }[] = [];
  #releasing: Promise<void> | undefined;

  /** Registers how to release what was just acquired. */
  push(name: string, release: Release): void {
    this.#releases.push({ name, release });
  }

  /** Releases in reverse order. Concurrent calls share one run. @throws AggregateError with every failure. */
  async release(): Promise<void> {
    this.#releasing ??= this.#run();
    await this.#releasing;
  }

  async #run(): Promise<void> {
    const failures: Error[] = [];
    for (let item = this.#releases.pop(); item !== undefined; item = this.#releases.pop()) {
      try {
        await item.release();
      } catch (error) {
        failures.push(new AggregateError([error], `releasing ${item.name} failed`));
      }
    }
    if (failures.length > 0) {
      throw new AggregateError(failures, 'some resources could not be released');
    }
  }
}

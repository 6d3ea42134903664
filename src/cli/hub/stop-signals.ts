/**
 * When a hub in the foreground is to stop: SIGTERM, SIGINT or SIGHUP, or because something that it needs ended.
 *
 * The first signal stops in order; a second one ends the process at once, after killing what would stay behind.
 */
import { constants } from 'node:os';

/** Why to stop. */
export type StopReason =
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals }
  | { readonly kind: 'failure'; readonly message: string };

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/** Waits for a reason to stop. */
export class StopSignals {
  /** Resolves with the first reason. */
  readonly requested: Promise<StopReason>;
  readonly #aborted = new AbortController();
  readonly #killNow: () => void;
  #resolve: (reason: StopReason) => void = () => undefined;

  /** `killNow` runs on the second signal, just before the process ends. */
  constructor(killNow: () => void) {
    this.#killNow = killNow;
    this.requested = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    for (const signal of SIGNALS) {
      process.on(signal, this.#onSignal);
    }
  }

  /** Aborted with the first reason, for a start that is under way. */
  get signal(): AbortSignal {
    return this.#aborted.signal;
  }

  /** Stops because something ended that is needed. */
  fail(message: string): void {
    this.#resolve({ kind: 'failure', message });
    this.#aborted.abort();
  }

  /** Takes the listeners away. */
  dispose(): void {
    for (const signal of SIGNALS) {
      process.off(signal, this.#onSignal);
    }
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    if (this.#aborted.signal.aborted) {
      this.#killNow();
      process.exit(128 + constants.signals[signal]);
    }
    this.#resolve({ kind: 'signal', signal });
    this.#aborted.abort();
  };
}

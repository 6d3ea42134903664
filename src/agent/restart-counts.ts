/** Counts worker hosts, and interpreters and threads in them, that were started in the place of others. */
import type { ReadyFrame } from '../protocol/host-frames.ts';
import type { Language } from '../protocol/serialization.ts';
import type { WorkerHostEvents } from './host-link.ts';

const NONE: Readonly<Record<Language, number>> = { javascript: 0, python: 0 };

/** What was started again since the agent began. */
export class RestartCounts {
  #hosts = 0;
  /** In hosts that are gone. */
  #earlier = NONE;
  /** In the host that is there. */
  #current = NONE;

  /** Worker hosts. */
  get hosts(): number {
    return this.#hosts;
  }

  /** Workers by language; a worker host that is replaced does not count as its workers. */
  get workers(): Readonly<Record<Language, number>> {
    return {
      javascript: this.#earlier.javascript + this.#current.javascript,
      python: this.#earlier.python + this.#current.python,
    };
  }

  /** The same events, counted on their way. */
  counting(events: WorkerHostEvents): WorkerHostEvents {
    return {
      ...events,
      onReady: (frame) => {
        this.#onReady(frame);
        events.onReady(frame);
      },
      onLost: (reason) => {
        this.#onLost();
        events.onLost(reason);
      },
    };
  }

  #onReady({ restarts }: ReadyFrame): void {
    this.#current = restarts ?? NONE;
  }

  #onLost(): void {
    this.#hosts += 1;
    this.#earlier = this.workers;
    this.#current = NONE;
  }
}

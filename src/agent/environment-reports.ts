/** Remembers what the worker host says about interpreters in execution environments, for the status and the metrics. */
import type { EnvironmentReport } from '../protocol/host-frames.ts';
import type { WorkerHostEvents } from './host-link.ts';

/** The latest word of the host that is there. */
export class EnvironmentReports {
  #list: readonly EnvironmentReport[] = [];

  /** Environments with interpreters, or whose interpreters do not start. */
  get list(): readonly EnvironmentReport[] {
    return this.#list;
  }

  /** The same events, listened to on their way. */
  noting(events: WorkerHostEvents): WorkerHostEvents {
    return {
      ...events,
      onEnvironments: (frame) => {
        this.#list = frame.list;
        events.onEnvironments?.(frame);
      },
      onLost: (reason) => {
        this.#list = [];
        events.onLost(reason);
      },
    };
  }
}

/**
 * Gives the hub what was acked and has not begun, so that it need not wait for this agent: when it stops, is fenced or is drained.
 * What cannot be given back stays in the journal and runs when the agent takes tasks again.
 *
 * Tasks are given back in portions, and each portion that the hub has confirmed is no longer ours: when the time is over, only the rest
 * is both here and perhaps there.
 *
 * The hub takes a task back once for each lease epoch, because a repetition that comes late must not take it from whoever has it by
 * then. So whoever goes on in between and gives back once more registers anew before.
 */
import { ConflictError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { Journal } from './journal/journal.ts';
import type { Registrar } from './registration.ts';

/** Tasks of one request: few enough for a hub with much to do to answer soon. */
const PORTION_COUNT = 250;

/** Collaborators. */
export interface HandBackOptions {
  readonly hub: HubClient;
  readonly registrar: Registrar;
  readonly dispatcher: Dispatcher;
  readonly journal: Journal;
  readonly logger: Logger;
}

/** Hands tasks back, one attempt at a time. */
export class HandBack {
  readonly #options: HandBackOptions;
  #attempt: { readonly ended: Promise<number>; readonly controller: AbortController } | undefined;
  /** Epoch of the last attempt. */
  #epoch: number | undefined;
  /** Epoch under which nothing can be given back any more. */
  #usedEpoch: number | undefined;
  #count = 0;

  constructor(options: HandBackOptions) {
    this.#options = options;
  }

  /** Tasks that were given back in the life of the process. */
  get count(): number {
    return this.#count;
  }

  /** Gives back what has not begun; returns how many tasks. @throws ComputeError when the hub did not agree: they stay here. */
  async run(): Promise<number> {
    if (this.#attempt === undefined) {
      const controller = new AbortController();
      const ended = this.#run(controller.signal).finally(() => {
        this.#attempt = undefined;
      });
      this.#attempt = { ended, controller };
    }
    return await this.#attempt.ended;
  }

  /** Tasks are taken and started again. One that the hub may have taken back meanwhile comes again, and is known then. */
  cancel(): void {
    this.#usedEpoch = this.#epoch;
    this.#attempt?.controller.abort(
      new ConflictError('PRECONDITION_FAILED', 'tasks are taken again'),
    );
  }

  async #run(signal: AbortSignal): Promise<number> {
    const { hub, registrar, dispatcher, journal, logger } = this.#options;
    const taskIds = dispatcher.unstarted;
    const held = registrar.current;
    if (taskIds.length === 0 || held === undefined) {
      return 0;
    }
    const isUsed = held.epoch === this.#usedEpoch;
    const { endpointId, epoch } = isUsed ? await registrar.obtain(held.epoch) : held;
    signal.throwIfAborted();
    this.#epoch = epoch;
    let count = 0;
    for (let start = 0; start < taskIds.length; start += PORTION_COUNT) {
      const portion = taskIds.slice(start, start + PORTION_COUNT);
      await hub.handBackTasks(endpointId, epoch, portion, signal);
      signal.throwIfAborted();
      // Only what has not begun meanwhile: the rest comes again, and is known then.
      const unstarted = new Set(dispatcher.unstarted);
      const gone = portion.filter((taskId) => unstarted.has(taskId));
      dispatcher.forgetTasks(gone);
      await journal.handedBack(gone);
      count += gone.length;
      this.#count += gone.length;
    }
    logger.info({ count }, 'handed tasks that had not begun back');
    return count;
  }
}

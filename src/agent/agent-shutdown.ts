/**
 * The steps in which an agent ends, each with a limit of its own; what fails or hangs is logged, and the next step is taken.
 *
 *   quiesce, drain ─▶ hand back ─▶ cancel ─▶ settle results ─▶ last heartbeat ─▶ release what was acquired ─▶ release the lease
 */
import type { Clock } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import type { AgentParts } from './agent-parts.ts';
import type { Registrar } from './registration.ts';

/** Limit of a step that only closes something. */
export const CLOSE_LIMIT_MS = 5_000;
const SETTLE_LIMIT_MS = 10_000;
/** How long the hub may take over a portion of the tasks that are handed back, and how often it is waited for the next one. */
const HAND_BACK_LIMIT_MS = 5_000;
const HAND_BACK_WAITS_MAX = 4;
const RELEASE_LEASE_LIMIT_MS = 3_000;

/**
 * Longest that all steps but waiting for running tasks and killing them may take together: jobs, consumer, journal, host, heartbeat
 * and twice for what was acquired. The units allow for that and a little more (TimeoutStopSec).
 */
export const SHUTDOWN_LIMIT_MS =
  7 * CLOSE_LIMIT_MS +
  SETTLE_LIMIT_MS +
  HAND_BACK_WAITS_MAX * HAND_BACK_LIMIT_MS +
  RELEASE_LEASE_LIMIT_MS +
  1_000;

/** What the steps work with. */
export interface ShutdownOptions {
  readonly hub: HubClient;
  readonly registrar: Registrar;
  readonly killGraceMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What takes in and begins work. */
export interface QuiescedParts extends Pick<AgentParts, 'intake' | 'dispatcher'> {
  readonly modes: Pick<AgentParts['modes'], 'stop'>;
  readonly jobs: Pick<AgentParts['jobs'], 'stop'>;
}

/** Steps of one agent's end. */
export class AgentShutdown {
  readonly #options: ShutdownOptions;

  constructor(options: ShutdownOptions) {
    this.#options = options;
  }

  /** Takes no more tasks and waits for those that run; `cancelled` ends the waiting. */
  async quiesceAndDrain(
    { intake, dispatcher, modes, jobs }: QuiescedParts,
    drainGraceMs: number,
    cancelled: AbortSignal,
  ): Promise<void> {
    this.#options.logger.info(dispatcher.counts, 'stopping: no new tasks');
    modes.stop();
    intake.pause('stopping');
    dispatcher.quiesce('stop');
    await this.bounded(CLOSE_LIMIT_MS, 'ending scheduled jobs', jobs.stop());
    await this.bounded(CLOSE_LIMIT_MS, 'cancelling the consumer', intake.idle());
    const aborted = new Promise<void>((resolve) => {
      if (cancelled.aborted) {
        resolve();
      }
      cancelled.addEventListener('abort', () => {
        resolve();
      });
    });
    const first = new Promise<void>((resolve) => {
      dispatcher.drained().then(resolve, resolve);
      aborted.then(resolve, resolve);
    });
    await this.bounded(drainGraceMs, 'waiting for running tasks', first);
    // What was on its way into the journal is acked by now, or the broker's again: it is handed back with the rest.
    await this.bounded(CLOSE_LIMIT_MS, 'waiting for the journal', dispatcher.settled());
  }

  /** Gives the hub what has not begun, so that it need not wait for this host; waits while portion after portion gets through. */
  async handBack({
    handBack,
    dispatcher,
  }: Pick<AgentParts, 'handBack' | 'dispatcher'>): Promise<void> {
    const { clock, logger } = this.#options;
    const ended = handBack.run();
    let reason: string | undefined;
    for (let waits = 0; waits < HAND_BACK_WAITS_MAX; waits += 1) {
      const { count } = handBack;
      try {
        const late = (): UnavailableError => new UnavailableError('TIMED_OUT', 'the hub takes too long'); // prettier-ignore
        await withDeadline(clock, HAND_BACK_LIMIT_MS, ended, late);
        return;
      } catch (error) {
        reason = errorText(error);
      }
      if (handBack.count === count) {
        break;
      }
    }
    logger.warn(
      { count: dispatcher.unstarted.length, reason },
      'tasks could not be handed back to the hub: they stay in the journal, and run when the agent is started here again',
    );
  }

  /** Ends what still runs, and sees every result out. */
  async settle({ dispatcher, host, outbox, heartbeat, watchdog }: AgentParts): Promise<void> {
    // From here on every step has a limit of its own.
    watchdog.stop();
    dispatcher.failRunning({
      code: 'AGENT_STOPPED',
      message:
        'the agent was stopped while this task was running and its drain time was over; submit it again',
    });
    await this.bounded(
      this.#options.killGraceMs + CLOSE_LIMIT_MS,
      'stopping the worker host',
      host.stop(),
    );
    await this.resultsOut(outbox);
    await this.bounded(CLOSE_LIMIT_MS, 'sending the last heartbeat', heartbeat.finish());
  }

  /** Waits until the broker has every result. */
  async resultsOut(outbox: AgentParts['outbox']): Promise<void> {
    await this.bounded(
      SETTLE_LIMIT_MS,
      'waiting for the broker to confirm results',
      outbox.settled(),
    );
  }

  /** The next start, here or elsewhere, need not wait for the lease to run out. */
  async releaseLease(): Promise<void> {
    const { hub, registrar } = this.#options;
    const registration = registrar.current;
    if (registration !== undefined) {
      await this.bounded(
        RELEASE_LEASE_LIMIT_MS,
        'releasing the lease',
        hub.releaseLease(registration.endpointId, registration.epoch),
      );
    }
  }

  /** Waits for a step no longer than its limit. */
  async bounded(limitMs: number, step: string, work: Promise<unknown>): Promise<void> {
    const { clock, logger } = this.#options;
    try {
      await withDeadline(
        clock,
        limitMs,
        work,
        () => new UnavailableError('TIMED_OUT', `${step} took longer than ${limitMs} ms`),
      );
    } catch (error) {
      logger.warn({ step, reason: errorText(error) }, 'a step of the shutdown did not end well');
    }
  }
}

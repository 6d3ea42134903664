/**
 * Brings an agent into the mode that somebody asked for (agent-mode.ts), and keeps it in mind across restarts.
 *
 * M1 What was asked for is on disk before anything changes, and before whoever asked is answered.
 * M2 Changes are made one after the other; one that comes while the agent drains ends the draining.
 * M3 No task fails because of a mode: what has not begun is the hub's again, or stays in the journal while the hub is away.
 */
import { backoffDelayMs } from '../base/backoff.ts';
import { sleep } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { ConflictError, UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import { modeDocument } from './agent-mode.ts';
import type { ModeDocument, ModeRecord, RequestedMode } from './agent-mode.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { HandBack } from './hand-back.ts';
import type { Intake } from './intake.ts';

/** How long draining waits for the hub before it goes on without it. */
const HAND_BACK_LIMIT_MS = 5_000;
const HAND_BACK_RETRY = { baseMs: 2_000, maxMs: 60_000 };

/** Collaborators. */
export interface ModeSwitchOptions {
  /** What was asked for in an earlier run. */
  readonly record: ModeRecord | undefined;
  readonly save: (record: ModeRecord) => Promise<void>;
  readonly intake: Intake;
  readonly dispatcher: Dispatcher;
  readonly handBack: HandBack;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onChange: () => void;
}

/** A wish. */
export interface ModeChange {
  readonly mode: RequestedMode;
  readonly by: string;
  readonly reason: string | null;
  readonly before?: ModeRecord;
}

/** The mode of one agent. */
export class ModeSwitch {
  readonly #options: ModeSwitchOptions;
  #record: ModeRecord | undefined;
  #isDrained = false;
  /** Ends the draining that is under way. */
  #draining = new AbortController();
  #changing: Promise<unknown> = Promise.resolve();
  #isStopped = false;
  #handBackFailure: string | null = null;
  readonly #watchers = new Set<() => void>();

  constructor(options: ModeSwitchOptions) {
    this.#options = options;
    this.#record = options.record;
  }

  /** What was asked for last. */
  get record(): ModeRecord | undefined {
    return this.#record;
  }

  /** The mode and how far it has come. */
  get document(): ModeDocument {
    const document = modeDocument(this.#record);
    return document.state === 'drained' && !this.#isDrained
      ? { ...document, state: 'draining' }
      : document;
  }

  /** Why tasks that have not begun could not be handed back, while that is so. */
  get handBackFailure(): string | null {
    return this.#handBackFailure;
  }

  /** Takes up the mode of an earlier run; before anything is consumed or recovered. */
  begin(): void {
    const mode = this.#record?.mode ?? 'running';
    if (mode !== 'running') {
      this.#enter(mode);
    }
  }

  /**
   * Changes the mode; returns whether anything has changed. A function is asked when its turn has come, with what was asked for last.
   *
   * @throws ConflictError when the agent is stopping, UnavailableError when the wish cannot be kept.
   */
  async change(
    wanted: ModeChange | ((record: ModeRecord | undefined) => ModeChange | undefined),
  ): Promise<boolean> {
    const changed = this.#changing.then(async () => {
      const change = typeof wanted === 'function' ? wanted(this.#record) : wanted;
      return change !== undefined && (await this.#change(change));
    });
    // Whoever asked has the failure; the next one only waits for its turn.
    this.#changing = changed.catch(() => undefined);
    return await changed;
  }

  /** Resolves when the agent does not drain, or after `limitMs`. */
  async waitWhileDraining(limitMs: number): Promise<void> {
    if (this.document.state !== 'draining') {
      return;
    }
    await new Promise<void>((resolve) => {
      const end = (): void => {
        timer.cancel();
        this.#watchers.delete(end);
        resolve();
      };
      const timer = this.#options.clock.after(limitMs, end, { background: true });
      this.#watchers.add(end);
    });
  }

  /** The agent stops, and whoever does that drains it in its own way. */
  stop(): void {
    this.#isStopped = true;
    this.#draining.abort();
  }

  async #change({ mode, by, reason, before }: ModeChange): Promise<boolean> {
    const { save, clock, logger } = this.#options;
    if (this.#isStopped) {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        'the agent is stopping; start it again first: agent start',
      );
    }
    const old = this.#record;
    const isSame = (old?.mode ?? 'running') === mode;
    // The same wish of somebody else is a change all the same: a drain that a person asked for outlasts a maintenance window.
    const isRepeated = old?.by === by && (reason ?? old.reason) === old.reason;
    if (isSame && (mode === 'running' || isRepeated)) {
      return false;
    }
    const since = new Date(clock.now()).toISOString();
    const record = { mode, since, by, reason, ...(before !== undefined && { before }) };
    await save(record);
    this.#record = record;
    logger.info({ mode, by, reason }, 'the mode of the endpoint was changed');
    if (!isSame) {
      this.#enter(mode);
    }
    this.#tell();
    return true;
  }

  #enter(mode: RequestedMode): void {
    if (this.#isStopped) {
      // The stop began while the wish was being kept: it holds from the next start on.
      return;
    }
    const { intake, dispatcher, handBack, logger } = this.#options;
    this.#draining.abort();
    this.#isDrained = false;
    if (mode === 'drained') {
      this.#draining = new AbortController();
      intake.pause('drained');
      intake.resume('paused');
      dispatcher.quiesce('drain');
      detach(logger, 'draining', this.#drain(this.#draining.signal));
      return;
    }
    handBack.cancel();
    this.#handBackFailure = null;
    if (mode === 'paused') {
      intake.pause('paused');
    }
    dispatcher.resume();
    intake.resume('drained');
    if (mode === 'paused') {
      detach(logger, 'pausing', this.#givePendingBack());
    } else {
      intake.resume('paused');
    }
  }

  /** What was delivered and has no place would keep its consumer's end waiting, or run although nothing is to be taken. */
  async #givePendingBack(): Promise<void> {
    const { intake, dispatcher } = this.#options;
    await intake.idle();
    if (!intake.consuming) {
      dispatcher.givePendingBack();
    }
  }

  async #drain(signal: AbortSignal): Promise<void> {
    const { dispatcher, logger } = this.#options;
    await this.#givePendingBack();
    await dispatcher.settled();
    await this.#handBack(signal);
    await dispatcher.drained();
    // What was on its way into the journal before.
    await this.#handBack(signal);
    if (isOver(signal)) {
      return;
    }
    this.#isDrained = true;
    logger.info({ held: dispatcher.unstarted.length }, 'drained: nothing runs');
    this.#tell();
    for (let attempt = 0; dispatcher.unstarted.length > 0; attempt += 1) {
      await sleep(this.#options.clock, backoffDelayMs(attempt, HAND_BACK_RETRY), signal).catch(
        () => undefined,
      );
      if (isOver(signal)) {
        return;
      }
      await this.#handBack(signal);
    }
  }

  async #handBack(signal: AbortSignal): Promise<void> {
    const { handBack, clock, logger } = this.#options;
    if (isOver(signal)) {
      return;
    }
    try {
      await withDeadline(
        clock,
        HAND_BACK_LIMIT_MS,
        handBack.run(),
        () => new UnavailableError('TIMED_OUT', 'the hub has not answered yet'),
      );
      this.#handBackFailure = null;
    } catch (error) {
      if (isOver(signal)) {
        return;
      }
      this.#handBackFailure = errorText(error);
      logger.warn(
        { reason: errorText(error) },
        'tasks that have not begun cannot be handed back now, they stay in the journal',
      );
    }
  }

  #tell(): void {
    this.#options.onChange();
    if (this.document.state !== 'draining') {
      for (const end of [...this.#watchers]) {
        end();
      }
    }
  }
}

/** Somebody has asked for something else meanwhile. */
function isOver(signal: AbortSignal): boolean {
  return signal.aborted;
}

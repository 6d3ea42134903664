/**
 * Keeps one connection to the broker alive for ever: dial, set up, wait for the end, dial again.
 *
 *   connecting ──dial, setUp──▶ online ──connection ended, setup broken──▶ offline ──delay──▶ connecting …
 *        └──────────failed───────────────────────────────────────────────────▲
 *   stop() leads to stopped from everywhere.
 *
 * S1 The delay grows from base to max with jitter, and starts over only after a session that held STABLE_MS: a broker that
 *    accepts and drops us at once is not hammered. The first attempt after such a session is immediate, so that one lost
 *    connection costs milliseconds.
 * S2 The next dial is told why the last attempt or session ended (end-cause.ts), so that credentials are asked for anew only
 *    when the broker refused the last ones. What fails before the broker is asked does not change what it said last.
 * S3 There is one connection at most: the old one is closed, within its bound, before the next is dialled.
 * S4 After `stop()` no timer and no socket of the session is alive. A dial that ignores its signal is waited for
 *    STOP_MS_MAX; the connection it may still bring is destroyed on arrival.
 */
import type { BackoffOptions } from '../../base/backoff.ts';
import { backoffDelayMs } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import { withDeadline } from '../../base/deadline.ts';
import { UnavailableError, errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { detach } from '../../base/logger.ts';
import type { AmqpConnection } from './connection.ts';
import { causeOfClosed, causeOfFailure, causeOfSetUpEnded } from './end-cause.ts';
import type { EndCause, SetUpEnded } from './end-cause.ts';

/** Short, so that everybody is back within seconds of the broker; with the jitter a thousand agents make a few hundred dials a second. */
const BACKOFF: BackoffOptions = { baseMs: 100, maxMs: 3_000 };
/** After so many failures in a row, some ten minutes, it is an outage that an idle process must not spend its processor time on. */
const LONG_OUTAGE_COUNT = 250;
const LONG_OUTAGE_MS_MAX = 30_000;
/** How long a session must have held to count as good (S1). */
const STABLE_MS = 5_000;
/** Longest time for `setUp`: several channels and consumers, each bounded at 10 s. */
const SET_UP_MS_MAX = 60_000;
const STOP_MS_MAX = 5_000;

/** Where a session stands. Times are milliseconds since the Unix epoch. */
export type SessionState =
  | { readonly phase: 'connecting'; readonly since: number }
  | { readonly phase: 'online'; readonly since: number }
  | {
      readonly phase: 'offline';
      /** When it was last online, or first failed to be. */
      readonly since: number;
      readonly reason: string;
      readonly cause: EndCause;
      /** Failures in a row. */
      readonly attempt: number;
      readonly nextAttemptAt: number;
    }
  | { readonly phase: 'stopped' };

/** What a dial is told. */
export interface DialAttempt {
  /** Whether the broker refused the credentials used last: get new ones. */
  readonly refused: boolean;
  /** What the broker said last, or did; undefined at first. */
  readonly last: EndCause | undefined;
  /** Aborted by `stop()`; hand it to `dialAmqp`. */
  readonly signal: AbortSignal;
}

/** Settings of a session. */
export interface SessionOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** What the connection is for, in logs. */
  readonly name: string;
  /** Called per attempt; returns where to dial (fresh credentials when `refused` says the last ones were refused). */
  readonly dial: (attempt: DialAttempt) => Promise<AmqpConnection>;
  /**
   * Sets up channels on a new connection; resolves with a promise that ends when the setup has broken (consumer ended,
   * channel closed): the session then closes the connection and dials again. A rejection is a failed attempt.
   */
  readonly setUp: (connection: AmqpConnection) => Promise<{ broken: Promise<SetUpEnded> }>;
  readonly onState?: (state: SessionState) => void;
  /** Default: 100 ms to 3 s, and to 30 s in an outage of more than ten minutes. */
  readonly backoff?: BackoffOptions;
}

/** How an attempt or a session ended. */
interface Ended {
  readonly reason: string;
  readonly cause: EndCause;
}

/** A connection that is always there, or on its way back. */
export class AmqpSession {
  readonly #options: SessionOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stopping = new AbortController();
  #state: SessionState;
  #running: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #connection: AmqpConnection | undefined;
  /** Ends the wait that is going on: for the next attempt, or for the end of the session. */
  #interrupt: ((end: SetUpEnded) => void) | undefined;
  /** What the broker said last (S2). */
  #last: EndCause | undefined;
  #offlineSince: number | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#logger = options.logger.child({ session: options.name });
    this.#state = { phase: 'connecting', since: options.clock.now() };
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Begins to connect, in the background. Idempotent; no effect after `stop()`. */
  start(): void {
    if (this.#running === undefined && this.#stopped === undefined) {
      this.#running = this.#run();
      detach(this.#logger, 'AMQP session', this.#running);
    }
  }

  /** Closes the connection and ends. Bounded, idempotent, never rejects. */
  async stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    await this.#stopped;
  }

  /** Ends a delay before the next attempt, or replaces a connection that stands. No effect during an attempt. */
  reconnectNow(): void {
    this.#interrupt?.({ reason: 'a new connection was asked for' });
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(
      new UnavailableError('BROKER_UNREACHABLE', 'the session was stopped during the attempt'),
    );
    this.#interrupt?.({ reason: 'stopped' });
    // Ends a setUp that waits for the broker.
    await this.#connection?.close();
    try {
      await withDeadline(
        this.#clock,
        STOP_MS_MAX,
        this.#running ?? Promise.resolve(),
        () => new UnavailableError('TIMED_OUT', `an attempt did not end within ${STOP_MS_MAX} ms`),
      );
    } catch (error) {
      this.#logger.warn({ err: error }, 'AMQP session stopped without waiting for its attempt');
    }
    this.#enter({ phase: 'stopped' });
  }

  #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  async #run(): Promise<void> {
    let failureCount = 0;
    while (!this.#isStopping()) {
      this.#enter({ phase: 'connecting', since: this.#clock.now() });
      let ended: Ended;
      let heldMs = 0;
      try {
        const { connection, broken } = await this.#connect();
        const onlineAtMs = this.#clock.monotonicMs();
        ended = await this.#hold(connection, broken);
        heldMs = this.#clock.monotonicMs() - onlineAtMs;
      } catch (error) {
        ended = { reason: errorText(error), cause: causeOfFailure(error) };
        this.#logger.debug(
          { err: error, failureCount, cause: ended.cause },
          'attempt to connect to the broker failed',
        );
      }
      if (ended.cause !== 'not-dialled') {
        this.#last = ended.cause;
      }
      failureCount = heldMs >= STABLE_MS ? 0 : failureCount + 1; // S1
      if (!this.#isStopping()) {
        await this.#pause(ended, failureCount);
      }
    }
  }

  /** One attempt. */
  async #connect(): Promise<{ connection: AmqpConnection; broken: Promise<SetUpEnded> }> {
    const connection = await this.#dial();
    if (this.#isStopping()) {
      connection.destroy();
      await connection.close();
      throw this.#stopping.signal.reason as Error;
    }
    this.#connection = connection;
    try {
      const { broken } = await withDeadline(
        this.#clock,
        SET_UP_MS_MAX,
        this.#options.setUp(connection),
        () => new UnavailableError('TIMED_OUT', `setting up took longer than ${SET_UP_MS_MAX} ms`),
      );
      return { connection, broken };
    } catch (error) {
      await this.#disconnect(connection);
      throw error;
    }
  }

  async #dial(): Promise<AmqpConnection> {
    const last = this.#last;
    const refused = last === 'credentials-refused' || last === 'vhost-refused';
    this.#logger.debug({ refused, last }, 'connecting to the broker');
    return await this.#options.dial({ refused, last, signal: this.#stopping.signal });
  }

  /** Waits until the connection or its setup has ended, and closes what is left. Resolves with why. */
  async #hold(connection: AmqpConnection, broken: Promise<SetUpEnded>): Promise<Ended> {
    this.#offlineSince = undefined;
    this.#last = undefined;
    this.#enter({ phase: 'online', since: this.#clock.now() });
    this.#logger.info({}, 'connected to the broker');
    const end = await new Promise<SetUpEnded>((resolve) => {
      this.#interrupt = resolve;
      const failed = (error: unknown): void => {
        resolve({ reason: errorText(error) });
      };
      connection.closed.then(resolve, failed);
      broken.then(resolve, failed);
    });
    this.#interrupt = undefined;
    await this.#disconnect(connection);
    // The loss of a connection also breaks the setup on it; which is told first is chance, and this one knows the cause.
    const closed = await connection.closed;
    return closed.kind === 'local'
      ? { reason: end.reason, cause: causeOfSetUpEnded(end) }
      : { reason: closed.reason, cause: causeOfClosed(closed) };
  }

  async #disconnect(connection: AmqpConnection): Promise<void> {
    this.#connection = undefined;
    await connection.close(); // S3
  }

  /** Waits for the time of the next attempt. */
  async #pause({ reason, cause }: Ended, failureCount: number): Promise<void> {
    const delayMs =
      failureCount === 0 ? 0 : backoffDelayMs(failureCount - 1, this.#backoff(failureCount));
    const now = this.#clock.now();
    if (this.#offlineSince === undefined) {
      this.#offlineSince = now;
      this.#logger.warn(
        { reason, cause, delayMs },
        'not connected to the broker; trying again for ever',
      );
    }
    this.#enter({
      phase: 'offline',
      since: this.#offlineSince,
      reason,
      cause,
      attempt: failureCount,
      nextAttemptAt: now + delayMs,
    });
    if (delayMs === 0) {
      return;
    }
    await new Promise<void>((resolve) => {
      const timer = this.#clock.after(delayMs, resolve);
      this.#interrupt = (): void => {
        timer.cancel();
        resolve();
      };
    });
    this.#interrupt = undefined;
  }

  #backoff(failureCount: number): BackoffOptions {
    const usual = this.#options.backoff ?? BACKOFF;
    return failureCount > LONG_OUTAGE_COUNT ? { ...usual, maxMs: LONG_OUTAGE_MS_MAX } : usual;
  }

  #enter(state: SessionState): void {
    if (this.#state.phase === 'stopped') {
      return; // An attempt that outlived stop().
    }
    this.#state = state;
    try {
      this.#options.onState?.(state);
    } catch (error) {
      // A bug of the listener, which must not take the connection down.
      this.#logger.error({ err: error, phase: state.phase }, 'a listener of the session failed');
    }
  }
}

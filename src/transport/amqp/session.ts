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
 * S2 Credentials are asked for anew only when the broker refused the last ones.
 * S3 There is one connection at most: the old one is closed, within its bound, before the next is dialled.
 * S4 After `stop()` no timer and no socket of the session is alive. A dial that ignores its signal is waited for
 *    STOP_MS_MAX; the connection it may still bring is destroyed on arrival.
 */
import type { BackoffOptions } from '../../base/backoff.ts';
import { backoffDelayMs } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import { withDeadline } from '../../base/deadline.ts';
import { AuthError, UnavailableError, errorCode, errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { detach } from '../../base/logger.ts';
import type { AmqpConnection } from './connection.ts';

const BACKOFF: BackoffOptions = { baseMs: 100, maxMs: 30_000 };
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
      /** Failures in a row. */
      readonly attempt: number;
      readonly nextAttemptAt: number;
    }
  | { readonly phase: 'stopped' };

/** What a dial is told. */
export interface DialAttempt {
  /** Whether the broker refused the credentials used last: get new ones. */
  readonly refused: boolean;
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
  readonly setUp: (connection: AmqpConnection) => Promise<{ broken: Promise<{ reason: string }> }>;
  readonly onState?: (state: SessionState) => void;
  /** Default: 100 ms to 30 s. */
  readonly backoff?: BackoffOptions;
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
  #interrupt: ((reason: string) => void) | undefined;
  /** Whether the broker refused the credentials used last (S2). */
  #refused = false;
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
    this.#interrupt?.('a new connection was asked for');
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(
      new UnavailableError('BROKER_UNREACHABLE', 'the session was stopped during the attempt'),
    );
    this.#interrupt?.('stopped');
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
      let reason: string;
      let heldMs = 0;
      try {
        const { connection, broken } = await this.#connect();
        const onlineAtMs = this.#clock.monotonicMs();
        reason = await this.#hold(connection, broken);
        heldMs = this.#clock.monotonicMs() - onlineAtMs;
      } catch (error) {
        reason = errorText(error);
        this.#logger.debug({ err: error, failureCount }, 'attempt to connect to the broker failed');
      }
      failureCount = heldMs >= STABLE_MS ? 0 : failureCount + 1; // S1
      if (!this.#isStopping()) {
        await this.#pause(reason, failureCount);
      }
    }
  }

  /** One attempt. */
  async #connect(): Promise<{ connection: AmqpConnection; broken: Promise<{ reason: string }> }> {
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
    const refused = this.#refused;
    this.#logger.debug({ refused }, 'connecting to the broker');
    try {
      const connection = await this.#options.dial({ refused, signal: this.#stopping.signal });
      this.#refused = false;
      return connection;
    } catch (error) {
      const code = errorCode(error);
      if (error instanceof AuthError && code === 'TOKEN_REJECTED') {
        this.#refused = true;
      } else if (code === 'BROKER_UNREACHABLE') {
        // New credentials were there, if they were asked for; whether they are good is not known yet.
        this.#refused = false;
      }
      // Anything else failed before the broker was asked: what it said last still holds.
      throw error;
    }
  }

  /** Waits until the connection or its setup has ended, and closes what is left. Resolves with why. */
  async #hold(connection: AmqpConnection, broken: Promise<{ reason: string }>): Promise<string> {
    this.#offlineSince = undefined;
    this.#enter({ phase: 'online', since: this.#clock.now() });
    this.#logger.info({}, 'connected to the broker');
    const reason = await new Promise<string>((resolve) => {
      this.#interrupt = resolve;
      const settle = (end: { reason: string }): void => {
        resolve(end.reason);
      };
      connection.closed.then(settle, (error: unknown) => {
        resolve(errorText(error));
      });
      broken.then(settle, (error: unknown) => {
        resolve(errorText(error));
      });
    });
    this.#interrupt = undefined;
    await this.#disconnect(connection);
    // The loss of a connection also breaks the setup on it; which is told first is chance, and this one knows the cause.
    const closed = await connection.closed;
    this.#refused = closed.kind === 'refused';
    return closed.kind === 'local' ? reason : closed.reason;
  }

  async #disconnect(connection: AmqpConnection): Promise<void> {
    this.#connection = undefined;
    await connection.close(); // S3
  }

  /** Waits for the time of the next attempt. */
  async #pause(reason: string, failureCount: number): Promise<void> {
    const delayMs =
      failureCount === 0 ? 0 : backoffDelayMs(failureCount - 1, this.#options.backoff ?? BACKOFF);
    const now = this.#clock.now();
    if (this.#offlineSince === undefined) {
      this.#offlineSince = now;
      this.#logger.warn({ reason, delayMs }, 'not connected to the broker; trying again for ever');
    }
    this.#enter({
      phase: 'offline',
      since: this.#offlineSince,
      reason,
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

/**
 * The agent's two connections to the broker: one consumes tasks, one publishes results and heartbeats.
 *
 * B1 What to do about an end is read from the table in session-outcomes.ts, nowhere else.
 * B2 A broker under alarm stops reading from whoever publishes. While it does, nothing is consumed and nothing times out, also
 *    across reconnects: consuming goes on when the broker has confirmed something.
 * B3 Once the lease is somebody else's, nothing is consumed any more and no heartbeat is sent; results are still published, with the
 *    credentials that were held, which the hub leaves good for just that.
 */
import type { Clock } from '../base/clock.ts';
import { ComputeError, ConflictError, InvariantError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import { dialAmqp } from '../transport/amqp/connection.ts';
import type { AmqpConnection } from '../transport/amqp/connection.ts';
import type { SetUpEnded } from '../transport/amqp/end-cause.ts';
import type { ConfirmPublisher } from '../transport/amqp/publisher.ts';
import { AmqpSession } from '../transport/amqp/session.ts';
import type { DialAttempt, SessionState } from '../transport/amqp/session.ts';
import type { CommandIntake } from './commands/command-intake.ts';
import type { Heartbeat } from './heartbeat.ts';
import type { Intake } from './intake.ts';
import type { Registrar, Registration } from './registration.ts';
import type { ResultOutbox } from './result-outbox.ts';
import { SESSION_OUTCOMES, registrationOutcome } from './session-outcomes.ts';

type Purpose = 'tasks' | 'results';

/** Collaborators. */
export interface BrokerLinkOptions {
  readonly name: string;
  /** Certificate authority of the broker (PEM). */
  readonly ca?: string;
  readonly registrar: Registrar;
  readonly intake: Intake;
  /** What the owner says through the hub. */
  readonly commands?: CommandIntake;
  readonly outbox: ResultOutbox;
  readonly heartbeat: Heartbeat;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onStateChange: () => void;
  /** Somebody else holds the lease; called once. */
  readonly onFenced: (error: ConflictError) => void;
  /** The agent cannot go on. */
  readonly onFatal: (error: ComputeError) => void;
}

/** How the agent is connected. */
export interface LinkHealth {
  readonly isOnline: boolean;
  /** Since when it is not online, and why, in words. */
  readonly offline: { readonly sinceMs: number; readonly reason: string } | undefined;
}

/** Both sessions. */
export class BrokerLink {
  readonly #options: BrokerLinkOptions;
  readonly #tasks: AmqpSession;
  readonly #results: AmqpSession;
  /** Lease epoch whose credentials each session used last. */
  readonly #epochs: Record<Purpose, number> = { tasks: 0, results: 0 };
  #fenced: ConflictError | undefined;
  /** Why the broker takes nothing from us, while it does. */
  #blockedReason: string | undefined;
  /** Why no tasks are taken although the broker would give them. */
  #heldBackReason: string | undefined;
  #offlineSinceMs: number | undefined;
  /** How often each session has come online. */
  readonly #onlineCounts: Record<Purpose, number> = { tasks: 0, results: 0 };

  constructor(options: BrokerLinkOptions) {
    this.#options = options;
    this.#offlineSinceMs = options.clock.now();
    this.#results = this.#session('results', async (connection) => await this.#setUpResults(connection)); // prettier-ignore
    this.#tasks = this.#session('tasks', async (connection) => await this.#setUpTasks(connection));
  }

  /** Begins to connect, for ever. */
  start(): void {
    this.#results.start();
    this.#tasks.start();
  }

  /** Closes both connections. Bounded, never rejects. */
  async stop(): Promise<void> {
    await Promise.all([this.#tasks.stop(), this.#results.stop()]);
  }

  /** Replaces a connection that stands and does not work, or ends the wait for the next attempt. */
  reconnect(purpose: Purpose): void {
    (purpose === 'tasks' ? this.#tasks : this.#results).reconnectNow();
  }

  /** Takes no tasks as long as there is a reason to; what runs goes on, and its results are published. */
  holdBack(reason: string | undefined): void {
    this.#heldBackReason = reason;
    const { intake } = this.#options;
    if (reason === undefined) {
      intake.resume('signed-out');
    } else {
      intake.pause('signed-out');
    }
    this.#afterStateChange();
  }

  /** For `status`. */
  get sessions(): { readonly tasks: SessionState; readonly results: SessionState } {
    return { tasks: this.#tasks.state, results: this.#results.state };
  }

  /** Connections of each session after its first. */
  get reconnectCounts(): Readonly<Record<Purpose, number>> {
    const { tasks, results } = this.#onlineCounts;
    return { tasks: Math.max(0, tasks - 1), results: Math.max(0, results - 1) };
  }

  /** Who took the endpoint over, once somebody did. */
  get fenced(): ConflictError | undefined {
    return this.#fenced;
  }

  /** Whether the endpoint is online, and what is done about it if not. */
  health(): LinkHealth {
    const reason = this.#offlineReason();
    return reason === undefined
      ? { isOnline: true, offline: undefined }
      : { isOnline: false, offline: { sinceMs: this.#offlineSinceMs ?? 0, reason } };
  }

  #offlineReason(): string | undefined {
    if (this.#fenced !== undefined) {
      return this.#fenced.message;
    }
    if (this.#heldBackReason !== undefined) {
      return this.#heldBackReason;
    }
    if (this.#blockedReason !== undefined) {
      return `the broker takes no messages (${this.#blockedReason}); waiting until it does, running tasks go on`;
    }
    const states = [this.#tasks.state, this.#results.state];
    if (states.every(({ phase }) => phase === 'online')) {
      return undefined;
    }
    // A registration that is being tried for long says more than the connection that waits for it.
    const { lastFailure } = this.#options.registrar;
    if (lastFailure !== undefined) {
      return lastFailure;
    }
    const offline = states.find((state) => state.phase === 'offline');
    return offline?.phase === 'offline'
      ? `${offline.reason}; ${SESSION_OUTCOMES[offline.cause].status}`
      : 'connecting to the broker';
  }

  #session(
    name: Purpose,
    setUp: (connection: AmqpConnection) => Promise<{ broken: Promise<SetUpEnded> }>,
  ): AmqpSession {
    const { clock, logger, intake, outbox, heartbeat } = this.#options;
    return new AmqpSession({
      name,
      clock,
      logger: logger.child({ component: name }),
      dial: async (attempt) => await this.#dial(name, attempt),
      setUp,
      onState: ({ phase }) => {
        this.#onlineCounts[name] += phase === 'online' ? 1 : 0;
        if (phase !== 'online' && name === 'results') {
          outbox.setRoute(undefined);
          heartbeat.pause();
        } else if (phase !== 'online') {
          intake.end();
        } else {
          this.#hurry(name);
        }
        this.#afterStateChange();
      },
    });
  }

  /** The broker is there again for one of them: the other need not wait for its next attempt. */
  #hurry(online: Purpose): void {
    const other = online === 'tasks' ? this.#results : this.#tasks;
    if (other.state.phase === 'offline') {
      other.reconnectNow();
    }
  }

  #afterStateChange(): void {
    this.#offlineSinceMs =
      this.#offlineReason() === undefined
        ? undefined
        : (this.#offlineSinceMs ?? this.#options.clock.now());
    this.#options.onStateChange();
  }

  async #dial(purpose: Purpose, { last, signal }: DialAttempt): Promise<AmqpConnection> {
    const { name, ca } = this.#options;
    const registration =
      this.#fenced === undefined
        ? await this.#registration(purpose, last)
        : this.#credentialsOfFenced(purpose);
    this.#epochs[purpose] = registration.epoch;
    const { task_queue_info: tasks, result_queue_info: results } = registration.response;
    return await dialAmqp({
      url: (purpose === 'tasks' ? tasks : results).connection_url,
      connectionName: `${name} ${purpose}`,
      signal,
      ...(ca !== undefined && { ca }),
    });
  }

  /** The registration that is held, or a new one where the table says so (B1). */
  async #registration(purpose: Purpose, last: DialAttempt['last']): Promise<Registration> {
    const { registrar } = this.#options;
    const isRefused = last !== undefined && SESSION_OUTCOMES[last].action === 'register';
    try {
      return await registrar.obtain(isRefused ? this.#epochs[purpose] : undefined);
    } catch (error) {
      const { action } = registrationOutcome(error, registrar.current !== undefined);
      if (action === 'fence' && error instanceof ConflictError) {
        this.#fence(error);
      } else if (action === 'stop' && error instanceof ComputeError && !registrar.isStopped) {
        this.#options.onFatal(error);
      }
      throw error;
    }
  }

  #credentialsOfFenced(purpose: Purpose): Registration {
    const { current } = this.#options.registrar;
    if (purpose === 'tasks' || current === undefined) {
      throw this.#fenced ?? new InvariantError('fenced without a lease');
    }
    return current;
  }

  #fence(error: ConflictError): void {
    if (this.#fenced !== undefined) {
      return;
    }
    this.#fenced = error;
    const { logger, intake } = this.#options;
    logger.error(
      { reason: error.message },
      'this agent was fenced: it finishes what runs and ends',
    );
    intake.pause('fenced');
    detach(logger, 'ending the session that consumes', this.#tasks.stop());
    this.#results.reconnectNow();
    this.#options.onFenced(error);
  }

  async #setUpTasks(connection: AmqpConnection): Promise<{ broken: Promise<SetUpEnded> }> {
    const { response } = this.#requireRegistration();
    const { intake, commands } = this.#options;
    const begun = await intake.begin(connection, response.task_queue_info.queue);
    await commands?.begin(connection, response.command_queue_info.queue);
    return begun;
  }

  async #setUpResults(connection: AmqpConnection): Promise<{ broken: Promise<SetUpEnded> }> {
    const { outbox } = this.#options;
    const publisher = await connection.openPublisher();
    const { response } = this.#requireRegistration();
    const isBlocked = new Promise<void>((resolve) => {
      connection.onBlocked((blocked, reason) => {
        this.#onBlocked(blocked ? reason : undefined);
        if (blocked) {
          resolve();
        }
      });
    });
    if (this.#fenced === undefined) {
      await this.#firstReport(publisher, isBlocked);
    }
    const inlineBytesMax = response.result_upload?.inline_bytes_max;
    outbox.setRoute({
      publisher,
      info: response.result_queue_info,
      ...(inlineBytesMax !== undefined && { inlineBytesMax }),
    });
    return { broken: publisher.closed };
  }

  /** The first report proves that the broker takes what we publish; one that does not read us answers when it does again (B2). */
  async #firstReport(publisher: ConfirmPublisher, isBlocked: Promise<void>): Promise<void> {
    const { response, endpointId } = this.#requireRegistration();
    const { heartbeat, logger } = this.#options;
    const confirmed = heartbeat
      .begin({ publisher, info: response.heartbeat_queue_info, endpointId })
      .then(() => {
        this.#onBlocked(undefined);
      });
    detach(
      logger,
      'waiting for a broker that is blocked',
      confirmed.catch((error: unknown) => {
        logger.debug({ reason: errorText(error) }, 'first report not confirmed');
      }),
    );
    await new Promise<void>((resolve, reject) => {
      confirmed.then(resolve, reject);
      isBlocked.then(resolve, reject);
    });
  }

  #onBlocked(reason: string | undefined): void {
    const { intake } = this.#options;
    if (reason === this.#blockedReason) {
      return;
    }
    this.#blockedReason = reason;
    if (reason === undefined) {
      intake.resume('broker-blocked');
    } else {
      // What is consumed now could not be answered.
      intake.pause('broker-blocked');
    }
    this.#afterStateChange();
  }

  #requireRegistration(): Registration {
    const { current } = this.#options.registrar;
    if (current === undefined) {
      throw new InvariantError('a session was set up before the endpoint was registered');
    }
    return current;
  }
}

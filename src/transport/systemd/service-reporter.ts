/**
 * A service's side of the protocol with its service manager: ready, what it does in words, reloading, stopping, signs of life.
 *
 *   created ─▶ starting ─▶ ready ⇄ reloading
 *                  └──────────┴──▶ stopping
 *
 * Signs of life are sent at half of the time that the manager allows, and only while the service says that it makes progress: a loop
 * that hangs sends none because its timer does not run, a service that is stuck sends none because it knows. From `stopping` on they
 * are sent without asking, because the steps of a shutdown have limits of their own. Without a manager nothing is loaded and no timer runs.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { openNotifySocket } from './notify-socket.ts';
import type { NotificationFields, NotifySocket } from './notify-socket.ts';

/** How often what the service does is looked at while it starts, when nothing tells of a change. */
const STARTING_PERIOD_MS = 5_000;

/** Longest text that is shown; a manager cuts or drops what is longer than its buffer. */
const STATUS_CHARS_MAX = 500;

/** What a manager wants to hear of. */
export interface ServiceReporterOptions {
  readonly notification: { readonly socket: string; readonly watchdogMs?: number } | undefined;
  /** What the service does, in words, for `systemctl status`. */
  readonly describe: () => string;
  /** Whether it makes progress; a sign of life is sent only then. */
  readonly isProgressing: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Keeps a service manager informed. */
export class ServiceReporter {
  readonly #options: ServiceReporterOptions;
  readonly #socket: NotifySocket | undefined;
  #phase: 'starting' | 'ready' | 'stopping' = 'starting';
  #status = '';
  #timer: Timer | undefined;
  #isStuck = false;

  private constructor(options: ServiceReporterOptions, socket: NotifySocket | undefined) {
    this.#options = options;
    this.#socket = socket;
  }

  /** Opens the way to the manager, if there is one, and tells it what is being done. */
  static async open(options: ServiceReporterOptions): Promise<ServiceReporter> {
    const { notification, logger } = options;
    const socket =
      notification === undefined ? undefined : await openNotifySocket(notification.socket, logger);
    const reporter = new ServiceReporter(options, socket);
    reporter.#tick();
    return reporter;
  }

  /** The service has started. */
  ready(): void {
    if (this.#phase === 'starting') {
      this.#phase = 'ready';
      this.#send({ READY: 1 });
      this.#timer?.cancel();
      this.#tick();
    }
  }

  /** What the service does may have changed. */
  update(): void {
    const status = this.#socket === undefined ? '' : this.#options.describe();
    if (status !== this.#status) {
      this.#status = status;
      this.#send({ STATUS: status.slice(0, STATUS_CHARS_MAX) });
    }
  }

  /** Settings are being read again; call `reloaded` when that has ended, however it did. */
  reloading(): void {
    if (this.#phase === 'ready') {
      // The time tells the manager which reload a READY belongs to.
      const monotonicUsec = process.hrtime.bigint() / 1000n;
      this.#send({ RELOADING: 1, MONOTONIC_USEC: String(monotonicUsec) });
    }
  }

  /** Settings have been read again, or were refused and the old ones stay. */
  reloaded(): void {
    if (this.#phase === 'ready') {
      this.#send({ READY: 1 });
      this.update();
    }
  }

  /** The service ends, which may take this long: the manager waits so long even where its own limit is shorter. */
  stopping(limitMs?: number): void {
    if (this.#phase !== 'stopping') {
      this.#phase = 'stopping';
      const extension = limitMs === undefined ? {} : { EXTEND_TIMEOUT_USEC: Math.round(limitMs * 1000) }; // prettier-ignore
      this.#send({ STOPPING: 1, ...extension });
      this.update();
    }
  }

  /** Says nothing more. */
  close(): void {
    this.#timer?.cancel();
    this.#socket?.close();
  }

  #tick(): void {
    if (this.#socket === undefined) {
      return;
    }
    this.update();
    this.#showLife();
    const watchdogMs = this.#options.notification?.watchdogMs;
    const periodMs = watchdogMs === undefined ? undefined : watchdogMs / 2;
    const delayMs =
      this.#phase === 'starting'
        ? Math.min(STARTING_PERIOD_MS, periodMs ?? STARTING_PERIOD_MS)
        : periodMs;
    if (delayMs !== undefined) {
      this.#timer = this.#options.clock.after(
        delayMs,
        () => {
          this.#tick();
        },
        { background: true },
      );
    }
  }

  #showLife(): void {
    const { notification, isProgressing, logger } = this.#options;
    if (notification?.watchdogMs === undefined) {
      return;
    }
    const isStuck = this.#phase === 'ready' && !isProgressing();
    if (isStuck && !this.#isStuck) {
      const limitMs = notification.watchdogMs;
      logger.error({ limitMs }, 'no progress: the service manager is told nothing, and will start this service again'); // prettier-ignore
    }
    this.#isStuck = isStuck;
    if (!isStuck) {
      this.#send({ WATCHDOG: 1 });
    }
  }

  #send(fields: NotificationFields): void {
    this.#socket?.send(fields);
  }
}

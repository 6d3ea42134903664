/**
 * Tells the hub that the endpoint lives, and what became of its tasks.
 *
 * One report as soon as there is a connection, then one per period, and between them one at most each STATUS_INTERVAL_MS while
 * task states have changed. What a report carried and the broker did not confirm goes with the next one. Heartbeats start before
 * work and stop after it; the last one says `active: false`.
 */
import { PERIOD_TOLERANCE } from '../base/clock.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { packEpStatusReport } from '../protocol/messages.ts';
import type { PublishQueueInfo } from '../protocol/rest.ts';
import type { ConfirmPublisher } from '../transport/amqp/publisher.ts';
import type { TaskStatuses } from './task-statuses.ts';

const STATUS_INTERVAL_MS = 1_000;

/** Where heartbeats go at the moment. */
interface Route {
  readonly publisher: ConfirmPublisher;
  readonly info: PublishQueueInfo;
  readonly endpointId: string;
}

/** Settings of the heartbeat. */
export interface HeartbeatOptions {
  readonly periodMs: number;
  readonly statuses: TaskStatuses;
  /** `global_state` of the report, beside the period and `active`. */
  readonly describe: () => Record<string, unknown>;
  /** Called after each period, not for what is reported in between. */
  readonly onPeriod?: () => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Publishes heartbeats and task statuses. */
export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #route: Route | undefined;
  #timer: Timer | undefined;
  #statusTimer: Timer | undefined;
  #stopped = false;
  #confirmedCount = 0;
  #periodMs: number;
  #confirmedAtMs: number | undefined;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#periodMs = options.periodMs;
    options.statuses.onChange(() => {
      this.#armStatusTimer();
    });
  }

  /** Reports that were confirmed, for the watchdog. */
  get confirmedCount(): number {
    return this.#confirmedCount;
  }

  /** Monotonic time at which a report was last confirmed. */
  get confirmedAtMs(): number | undefined {
    return this.#confirmedAtMs;
  }

  get periodMs(): number {
    return this.#periodMs;
  }

  /** Reports at another pace from now on. */
  setPeriod(periodMs: number): void {
    if (periodMs !== this.#periodMs) {
      this.#periodMs = periodMs;
      this.reportNow();
    }
  }

  /** Reports without waiting for the period to end, because something has changed that the hub shows. */
  reportNow(): void {
    if (this.#route !== undefined && !this.#stopped) {
      this.#armTimer();
      this.#report(true).catch(this.#unexpected);
    }
  }

  /** Tells where to publish from now on, and reports at once. @throws UnavailableError when the report is not confirmed. */
  async begin(route: Route): Promise<void> {
    if (this.#stopped) {
      return;
    }
    this.#route = route;
    await this.#publish(true);
    this.#armTimer();
  }

  /** There is no connection. */
  pause(): void {
    this.#route = undefined;
    this.#timer?.cancel();
    this.#statusTimer?.cancel();
    this.#statusTimer = undefined;
  }

  /** Last report, then silence. Never rejects. */
  async finish(): Promise<void> {
    this.#stopped = true;
    if (this.#route !== undefined) {
      await this.#report(false);
    }
    this.pause();
  }

  #armTimer(): void {
    this.#timer?.cancel();
    const onPeriod = (): void => {
      this.#options.logger.trace({}, 'heartbeat');
      this.#report(true).then(() => {
        if (this.#route !== undefined && !this.#stopped) {
          this.#armTimer();
          this.#options.onPeriod?.();
        }
      }, this.#unexpected);
    };
    const tolerance = { toleranceMs: this.#periodMs * PERIOD_TOLERANCE };
    this.#timer = this.#options.clock.after(this.#periodMs, onPeriod, tolerance);
  }

  #armStatusTimer(): void {
    if (this.#statusTimer !== undefined || this.#route === undefined || this.#stopped) {
      return;
    }
    this.#statusTimer = this.#options.clock.after(STATUS_INTERVAL_MS, () => {
      this.#statusTimer = undefined;
      if (this.#options.statuses.size === 0) {
        return;
      }
      this.#report(true).then(() => {
        if (this.#options.statuses.size > 0) {
          this.#armStatusTimer();
        }
      }, this.#unexpected);
    });
  }

  readonly #unexpected = (error: unknown): void => {
    this.#options.logger.error({ err: error }, 'heartbeat failed in an unforeseen way');
  };

  async #report(active: boolean): Promise<void> {
    try {
      await this.#publish(active);
    } catch (error) {
      this.#options.logger.debug({ reason: errorText(error) }, 'heartbeat not confirmed');
    }
  }

  async #publish(active: boolean): Promise<void> {
    const route = this.#route;
    if (route === undefined) {
      return;
    }
    const { statuses, describe } = this.#options;
    const taken = statuses.take();
    const body = packEpStatusReport({
      endpoint_id: route.endpointId,
      global_state: { ...describe(), heartbeat_period: this.#periodMs / 1000, active },
      task_statuses: taken.report,
    });
    const { exchange, routing_key: routingKey } = route.info.queue_publish_kwargs;
    try {
      await route.publisher.publish(exchange, routingKey, body, {
        mandatory: true,
        persistent: true,
      });
    } catch (error) {
      taken.giveBack();
      throw error;
    }
    taken.confirm();
    this.#confirmedCount += 1;
    this.#confirmedAtMs = this.#options.clock.monotonicMs();
  }
}

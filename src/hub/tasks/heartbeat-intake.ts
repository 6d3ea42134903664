/**
 * Takes heartbeats from the broker: when an endpoint was there last, what it reports, and how far its tasks are.
 *
 * H1 A heartbeat counts only for the endpoint whose routing key it came with; the broker lets nobody else use that key.
 * H2 The last report of an endpoint in a batch stands for all of them; task statuses are merged and never go backwards,
 *    and a finished task stays as it is.
 * H3 Acked after it is stored. While the database is away the prefetch bounds what is held and the queue's time to live
 *    bounds what waits, so that a hub that was down does not take its backlog for life.
 * H4 An endpoint that is just being registered is left out (its row is locked, for as long as the broker takes): what it
 *    reported under its former lease says nothing about the new holder.
 */
import { backoffDelayMs } from '../../base/backoff.ts';
import { sleep } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import { ProtocolError, errorText } from '../../base/errors.ts';
import { detach } from '../../base/logger.ts';
import type { Logger } from '../../base/logger.ts';
import { canonicalUuid, unpackEpStatusReport } from '../../protocol/messages.ts';
import type { EpStatusReport } from '../../protocol/messages.ts';
import type { AmqpConnection } from '../../transport/amqp/connection.ts';
import type { AmqpConsumer, Delivery } from '../../transport/amqp/consumer.ts';
import { HEARTBEATS_QUEUE, endpointOfRoutingKey } from '../broker/topology-table.ts';
import { isDataError } from './data-error.ts';
import type { EndpointReport, TaskProgress } from './heartbeat-store.ts';
import { jsonbText } from './jsonb.ts';

const PREFETCH = 256;
const RETRY = { baseMs: 100, maxMs: 5_000 };
/** Longest period that is believed, in seconds: it decides how long a silent endpoint is shown as online. */
const PERIOD_S_MAX = 3600;
const ERROR_CHARS_MAX = 2_000;
/** Room for the statuses of tens of thousands of tasks. */
const HEARTBEAT_BYTES_MAX = 8 * 1024 * 1024;

/** Settings of a {@link HeartbeatIntake}. */
export interface HeartbeatIntakeOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly store: (
    reports: readonly EndpointReport[],
    progress: readonly TaskProgress[],
  ) => Promise<void>;
}

interface Arrived {
  readonly delivery: Delivery;
  readonly consumer: Promise<AmqpConsumer>;
}

/** Consumes the queue of heartbeats. */
export class HeartbeatIntake {
  readonly #options: HeartbeatIntakeOptions;
  readonly #logger: Logger;
  #arrived: Arrived[] = [];
  #storing: Promise<void> | undefined;
  readonly #stopped = new AbortController();

  constructor(options: HeartbeatIntakeOptions) {
    this.#options = options;
    this.#logger = options.logger;
  }

  /** Consumes on a connection; the consumer's end is the caller's to watch. */
  async consume(connection: AmqpConnection): Promise<AmqpConsumer> {
    const consumer: Promise<AmqpConsumer> = connection.openConsumer({
      queue: HEARTBEATS_QUEUE,
      prefetch: PREFETCH,
      onDelivery: (delivery) => {
        this.#arrived.push({ delivery, consumer });
        this.#store();
      },
    });
    const opened = await consumer;
    detach(
      this.#logger,
      'forgetting what the broker delivers again',
      opened.ended.then(() => {
        this.#arrived = this.#arrived.filter((arrived) => arrived.consumer !== consumer);
      }),
    );
    return opened;
  }

  /** Ends waiting for a database that is away; what is held stays unacked. Resolves when nothing is being stored. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#storing;
  }

  #store(): void {
    if (this.#storing === undefined && this.#arrived.length > 0 && !this.#stopped.signal.aborted) {
      this.#storing = this.#storeArrived().finally(() => {
        this.#storing = undefined;
        this.#store();
      });
      detach(this.#logger, 'storing heartbeats', this.#storing);
    }
  }

  async #storeArrived(): Promise<void> {
    const batch = this.#arrived;
    this.#arrived = [];
    const reports = new Map<string, EndpointReport>();
    const progress: TaskProgress[] = [];
    const taken: Arrived[] = [];
    for (const arrived of batch) {
      try {
        this.#collect(decode(arrived.delivery), reports, progress);
        taken.push(arrived);
      } catch (error) {
        await this.#reject(arrived, errorText(error));
      }
    }
    if (!(await this.#storeWithRetry([...reports.values()], progress))) {
      return;
    }
    for (const { consumer, delivery } of taken) {
      (await consumer).ack(delivery.deliveryTag);
    }
  }

  async #reject({ delivery, consumer }: Arrived, reason: string): Promise<void> {
    const { routingKey, body } = delivery;
    this.#logger.warn({ reason, routingKey, bytes: body.length }, 'a heartbeat was refused');
    (await consumer).reject(delivery.deliveryTag);
  }

  #collect(
    report: EpStatusReport,
    reports: Map<string, EndpointReport>,
    progress: TaskProgress[],
  ): void {
    const { endpoint_id: endpointId, global_state: state } = report;
    const error = state['error'];
    if (error !== undefined && error !== null) {
      // A notice of a start that failed (protocol.md 12.6), not a sign of life and not a sign of death.
      const text = typeof error === 'string' ? error : JSON.stringify(error);
      this.#logger.warn(
        { endpointId, reason: text.slice(0, ERROR_CHARS_MAX) },
        'an endpoint reports an error',
      );
    } else {
      const period = state['heartbeat_period'];
      reports.set(endpointId, {
        endpointId,
        stateText: jsonbText(state),
        periodS:
          typeof period === 'number' && period > 0 ? Math.min(period, PERIOD_S_MAX) : undefined,
        isActive: state['active'] !== false && period !== 0,
      });
    }
    for (const [id, transitions] of Object.entries(report.task_statuses)) {
      const taskId = canonicalUuid(id);
      for (const { state: taskState } of taskId === undefined ? [] : transitions) {
        progress.push({ taskId: taskId ?? id, endpointId, state: taskState });
      }
    }
  }

  /** False when stopped before. */
  async #storeWithRetry(reports: EndpointReport[], progress: TaskProgress[]): Promise<boolean> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await this.#options.store(reports, progress);
        return true;
      } catch (error) {
        if (isDataError(error)) {
          return await this.#storeOneByOne(reports, progress, error);
        }
        this.#logger[attempt === 0 ? 'warn' : 'debug'](
          { err: error, attempt },
          'heartbeats cannot be stored, trying again',
        );
        try {
          await sleep(this.#options.clock, backoffDelayMs(attempt, RETRY), this.#stopped.signal);
        } catch {
          // Stopping: the deliveries stay unacked, and come again.
          return false;
        }
      }
    }
  }

  /** One report that the database cannot hold must not keep the others from being stored. */
  async #storeOneByOne(
    reports: EndpointReport[],
    progress: TaskProgress[],
    error: unknown,
  ): Promise<boolean> {
    const [only] = reports;
    if (reports.length === 1 && only !== undefined) {
      const { endpointId } = only;
      this.#logger.warn(
        { endpointId, err: error },
        'the database cannot hold a heartbeat, leaving it out',
      );
      return await this.#storeWithRetry([], progress);
    }
    if (reports.length === 0) {
      this.#logger.error(
        { err: error },
        'the database cannot hold the progress of tasks, leaving it out',
      );
      return true;
    }
    let isStored = true;
    for (const report of reports) {
      isStored = isStored && (await this.#storeWithRetry([report], []));
    }
    return isStored && (await this.#storeWithRetry([], progress));
  }
}

/** @throws ProtocolError when it is malformed, or names another endpoint than the one that it comes from. */
function decode({ body, routingKey }: Delivery): EpStatusReport {
  if (body.length > HEARTBEAT_BYTES_MAX) {
    throw new ProtocolError('PAYLOAD_TOO_LARGE', `it is larger than ${HEARTBEAT_BYTES_MAX} bytes`);
  }
  const report = unpackEpStatusReport(body);
  if (report.endpoint_id !== canonicalUuid(endpointOfRoutingKey(routingKey))) {
    throw new ProtocolError(
      'ENVELOPE_INVALID',
      'it names another endpoint than the one that it comes from',
    );
  }
  return report;
}

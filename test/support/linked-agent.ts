/** The part of an agent that talks to the broker, with a journal and without workers: a test says how its tasks end. */
import { randomUUID } from 'node:crypto';

import { BrokerLink } from '../../src/agent/broker-link.ts';
import { Heartbeat } from '../../src/agent/heartbeat.ts';
import { Intake } from '../../src/agent/intake.ts';
import type { Journal } from '../../src/agent/journal/journal.ts';
import { Registrar } from '../../src/agent/registration.ts';
import { ResultOutbox } from '../../src/agent/result-outbox.ts';
import { TaskStatuses } from '../../src/agent/task-statuses.ts';
import type { Clock } from '../../src/base/clock.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { ComputeError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { HubClient } from '../../src/client/hub-client.ts';
import { TASK_UUID_HEADER } from '../../src/protocol/amqp-headers.ts';
import { packResult } from '../../src/protocol/messages.ts';

export interface LinkedAgentOptions {
  readonly hubUrl: string;
  readonly token: string;
  readonly journal: Journal;
  readonly clock?: Clock;
}

export class LinkedAgent {
  readonly hub: HubClient;
  readonly registrar: Registrar;
  readonly intake: Intake;
  readonly outbox: ResultOutbox;
  readonly statuses: TaskStatuses;
  readonly link: BrokerLink;
  /** Ids of tasks that were delivered and acked. */
  readonly received: string[] = [];
  readonly confirmed: string[] = [];
  readonly fatal: ComputeError[] = [];
  readonly #heartbeat: Heartbeat;
  readonly #journal: Journal;

  constructor({ hubUrl, token, journal, clock = systemClock }: LinkedAgentOptions) {
    this.#journal = journal;
    const tokens = { accessToken: async () => await Promise.resolve(token) };
    this.hub = new HubClient({ hubUrl, tokens, clock: systemClock, retries: 0 });
    this.registrar = new Registrar(
      {
        name: 'default',
        metadata: {},
        takeover: false,
        saveRegistration: async () => {
          await Promise.resolve();
        },
      },
      this.hub,
      systemClock,
      silentLogger,
    );
    this.statuses = new TaskStatuses(systemClock);
    this.outbox = new ResultOutbox(
      journal,
      systemClock,
      silentLogger,
      (taskId) => this.confirmed.push(taskId),
      (taskId, { code }) => ({ body: resultOf(taskId, code), headers: {} }),
    );
    this.intake = new Intake({
      prefetch: 100,
      logger: silentLogger,
      clock,
      onDelivery: ({ headers, deliveryTag }, consumer) => {
        this.received.push(String(headers[TASK_UUID_HEADER]));
        consumer.ack(deliveryTag);
      },
      onForget: () => undefined,
    });
    this.#heartbeat = new Heartbeat({
      periodMs: 1_000,
      statuses: this.statuses,
      describe: () => ({}),
      clock: systemClock,
      logger: silentLogger,
    });
    this.link = new BrokerLink({
      name: 'default',
      registrar: this.registrar,
      intake: this.intake,
      outbox: this.outbox,
      heartbeat: this.#heartbeat,
      clock: systemClock,
      logger: silentLogger,
      onStateChange: () => undefined,
      onFenced: () => undefined,
      onFatal: (error) => this.fatal.push(error),
    });
    this.link.start();
  }

  get heartbeat(): Heartbeat {
    return this.#heartbeat;
  }

  /** Journals a result and publishes it. */
  async finish(taskId: string = randomUUID(), data = '11\n3'): Promise<void> {
    await this.#journal.received({ taskId, meta: {}, body: Buffer.alloc(1) }, true);
    const result = { body: resultOf(taskId, data), headers: {} };
    this.outbox.publish(taskId, result, this.#journal.done(taskId, result));
  }

  async stop(): Promise<void> {
    this.registrar.stop();
    await this.link.stop();
    this.outbox.stop();
    this.#heartbeat.pause();
  }
}

function resultOf(taskId: string, data: string): Buffer {
  return packResult({
    task_id: taskId,
    data,
    details: null,
    error_details: null,
    task_statuses: null,
  });
}

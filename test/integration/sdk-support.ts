/** A stage for the SDK: RabbitMQ behind a proxy that can be cut, and a hub and an endpoint that the test plays. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { packResult } from '../../src/protocol/messages.ts';
import type { Result } from '../../src/protocol/messages.ts';
import { unpackBuffers } from '../../src/protocol/serialization.ts';
import { Client, Executor } from '../../src/sdk/index.ts';
import type { ClientOptions, ExecutorOptions } from '../../src/sdk/index.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { AmqpConnection } from '../../src/transport/amqp/connection.ts';
import type { ConfirmPublisher } from '../../src/transport/amqp/publisher.ts';
import { eventually } from '../support/eventually.ts';
import { FakeHub } from '../support/fake-hub.ts';
import type { FakeTask } from '../support/fake-hub.ts';
import { createVhost, testServices } from '../support/services.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';

/** The broker, for all tests of a file. */
export interface SdkBroker {
  readonly connection: AmqpConnection;
  readonly publisher: ConfirmPublisher;
  readonly amqpUrl: string;
  stop: () => Promise<void>;
}

export async function openSdkBroker(): Promise<SdkBroker> {
  const vhost = await createVhost(testServices().managementUrl);
  const connection = await dialAmqp({ url: vhost.amqpUrl, connectionName: 'SDK test' });
  return {
    connection,
    publisher: await connection.openPublisher(),
    amqpUrl: vhost.amqpUrl,
    stop: async () => {
      await connection.close();
      await vhost.delete();
    },
  };
}

/** Everything around the executors of one test. */
export class SdkStage {
  readonly endpointId = randomUUID();
  readonly broker: SdkBroker;
  readonly hub: FakeHub;
  readonly proxy: TcpProxy;
  readonly client: Client;
  readonly queue: string;
  readonly #executors: Executor[] = [];

  private constructor(broker: SdkBroker, hub: FakeHub, proxy: TcpProxy) {
    this.broker = broker;
    this.hub = hub;
    this.proxy = proxy;
    this.queue = `me.${hub.taskGroupId}`;
    this.client = this.makeClient();
  }

  static async start(broker: SdkBroker): Promise<SdkStage> {
    const hub = await FakeHub.start();
    const url = new URL(broker.amqpUrl);
    const proxy = await startTcpProxy({ targetPort: Number(url.port) });
    url.port = String(proxy.port);
    url.hostname = '127.0.0.1';
    hub.resultConnection = { queue_prefix: 'me.', connection_url: url.href };
    const stage = new SdkStage(broker, hub, proxy);
    await broker.connection.withChannel(async (channel) => await channel.assertQueue(stage.queue));
    return stage;
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#executors.map(async (executor) => {
        await executor.shutdown({ cancelPending: true });
      }),
    );
    await this.proxy.close();
    await this.hub.stop();
  }

  makeClient(options: ClientOptions = {}): Client {
    const { url: hubUrl, clientId, clientSecret } = this.hub;
    return new Client({ hubUrl, clientId, clientSecret, ...options });
  }

  makeExecutor(options: Partial<ExecutorOptions> = {}): Executor {
    return this.keep(
      new Executor({ client: this.client, endpointId: this.endpointId, ...options }),
    );
  }

  /** Has an executor shut down at the end. */
  keep(executor: Executor): Executor {
    this.#executors.push(executor);
    return executor;
  }

  async deliver(
    task: Pick<FakeTask, 'id'>,
    result: Partial<Result>,
    headers: Record<string, unknown> = {},
  ): Promise<void> {
    const body = packResult({
      task_id: task.id,
      data: '11\nnull',
      details: null,
      error_details: null,
      task_statuses: null,
      ...result,
    });
    await this.broker.publisher.publish('', this.queue, body, { headers });
  }

  /** The positional arguments of a task. */
  argumentsOf(task: FakeTask): unknown[] {
    const [args = ''] = unpackBuffers(task.payload);
    return JSON.parse(args.slice(3)) as unknown[];
  }

  /** Plays an endpoint that returns the sum of the arguments. */
  async sum(task: FakeTask): Promise<void> {
    const numbers = this.argumentsOf(task) as number[];
    await this.deliver(task, { data: `11\n${numbers.reduce((a, b) => a + b, 0)}` });
  }

  /** Answers each task with the sum of its arguments. */
  async sumAll(tasks: readonly FakeTask[]): Promise<void> {
    await Promise.all(
      tasks.map(async (task) => {
        await this.sum(task);
      }),
    );
  }

  /** Messages that wait in the queue of the group. */
  async depth(): Promise<number> {
    return (await this.#checkQueue()).messageCount;
  }

  async consumerCount(): Promise<number> {
    return (await this.#checkQueue()).consumerCount;
  }

  /** The tasks that the hub has, once there are so many. */
  async tasks(count: number): Promise<FakeTask[]> {
    return await eventually(() => {
      assert.equal(this.hub.tasks.size, count);
      return [...this.hub.tasks.values()];
    });
  }

  async #checkQueue(): Promise<{ messageCount: number; consumerCount: number }> {
    return await this.broker.connection.withChannel(
      async (channel) => await channel.checkQueue(this.queue),
    );
  }
}

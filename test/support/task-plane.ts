/**
 * The hub's data plane on a virtual host and a database of its own, and the two who meet there: an endpoint that is played
 * with the credentials that the hub gave it, and a person who reads results with theirs.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import type { Kysely } from 'kysely';

import { systemClock } from '../../src/base/clock.ts';
import type { Logger } from '../../src/base/logger.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { migrateDatabase, openDatabase } from '../../src/hub/db/database.ts';
import type { HubDatabase } from '../../src/hub/db/schema.ts';
import { createTaskPlane } from '../../src/hub/task-plane.ts';
import type { TaskPlane, TaskPlaneOptions } from '../../src/hub/task-plane.ts';
import type { SubmitRequest } from '../../src/hub/tasks/task-service.ts';
import { packResult } from '../../src/protocol/messages.ts';
import type { Result } from '../../src/protocol/messages.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import type { AmqpConnection } from '../../src/transport/amqp/connection.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { Delivery } from '../../src/transport/amqp/consumer.ts';
import type { TestServices } from './services.ts';
import { createDatabase, createVhost, managementRequest, testServices } from './services.ts';

export const RETENTION_MS = 3_600_000;
export const FUNCTION_CODE = packBuffers(['js\n(a, b) => a + b']);
export const PAYLOAD = packBuffers(['11\n[1, 2]', '11\n{}']);

/** Collects what is logged as a warning or worse. */
export function recordingLogger(): { logger: Logger; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const record = (fields: object, message: string): void => {
    lines.push({ ...fields, message });
  };
  const logger: Logger = {
    ...silentLogger,
    warn: record,
    error: record,
    fatal: record,
    child: () => logger,
  };
  return { logger, lines };
}

export interface PlaneFixture {
  readonly services: TestServices;
  readonly vhost: string;
  readonly db: Kysely<HubDatabase>;
  readonly plane: TaskPlane;
  readonly lines: Record<string, unknown>[];
  readonly options: TaskPlaneOptions;
  /** Closed with the fixture. */
  dial: (url: string) => Promise<AmqpConnection>;
  close: () => Promise<void>;
}

/** Starts the data plane; `databasePort` is that of a proxy in front of the database, which must answer within `databaseAnswerMs`. */
export async function startPlane(
  changes: Partial<TaskPlaneOptions> & {
    readonly databasePort?: number;
    readonly databaseAnswerMs?: number;
  } = {},
): Promise<PlaneFixture> {
  const { databasePort, databaseAnswerMs: answerMs, ...planeChanges } = changes;
  const services = testServices();
  const vhost = await createVhost(services.managementUrl);
  const database = await createDatabase(services.databaseUrl);
  const { logger, lines } = recordingLogger();
  const url = new URL(database.databaseUrl);
  if (databasePort !== undefined) {
    url.port = String(databasePort);
    url.hostname = '127.0.0.1';
  }
  const db = openDatabase({ url: url.href, logger, ...(answerMs !== undefined && { answerMs }) });
  await migrateDatabase(db);
  const options: TaskPlaneOptions = {
    db,
    amqpUrl: vhost.amqpUrl,
    amqpPublicUrl: services.amqpUrl,
    managementUrl: services.managementUrl,
    clock: systemClock,
    logger,
    retentionMs: RETENTION_MS,
    ...planeChanges,
  };
  const plane = createTaskPlane(options);
  await plane.start();
  const connections: AmqpConnection[] = [];
  return {
    services,
    vhost: new URL(vhost.amqpUrl).pathname.slice(1),
    db,
    plane,
    lines,
    options,
    dial: async (url) => {
      const connection = await dialAmqp({ url, connectionName: 'test' });
      connections.push(connection);
      return connection;
    },
    close: async () => {
      await Promise.all(connections.map(async (connection) => { await connection.close(); })); // prettier-ignore
      await plane.stop();
      await db.destroy();
      await vhost.delete();
      await database.drop();
    },
  };
}

export interface TestEndpoint {
  readonly id: string;
  readonly queueSuffix: string;
  readonly ownerId: string;
  readonly functionId: string;
  readonly url: string;
}

/** A registered endpoint with a lease, its owner's function, and its broker credentials. */
export async function registerEndpoint(
  { db, plane }: PlaneFixture,
  ownerId: string = randomUUID(),
): Promise<TestEndpoint> {
  const id = randomUUID();
  const queueSuffix = randomUUID().slice(0, 8);
  const functionId = randomUUID();
  await db
    .insertInto('endpoints')
    .values({
      id,
      owner_id: ownerId,
      name: 'here',
      metadata: '{}',
      queue_suffix: queueSuffix,
      lease_epoch: 1,
      lease_holder: JSON.stringify({ host: 'h', boot_id: 'b', pid: 1, start_ticks: 1 }),
      lease_expires_at: new Date(),
    })
    .execute();
  await db
    .insertInto('functions')
    .values({ id: functionId, owner_id: ownerId, name: 'add', code: FUNCTION_CODE, meta: '{}' })
    .execute();
  await plane.topology.declareEndpoint({ id, queueSuffix });
  const { connectionUrl } = await plane.topology.grantEndpoint({ id, queueSuffix, epoch: 1 });
  return { id, queueSuffix, ownerId, functionId, url: connectionUrl };
}

/** A submission of `count` equal tasks. */
export function submission(
  endpoint: TestEndpoint,
  count = 1,
  more: Partial<SubmitRequest['submission']> = {},
): SubmitRequest {
  return {
    ownerId: endpoint.ownerId,
    endpointId: endpoint.id,
    functionCode: new Map([
      [endpoint.functionId, { id: endpoint.functionId, code: FUNCTION_CODE }],
    ]),
    submission: {
      create_queue: true,
      tasks: { [endpoint.functionId]: Array.from({ length: count }, () => PAYLOAD) },
      ...more,
    },
  };
}

/** A result as an endpoint packs it. */
export function resultBody(taskId: string, more: Partial<Result> = {}): Buffer {
  return packResult({
    task_id: taskId,
    data: '11\n3',
    details: null,
    error_details: null,
    task_statuses: null,
    ...more,
  });
}

/** Consumes a queue and acks everything. */
export async function collect(connection: AmqpConnection, queue: string): Promise<Delivery[]> {
  const deliveries: Delivery[] = [];
  const consumer = await connection.openConsumer({
    queue,
    prefetch: 1000,
    onDelivery: (delivery) => {
      deliveries.push({ ...delivery, body: Buffer.from(delivery.body) });
      setImmediate(() => consumer.ack(delivery.deliveryTag));
    },
  });
  return deliveries;
}

/** Closes every connection of the virtual host, as an operator can. Returns how many of them were the hub's. */
export async function closeConnections({ services, vhost }: PlaneFixture): Promise<number> {
  const list = (await managementRequest(
    services.managementUrl,
    'GET',
    `/vhosts/${vhost}/connections`,
  )) as { name: string; user_provided_name?: string }[];
  for (const { name } of list) {
    await managementRequest(
      services.managementUrl,
      'DELETE',
      `/connections/${encodeURIComponent(name)}`,
    );
  }
  return list.filter(({ user_provided_name: given }) => given?.startsWith('outpost hub') === true)
    .length;
}

/** The only task of an answer. */
export function onlyTask(tasks: Readonly<Record<string, readonly string[]>>): string {
  const [taskId] = Object.values(tasks).flat();
  assert.ok(taskId !== undefined);
  return taskId;
}

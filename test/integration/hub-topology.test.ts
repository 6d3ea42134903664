/** Who may do what at the broker: the table of topology-table.ts, tried out with the credentials that the hub hands out. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { systemClock } from '../../src/base/clock.ts';
import { ComputeError, ConfigError, UnavailableError } from '../../src/base/errors.ts';
import { ClientRegistry } from '../../src/hub/auth/client-registry.ts';
import { PeopleRegistry } from '../../src/hub/auth/people.ts';
import { createTaskPlane } from '../../src/hub/task-plane.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { AmqpConnection } from '../../src/transport/amqp/connection.ts';
import { eventually } from '../support/eventually.ts';
import { managementRequest } from '../support/services.ts';
import { collect, registerEndpoint, resultBody, startPlane } from '../support/task-plane.ts';
import type { PlaneFixture, TestEndpoint } from '../support/task-plane.ts';

function refusedWith(replyCode: number) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof ComputeError, String(error));
    assert.equal(error.details['replyCode'], replyCode, error.message);
    return true;
  };
}

describe('broker topology', () => {
  let fixture: PlaneFixture;
  let own: TestEndpoint;
  let other: TestEndpoint;
  let connection: AmqpConnection;

  before(async () => {
    fixture = await startPlane();
    own = await registerEndpoint(fixture);
    other = await registerEndpoint(fixture);
    connection = await fixture.dial(own.url);
  });

  after(async () => {
    await fixture.close();
  });

  it('lets an endpoint consume its own task and command queue, and no other', async () => {
    const { topology } = fixture.plane;
    await collect(connection, topology.taskQueueName(own));
    await collect(connection, topology.commandQueueName(own));
    for (const queue of [topology.taskQueueName(other), 'results', 'heartbeats']) {
      await assert.rejects(collect(connection, queue), refusedWith(403), queue);
    }
  });

  it('lets an endpoint publish under its own routing keys, and no other', async () => {
    for (const exchange of ['results', 'heartbeats']) {
      const publisher = await connection.openPublisher();
      await publisher.publish(exchange, `${own.id}.${exchange}`, Buffer.from('x'), {
        mandatory: true,
      });
      await assert.rejects(
        publisher.publish(exchange, `${other.id}.${exchange}`, Buffer.from('x')),
        refusedWith(403),
      );
    }
  });

  it('lets an endpoint publish to no other exchange', async () => {
    const queue = fixture.plane.topology.taskQueueName(other);
    for (const exchange of ['tasks', 'commands', '', 'amq.topic']) {
      const publisher = await connection.openPublisher();
      await assert.rejects(
        publisher.publish(exchange, queue, resultBody(randomUUID())),
        refusedWith(403),
        exchange,
      );
    }
  });

  it('lets nobody declare or delete', async () => {
    const person = await fixture.plane.topology.resultConnection(own.ownerId);
    for (const url of [own.url, person.connection_url]) {
      const dialled = await fixture.dial(url);
      await assert.rejects(
        dialled.withChannel(async (channel) => await channel.assertQueue('mine')),
        refusedWith(403),
      );
      await assert.rejects(
        dialled.withChannel(async (channel) => await channel.deleteQueue('results')),
        refusedWith(403),
      );
    }
  });

  it('allows the passive declares that the original endpoint makes before it publishes', async () => {
    await connection.withChannel(async (channel) => {
      await channel.checkExchange('results');
      await channel.checkQueue('results');
      await channel.checkExchange('heartbeats');
      await channel.checkQueue('heartbeats');
    });
  });

  it('lets a person read the result queues under their own prefix, and no other', async () => {
    const { topology } = fixture.plane;
    const groupId = randomUUID();
    await topology.declareTaskGroupQueue(own.ownerId, groupId);
    await topology.declareTaskGroupQueue(other.ownerId, groupId);
    const { queue_prefix: prefix, connection_url: url } = await topology.resultConnection(
      own.ownerId,
    );
    assert.equal(prefix, `${own.ownerId}.`);
    const person = await fixture.dial(url);
    await collect(person, prefix + groupId);
    await assert.rejects(collect(person, `${other.ownerId}.${groupId}`), refusedWith(403));
    await assert.rejects(collect(person, topology.taskQueueName(own)), refusedWith(403));
    const publisher = await person.openPublisher();
    await assert.rejects(
      publisher.publish('', prefix + groupId, resultBody(randomUUID())),
      refusedWith(403),
    );
  });

  it('answers a person the same in every process, and keeps their connection', async () => {
    const first = await fixture.plane.topology.resultConnection(own.ownerId);
    const dialled = await fixture.dial(first.connection_url);
    // Another hub process: nothing in memory.
    const { topology } = createTaskPlane(fixture.options);
    assert.deepEqual(await topology.resultConnection(own.ownerId), first);
    await dialled.withChannel(async (channel) => await channel.checkExchange('results'));
  });

  it('gives a person other credentials once those before were ended, and the same queues', async () => {
    const client = await new ClientRegistry(fixture.db, systemClock).create('rotating');
    const { topology } = fixture.plane;
    // Another hub process, which remembers what it has handed out.
    const { topology: elsewhere } = createTaskPlane(fixture.options);
    const first = await topology.resultConnection(client.id);
    assert.deepEqual(await elsewhere.resultConnection(client.id), first);
    const leaked = await fixture.dial(first.connection_url);
    const endpoint = await registerEndpoint(fixture, client.id);
    const session = await fixture.dial(endpoint.url);
    await new ClientRegistry(fixture.db, systemClock).renewSecret(client.id);
    await leaked.closed;
    await assert.rejects(dialAmqp({ url: first.connection_url, connectionName: 'leaked' }), {
      code: 'TOKEN_REJECTED',
    });
    const second = await elsewhere.resultConnection(client.id);
    assert.notEqual(second.connection_url, first.connection_url);
    assert.equal(second.queue_prefix, first.queue_prefix);
    assert.deepEqual(await topology.resultConnection(client.id), second);
    const groupId = randomUUID();
    await topology.declareTaskGroupQueue(client.id, groupId);
    await collect(await fixture.dial(second.connection_url), second.queue_prefix + groupId);
    // The agents of a client go on: they get the new secret in their own time.
    await session.withChannel(async (channel) => await channel.checkExchange('results'));
  });

  it('gives none to whom it has shut out, and others to whom it lets in again', async () => {
    const people = new PeopleRegistry(fixture.db);
    const { id } = await people.create({ username: 'ada', password: 'correct horse battery' });
    const { topology } = fixture.plane;
    const before = await topology.resultConnection(id);
    await people.setDisabled(id, true);
    // With a token that a hub process remembers for a moment.
    await assert.rejects(topology.resultConnection(id), { code: 'USER_UNAUTHENTICATED' });
    await people.setDisabled(id, false);
    const after = await topology.resultConnection(id);
    assert.notEqual(after.connection_url, before.connection_url);
    await fixture.dial(after.connection_url);
    await eventually(async () => {
      await assert.rejects(dialAmqp({ url: before.connection_url, connectionName: 'before' }), {
        code: 'TOKEN_REJECTED',
      });
    });
  });

  it('cuts the agents of a person off with a new password, and when they are signed out', async () => {
    const people = new PeopleRegistry(fixture.db);
    const person = await people.create({ username: 'grace', password: 'correct horse battery' });
    for (const end of [
      async () => {
        await people.setPassword(person, 'another password');
      },
      async () => {
        await people.signOut(person.id);
      },
    ]) {
      const reader = await fixture.dial(
        (await fixture.plane.topology.resultConnection(person.id)).connection_url,
      );
      const agent = await fixture.dial((await registerEndpoint(fixture, person.id)).url);
      await end();
      await Promise.all([reader.closed, agent.closed]);
    }
  });

  it('puts an explicit port and an encoded virtual host into what it hands out', () => {
    const url = new URL(own.url);
    assert.equal(url.pathname, `/${fixture.vhost}`);
    assert.equal(url.port, new URL(fixture.services.amqpUrl).port);
    assert.equal(url.search, '');
  });

  it('revokes by closing the connection and refusing the credentials, except those of one epoch', async () => {
    const endpoint = await registerEndpoint(fixture);
    const { topology } = fixture.plane;
    const fenced = await fixture.dial(endpoint.url);
    const { connectionUrl } = await topology.grantEndpoint({ ...endpoint, epoch: 2 });
    const holder = await fixture.dial(connectionUrl);
    await topology.revokeEndpoint(endpoint.id, { exceptEpoch: 2 });
    const { kind } = await fenced.closed;
    assert.notEqual(kind, 'local');
    await assert.rejects(fixture.dial(endpoint.url), { code: 'TOKEN_REJECTED' });
    await collect(holder, topology.taskQueueName(endpoint));
  });

  it('deletes the queues with the endpoint', async () => {
    const endpoint = await registerEndpoint(fixture);
    const { topology } = fixture.plane;
    await topology.deleteEndpoint(endpoint);
    await topology.deleteEndpoint(endpoint);
    const admin = await fixture.dial(fixture.options.amqpUrl);
    await assert.rejects(
      admin.withChannel(
        async (channel) => await channel.checkQueue(topology.taskQueueName(endpoint)),
      ),
      refusedWith(404),
    );
    await assert.rejects(fixture.dial(endpoint.url), { code: 'TOKEN_REJECTED' });
  });

  it('lets queues of task groups expire with the retention', async () => {
    const groupId = randomUUID();
    await fixture.plane.topology.declareTaskGroupQueue(own.ownerId, groupId);
    const queue = (await managementRequest(
      fixture.services.managementUrl,
      'GET',
      `/queues/${fixture.vhost}/${own.ownerId}.${groupId}`,
    )) as { durable: boolean; arguments: Record<string, unknown> };
    assert.equal(queue.durable, true);
    assert.equal(queue.arguments['x-expires'], fixture.options.retentionMs);
  });

  it('says at once which setting is wrong when the management API refuses the password', async () => {
    const url = new URL(fixture.services.managementUrl);
    url.password = 'wrong';
    const plane = createTaskPlane({ ...fixture.options, managementUrl: url.href });
    await assert.rejects(plane.start(), (error: unknown) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, /OUTPOST_AMQP_MANAGEMENT_URL/);
      assert.doesNotMatch(error.message, /wrong/);
      return true;
    });
  });

  it('gives up after its time limit when the broker does not come up, and says what to set', async () => {
    const plane = createTaskPlane({
      ...fixture.options,
      // Discard port: nothing listens there.
      managementUrl: 'http://user:password@127.0.0.1:9',
      startTimeoutMs: 300,
    });
    await assert.rejects(plane.start(), (error: unknown) => {
      assert.ok(error instanceof UnavailableError);
      assert.match(error.message, /OUTPOST_AMQP_MANAGEMENT_URL/);
      return true;
    });
    assert.equal(plane.health().consuming.phase, 'stopped');
  });

  it('names a missing virtual host with the command that makes it', async () => {
    const url = new URL(fixture.options.amqpUrl);
    url.pathname = '/nowhere';
    const plane = createTaskPlane({ ...fixture.options, clock: systemClock, amqpUrl: url.href });
    await assert.rejects(plane.start(), /rabbitmqctl add_vhost 'nowhere'/);
  });

  it('hands out credentials that are not accepted for another virtual host', async () => {
    const url = new URL(own.url);
    url.pathname = '/%2F';
    await assert.rejects(dialAmqp({ url: url.href, connectionName: 'test' }), {
      code: 'TOKEN_REJECTED',
    });
  });
});

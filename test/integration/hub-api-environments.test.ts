/** The registry of execution environments, and how a task learns of its own. */
import assert from 'node:assert/strict';

import type { EndpointRegistered } from '../../src/protocol/rest.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { Delivery } from '../../src/transport/amqp/consumer.ts';
import {
  assertRefused,
  FUNCTION_CODE,
  registerEndpoint,
  registerFunction,
  TestHub,
} from './hub-api-support.ts';
import type { Answer, Json, Person } from './hub-api-support.ts';

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

describe('execution environments at the hub', () => {
  let hub: TestHub;
  let owner: Person;
  let member: Person;
  let stranger: Person;
  let group: string;
  before(async () => {
    hub = await TestHub.start();
    [owner, member, stranger] = [await hub.person(), await hub.person(), await hub.person()];
    group = String((await owner.call('POST', '/v2/groups', { name: 'lab' })).body['id']);
    await owner.call('POST', `/v2/groups/${group}`, { add: [{ identity_id: member.id }] });
  });
  after(async () => {
    await hub.stop();
  });

  async function register(body: Json): Promise<Answer> {
    return await owner.call('POST', '/v1/environments', body);
  }

  async function registered(body: Json): Promise<string> {
    const answer = await register(body);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return String(answer.body['environment_id']);
  }

  async function submit(person: Person, endpoint: string, fn: string): Promise<Answer> {
    return await person.call('POST', `/v3/endpoints/${endpoint}/submit`, {
      tasks: { [fn]: ['11\n[]'] },
    });
  }

  /** Headers of the next task of an endpoint. */
  async function nextHeaders({ task_queue_info: info }: EndpointRegistered): Promise<Json> {
    const connection = await dialAmqp({ url: info.connection_url, connectionName: 'test' });
    try {
      const { promise, resolve } = deferred<Delivery>();
      const consumer = await connection.openConsumer({
        queue: info.queue,
        prefetch: 1,
        onDelivery: resolve,
      });
      const delivery = await promise;
      consumer.ack(delivery.deliveryTag);
      await consumer.close();
      return { ...delivery.headers };
    } finally {
      await connection.close();
    }
  }

  it('come back as they were registered, also in the shape of older SDKs', async () => {
    const { body } = await owner.call('POST', '/v2/containers', {
      name: 'python',
      location: 'docker://python:3.11-slim',
      description: 'small',
      type: 'Singularity',
    });
    const id = String(body['container_id']);
    const document = {
      type: 'singularity',
      location: 'docker://python:3.11-slim',
      name: 'python',
      description: 'small',
      owner: owner.id,
      public: false,
    };
    assert.deepEqual((await owner.call('GET', `/v1/environments/${id}`)).body, {
      environment_id: id,
      ...document,
    });
    assert.deepEqual((await owner.call('GET', `/v2/containers/${id}/Singularity`)).body, {
      container: { container_uuid: id, ...document },
    });
    assertRefused(
      await owner.call('GET', `/v2/containers/${id}/docker`),
      404,
      'CONTAINER_NOT_FOUND',
    );
  });

  it('have a location that fits their type and is no option of a command', async () => {
    for (const [type, location] of [
      ['apptainer', '/images/a.sif'],
      ['docker', 'ghcr.io/lab/image@sha256:0123'],
      ['podman', 'python:3.11'],
      ['venv', '/opt/lab/venv'],
      ['conda', 'lab'],
      ['conda', '/opt/conda/envs/lab'],
      ['module', 'gcc/12 python/3.11'],
    ]) {
      await registered({ type, location });
    }
    for (const [type, location] of [
      ['shifter', 'image'],
      ['docker', '--privileged'],
      ['docker', 'image --privileged'],
      ['docker', ''],
      ['venv', 'relative/venv'],
      ['venv', '/opt/venv\nrm -rf'],
      ['conda', 'two words'],
      ['module', 'gcc  python'],
      ['module', 'gcc -f'],
      ['apptainer', '/images/a b.sif'],
    ]) {
      assertRefused(await register({ type, location }), 422, 'SEMANTICALLY_INVALID', /body/);
    }
  });

  it('are used and listed by whom they are shared with, and deleted by their owner', async () => {
    const id = await registered({ type: 'venv', location: '/opt/a', group });
    const isListed = async (person: Person) => {
      const { body } = await person.call('GET', '/v1/environments');
      return (body as unknown as Json[]).some((each) => each['environment_id'] === id);
    };
    assert.deepEqual(
      [await isListed(owner), await isListed(member), await isListed(stranger)],
      [true, true, false],
    );
    const body = { function_name: 'f', function_code: FUNCTION_CODE, container_uuid: id };
    assert.equal((await member.call('POST', '/v3/functions', body)).status, 200);
    assertRefused(
      await stranger.call('POST', '/v3/functions', body),
      403,
      'CONTAINER_ACCESS_FORBIDDEN',
    );
    await owner.call('POST', `/v1/environments/${id}/share`, { public: true });
    assert.equal((await stranger.call('POST', '/v3/functions', body)).status, 200);
    assertRefused(
      await stranger.call('DELETE', `/v1/environments/${id}`),
      403,
      'CONTAINER_ACCESS_FORBIDDEN',
    );
    assert.equal((await owner.call('DELETE', `/v1/environments/${id}`)).status, 200);
    assertRefused(await owner.call('GET', `/v1/environments/${id}`), 404, 'CONTAINER_NOT_FOUND');
    assertRefused(await owner.call('POST', '/v3/functions', body), 404, 'CONTAINER_NOT_FOUND');
  });

  it('travel with the tasks of the functions that name them', async () => {
    const id = await registered({ type: 'venv', location: '/opt/lab' });
    const fn = await registerFunction(owner, { container_uuid: id });
    assert.equal((await owner.call('GET', `/v2/functions/${fn}`)).body['container_uuid'], id);
    const endpoint = await registerEndpoint(owner, {
      metadata: { environment_types: ['venv', 'conda'] },
    });
    const submitted = await submit(owner, endpoint.endpoint_id, fn);
    const taskIds = (submitted.body['tasks'] as Record<string, string[]>)[fn];
    const expected = { id, type: 'venv', location: '/opt/lab' };
    const first = await nextHeaders(endpoint);
    assert.deepEqual(JSON.parse(String(first['outpost_environment'])), expected);
    // A second time, by the relay, which reads it from the database.
    await owner.call('POST', `/v1/endpoints/${endpoint.endpoint_id}/tasks/hand-back`, {
      epoch: 1,
      task_ids: taskIds,
    });
    const second = await nextHeaders(endpoint);
    assert.deepEqual(JSON.parse(String(second['outpost_environment'])), expected);
    const plain = await registerFunction(owner);
    assert.equal((await submit(owner, endpoint.endpoint_id, plain)).status, 200);
    assert.ok(!('outpost_environment' in (await nextHeaders(endpoint))));
  });

  it('are not left out: an endpoint without them, or a deleted one, refuses the task', async () => {
    const id = await registered({ type: 'docker', location: 'python:3.11' });
    const fn = await registerFunction(owner, { container_uuid: id });
    const metadata = { environment_types: ['venv'] };
    for (const more of [{}, { metadata }]) {
      const { endpoint_id: endpoint } = await registerEndpoint(owner, more);
      assertRefused(
        await submit(owner, endpoint, fn),
        422,
        'SEMANTICALLY_INVALID',
        /of type docker/,
      );
    }
    const { endpoint_id: endpoint } = await registerEndpoint(owner, {
      metadata: { environment_types: ['docker'] },
    });
    assert.equal((await submit(owner, endpoint, fn)).status, 200);
    await owner.call('DELETE', `/v1/environments/${id}`);
    assertRefused(await submit(owner, endpoint, fn), 404, 'CONTAINER_NOT_FOUND', /register/);
  });
});

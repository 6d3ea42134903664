/** Who holds an endpoint, and telling its agent something, through the hub. */
import assert from 'node:assert/strict';

import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import type { AmqpConnection } from '../../src/transport/amqp/connection.ts';
import { eventually } from '../support/eventually.ts';
import { assertRefused, registerEndpoint, TestHub } from './hub-api-support.ts';
import type { Json, Person } from './hub-api-support.ts';

const HOLDER = { host: 'login1', boot_id: 'b1', pid: 10, start_ticks: 100 };

describe('commands for endpoints at the hub', () => {
  let hub: TestHub;
  let owner: Person;
  let connection: AmqpConnection | undefined;

  before(async () => {
    hub = await TestHub.start();
    owner = await hub.person();
  });
  after(async () => {
    await connection?.close();
    await hub.stop();
  });

  it('tell the owner who holds the endpoint, and nobody else', async () => {
    const { endpoint_id: id } = await registerEndpoint(owner, { lease: { holder: HOLDER } });
    const { body } = await owner.call('GET', `/v1/endpoints/${id}/lease`);
    const { holder, lease, epoch } = body as Json & { holder: Json };
    assert.deepEqual([lease, epoch, holder['host'], holder['pid']], ['held', 1, 'login1', 10]);
    const stranger = await hub.person();
    const command = { command: 'stop', lease_epoch: 1 };
    for (const refused of [
      await stranger.call('GET', `/v1/endpoints/${id}/lease`),
      await stranger.call('POST', `/v1/endpoints/${id}/commands`, command),
    ]) {
      assertRefused(refused, 403, 'ENDPOINT_ACCESS_FORBIDDEN');
    }
    await owner.call('POST', `/v1/endpoints/${id}/lease/release`, { epoch: 1 });
    const after = await owner.call('GET', `/v1/endpoints/${id}/lease`);
    assert.equal(after.body['lease'], 'released');
  });

  it('tell of a lease as it was before its release or after it, never of something between', async () => {
    const { endpoint_id: id } = await registerEndpoint(owner, { lease: { holder: HOLDER } });
    const seen = new Set<unknown>();
    let isOver = false;
    const look = async (): Promise<void> => {
      while (!isOver) {
        seen.add((await owner.call('GET', `/v1/endpoints/${id}/lease`)).body['lease']);
      }
    };
    const lookers = [look(), look(), look(), look()];
    for (let epoch = 1; epoch <= 40; epoch += 1) {
      const path = `/v1/endpoints/${id}/lease/release`;
      assert.equal((await owner.call('POST', path, { epoch })).status, 200);
      await registerEndpoint(owner, { endpoint_uuid: id, lease: { holder: HOLDER } });
    }
    isOver = true;
    await Promise.all(lookers);
    assert.deepEqual([...seen].sort(), ['held', 'released']);
  });

  it('are refused for another lease than the one that is held, and while nobody listens', async () => {
    const { endpoint_id: id } = await registerEndpoint(owner, { lease: { holder: HOLDER } });
    const path = `/v1/endpoints/${id}/commands`;
    const tell = async (body: Json) => await owner.call('POST', path, body);
    assertRefused(await tell({ command: 'stop', lease_epoch: 2 }), 409, 'LEASE_NOT_HELD');
    assertRefused(await tell({ command: 'stop', lease_epoch: 1 }), 409, 'ENDPOINT_NOT_LISTENING');
    assert.equal((await tell({ command: 'explode', lease_epoch: 1 })).status, 422);
  });

  it('reach whoever listens with the credentials of the lease', async () => {
    const endpoint = await registerEndpoint(owner, { lease: { holder: HOLDER } });
    const { connection_url: url, queue } = endpoint.command_queue_info;
    connection = await dialAmqp({ url, connectionName: 'test' });
    const received: unknown[] = [];
    await connection.openConsumer({
      queue,
      prefetch: 1,
      onDelivery: ({ body }) => received.push(JSON.parse(body.toString())),
    });
    const command = { command: 'drain', lease_epoch: 1, by: 'ada', reason: 'maintenance' };
    const path = `/v1/endpoints/${endpoint.endpoint_id}/commands`;
    const { status, body } = await owner.call('POST', path, command);
    assert.equal(status, 200);
    await eventually(() => {
      assert.deepEqual(received, [{ ...command, command_id: body['command_id'] }]);
    });
  });
});

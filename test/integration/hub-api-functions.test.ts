import assert from 'node:assert/strict';

import { assertRefused, FUNCTION_CODE, registerFunction, TestHub } from './hub-api-support.ts';
import type { Person } from './hub-api-support.ts';

describe('functions at the hub', () => {
  let hub: TestHub;
  let owner: Person;
  let stranger: Person;
  before(async () => {
    hub = await TestHub.start();
    owner = await hub.person();
    stranger = await hub.person();
  });
  after(async () => {
    await hub.stop();
  });

  it('come back as they were registered', async () => {
    const id = await registerFunction(owner, {
      description: 'adds one',
      meta: { python_version: '3.11.2', sdk_version: '4.15.0', serde_identifier: 'st' },
      some_field_of_a_later_version: [1],
    });
    const { body } = await owner.call('GET', `/v2/functions/${id}`);
    assert.deepEqual(body, {
      function_uuid: id,
      function_name: 'add_one',
      description: 'adds one',
      function_code: FUNCTION_CODE,
      metadata: { python_version: '3.11.2', sdk_version: '4.15.0', serde_identifier: 'st' },
    });
  });

  it('may be registered on v2 with their metadata under its older name', async () => {
    const { body } = await owner.call('POST', '/v2/functions', {
      function_name: 'f',
      function_code: FUNCTION_CODE,
      metadata: { python_version: '3.9.1' },
      description: null,
    });
    const read = await owner.call('GET', `/v2/functions/${String(body['function_uuid'])}`);
    assert.deepEqual(read.body['metadata'], { python_version: '3.9.1' });
    assert.ok(!('description' in read.body));
  });

  it('are found whatever the spelling of their id', async () => {
    const id = await registerFunction(owner);
    const spelt = id.replaceAll('-', '').toUpperCase();
    assert.equal((await owner.call('GET', `/v2/functions/${spelt}`)).status, 200);
  });

  it('are read by their owner only, unless they are public', async () => {
    const own = await registerFunction(owner);
    const open = await registerFunction(owner, { public: true });
    assertRefused(
      await stranger.call('GET', `/v2/functions/${own}`),
      403,
      'FUNCTION_ACCESS_FORBIDDEN',
    );
    assert.equal((await stranger.call('GET', `/v2/functions/${open}`)).status, 200);
    assertRefused(
      await stranger.call('DELETE', `/v2/functions/${open}`),
      403,
      'FUNCTION_ACCESS_FORBIDDEN',
    );
  });

  it('are gone once deleted', async () => {
    const id = await registerFunction(owner);
    const deleted = await owner.call('DELETE', `/v2/functions/${id}`);
    assert.deepEqual(deleted.body, { result: 302 });
    assertRefused(await owner.call('GET', `/v2/functions/${id}`), 404, 'FUNCTION_NOT_FOUND');
    assertRefused(await owner.call('DELETE', `/v2/functions/${id}`), 404, 'FUNCTION_NOT_FOUND');
  });

  it('are refused when they are too large', async () => {
    const text = 'x'.repeat(hub.settings.limits.functionBytesMax);
    const code = `${text.length + 3}\n01\n${text}`;
    assertRefused(
      await owner.call('POST', '/v3/functions', { function_name: 'f', function_code: code }),
      413,
      'FUNCTION_TOO_LARGE',
    );
  });

  it('are refused when they are not one packed buffer', async () => {
    for (const code of ['nonsense', '99\n01\nshort', '4\n01\nx4\n01\ny']) {
      assertRefused(
        await owner.call('POST', '/v3/functions', { function_name: 'f', function_code: code }),
        422,
        'SEMANTICALLY_INVALID',
        /body\/function_code/,
      );
    }
  });
});

/** What the hub refuses because it is too much: requests in too short a time, and too large ones. */
import assert from 'node:assert/strict';

import { sleep, systemClock } from '../../src/base/clock.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import { Client } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { TestHub, assertRefused, registerEndpoint, registerFunction } from './hub-api-support.ts';
import type { Person } from './hub-api-support.ts';

const WINDOW_MS = 1_000;
const REQUESTS_MAX = 12;
const ADDRESS_REQUESTS_MAX = 40;

describe('limits of the hub', function () {
  let hub: TestHub;

  before(async () => {
    hub = await TestHub.start({
      limits: {
        submissionBytesMax: 64 * 1024,
        functionBytesMax: 8 * 1024,
        submissionTasksMax: 100,
        taskBytesMax: 16 * 1024,
        rates: {
          requestsMax: REQUESTS_MAX,
          addressRequestsMax: ADDRESS_REQUESTS_MAX,
          windowMs: WINDOW_MS,
        },
      },
    });
  });
  after(async () => {
    await hub.stop();
  });

  /** Makes requests until one is refused. */
  async function exceed(person: Person): Promise<Awaited<ReturnType<Person['call']>>> {
    for (let count = 0; count <= 100 * REQUESTS_MAX; count += 1) {
      const answers = await Promise.all(
        Array.from(
          { length: REQUESTS_MAX + 1 },
          async () => await person.call('GET', '/v2/endpoints'),
        ),
      );
      const refused = answers.find(({ status }) => status !== 200);
      if (refused !== undefined) {
        return refused;
      }
    }
    return assert.fail('nothing was refused');
  }

  it('limits the rate of an identity, says when to come back, and lets others go on', async () => {
    const person = await hub.person();
    const other = await hub.person();
    const refused = await exceed(person);
    assertRefused(
      refused,
      429,
      'TOO_MANY_REQUESTS',
      /12 requests of 1 s.*OUTPOST_HUB_RATE_LIMIT\b/,
    );
    const retryAfterS = Number(refused.headers.get('retry-after'));
    assert.ok(retryAfterS >= 1 && retryAfterS <= 2, `Retry-After: ${retryAfterS}`);
    assert.equal((await other.call('GET', '/v2/endpoints')).status, 200);
    await sleep(systemClock, retryAfterS * 1000);
    assert.equal((await person.call('GET', '/v2/endpoints')).status, 200);
  });

  it('counts device codes and tokens by address, and never the question for its health', async () => {
    const ask = async (): Promise<number> =>
      (await hub.form('/v2/oauth2/device_authorization', { client_id: 'nobody' })).status;
    // How many fall into one window is up to the machine.
    await eventually(async () => {
      const devices = await Promise.all(Array.from({ length: 60 }, ask));
      assert.ok(devices.includes(429), 'device codes are not limited');
    });
    const refused = await eventually(async () => {
      const tokens = await Promise.all(
        Array.from(
          { length: 3 * ADDRESS_REQUESTS_MAX },
          async () => await hub.form('/v2/oauth2/token', { grant_type: 'password' }),
        ),
      );
      const one = tokens.find(({ status }) => status === 429);
      assert.ok(one !== undefined, 'tokens are not limited');
      return one;
    });
    assertRefused(
      refused,
      429,
      'TOO_MANY_REQUESTS',
      /this address.*OUTPOST_HUB_RATE_LIMIT_ADDRESS/,
    );
    const health = await Promise.all(
      Array.from(
        { length: 3 * ADDRESS_REQUESTS_MAX },
        async () => await hub.call('GET', '/v1/health'),
      ),
    );
    assert.deepEqual(new Set(health.map(({ status }) => status)), new Set([200]));
    // The next test signs in.
    await sleep(systemClock, WINDOW_MS);
  });

  it('is waited for by our SDK', async () => {
    const { id, secret } = await hub.createClient();
    const client = new Client({
      hubUrl: hub.url,
      clientId: id,
      clientSecret: secret,
      throttlingEnabled: false,
    });
    const startedMs = Date.now();
    const lists = Array.from(
      { length: 2 * REQUESTS_MAX },
      async () => await client.hub.listEndpoints(),
    );
    assert.equal((await Promise.all(lists)).length, 2 * REQUESTS_MAX);
    assert.ok(Date.now() - startedMs >= WINDOW_MS / 2, 'nothing was limited');
  });

  it('refuses what is too large, naming the limit and its setting', async () => {
    const person = await hub.person();
    const functionId = await registerFunction(person);
    const { endpoint_id: endpointId } = await registerEndpoint(person);
    const submit = async (chars: number): ReturnType<Person['call']> =>
      await person.call('POST', `/v3/endpoints/${endpointId}/submit`, {
        tasks: { [functionId]: [packBuffers([`11\n["${'x'.repeat(chars)}"]`, '11\n{}'])] },
      });
    assert.equal((await submit(10_000)).status, 200);
    const tooLarge = 'TASK_PAYLOAD_TOO_LARGE';
    assertRefused(await submit(20_000), 413, tooLarge, /16384.*OUTPOST_HUB_TASK_BYTES_MAX/);
    assertRefused(await submit(80_000), 413, tooLarge, /65536.*OUTPOST_HUB_SUBMISSION_BYTES_MAX/);
    assertRefused(
      await person.call('POST', '/v3/functions', {
        function_name: 'large',
        function_code: packBuffers([`st\n${'#'.repeat(9_000)}`]),
      }),
      413,
      'FUNCTION_TOO_LARGE',
      /8192.*OUTPOST_HUB_FUNCTION_BYTES_MAX/,
    );
  });
});

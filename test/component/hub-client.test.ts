import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { systemClock } from '../../src/base/clock.ts';
import {
  AuthError,
  ConfigError,
  ConflictError,
  ProtocolError,
  UnavailableError,
} from '../../src/base/errors.ts';
import { HubClient } from '../../src/client/hub-client.ts';
import type { HubClientOptions } from '../../src/client/hub-client.ts';
import { clientCredentialsTokenSource } from '../../src/transport/oauth/client-credentials.ts';
import { FakeHub, errorBody } from '../support/fake-hub.ts';

const ENDPOINT = randomUUID();

describe('hub client', () => {
  let hub: FakeHub;

  const client = (options: Partial<HubClientOptions> = {}): HubClient =>
    new HubClient({
      hubUrl: hub.url,
      tokens: clientCredentialsTokenSource({
        tokenEndpoint: hub.tokenEndpoint,
        clientId: hub.clientId,
        clientSecret: () => hub.clientSecret,
        scope: 'all',
        clock: systemClock,
      }),
      ...options,
    });

  beforeEach(async () => {
    hub = await FakeHub.start();
  });
  afterEach(async () => {
    await hub.stop();
  });

  it('gets a new token once when the hub has forgotten the old one', async () => {
    const api = client();
    await api.version();
    hub.forgetTokens();
    await api.version();
    assert.equal(hub.seen('/v2/version').length, 3);
    assert.equal(hub.seen('/token').length, 2);
  });

  it('gives up after the second 401', async () => {
    const denied = { status: 401, body: errorBody(401, 'USER_UNAUTHENTICATED', 'who are you?') };
    hub.misbehave('/v2/version', denied, denied);
    await assert.rejects(client().version(), (error) => {
      assert.ok(error instanceof AuthError);
      assert.equal(error.code, 'TOKEN_REJECTED');
      assert.match(error.message, /who are you\?/);
      return true;
    });
    assert.equal(hub.seen('/v2/version').length, 2);
  });

  it('retries a read through resets and gateway errors', async () => {
    hub.misbehave('/v2/version', { drop: 'before' }, { status: 502 }, { status: 504, body: 'x' });
    assert.equal((await client().version()).api, '1.0');
    assert.equal(hub.seen('/v2/version').length, 4);
  });

  it('does not retry a 500', async () => {
    hub.misbehave('/v2/version', { status: 500, body: errorBody(500, 'INTERNAL_ERROR', 'oops') });
    await assert.rejects(client().version(), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.match(error.message, /oops \(500 INTERNAL_ERROR\)/);
      assert.deepEqual(error.details, { status: 500, hubCode: 'INTERNAL_ERROR' });
      return true;
    });
    assert.equal(hub.seen('/v2/version').length, 1);
  });

  it('waits as long as Retry-After asks', async () => {
    hub.misbehave('/v2/version', { status: 429, headers: { 'retry-after': '1' } });
    const startedMs = performance.now();
    await client().version();
    assert.ok(performance.now() - startedMs >= 990);
  });

  it('does not wait for a Retry-After that is too long, and says it', async () => {
    hub.misbehave('/v2/version', { status: 429, headers: { 'retry-after': '3600' } });
    await assert.rejects(client().version(), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.equal(error.code, 'RATE_LIMITED');
      assert.equal(error.details['retryAfterMs'], 3_600_000);
      return true;
    });
  });

  it('says after which time a silent hub was given up', async () => {
    hub.misbehave('/v2/version', { hang: true }, { hang: true });
    await assert.rejects(client({ timeoutMs: 100, retries: 1 }).version(), {
      code: 'TIMED_OUT',
      message: /within 0\.1 s \(attempt 2\)/,
    });
  });

  it('names the address when nothing listens there', async () => {
    const url = hub.url;
    const api = client({ retries: 0 });
    await api.version();
    await hub.stop();
    await assert.rejects(api.version(), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.equal(error.code, 'HUB_UNREACHABLE');
      assert.ok(error.message.includes(url));
      return true;
    });
  });

  it('ends at once when aborted, with the reason given', async () => {
    hub.misbehave('/submit', { hang: true });
    const abort = new AbortController();
    const submitted = client().submit(ENDPOINT, { tasks: {} }, { signal: abort.signal });
    setTimeout(() => {
      abort.abort(new Error('changed my mind'));
    }, 50);
    await assert.rejects(submitted, /changed my mind/);
  });

  it('refuses plain http to another machine', () => {
    assert.throws(() => client({ hubUrl: 'http://hub.example.org' }), ConfigError);
  });

  describe('submit', () => {
    const body = { tasks: { [randomUUID()]: ['a', 'b'] } };

    it('sends a lost submission again under its key, which makes the tasks once', async () => {
      hub.misbehave('/submit', { drop: 'after' });
      const key = randomUUID();
      const accepted = await client().submit(ENDPOINT, body, { idempotencyKey: key });
      assert.deepEqual(
        hub.seen('/submit').map((request) => request.headers['idempotency-key']),
        [key, key],
      );
      assert.deepEqual(Object.values(accepted.tasks).flat(), [...hub.tasks.keys()]);
    });

    it('does not send a lost submission again without a key', async () => {
      hub.misbehave('/submit', { drop: 'after' });
      await assert.rejects(client().submit(ENDPOINT, body), UnavailableError);
      hub.misbehave('/submit', { status: 503 });
      await assert.rejects(client().submit(ENDPOINT, body), UnavailableError);
      assert.equal(hub.seen('/submit').length, 2);
    });

    it('sends a submission again that was turned away by a rate limit', async () => {
      hub.misbehave('/submit', { status: 429, headers: { 'retry-after': '0' } });
      await client().submit(ENDPOINT, body);
      assert.equal(hub.seen('/submit').length, 2);
    });
  });

  describe('errors', () => {
    const cases = [
      [403, 'ENDPOINT_ACCESS_FORBIDDEN', AuthError, 'FORBIDDEN'],
      [404, 'ENDPOINT_NOT_FOUND', ConflictError, 'ENDPOINT_NOT_FOUND'],
      [404, 'FUNCTION_NOT_FOUND', ConflictError, 'PRECONDITION_FAILED'],
      [409, 'RESOURCE_CONFLICT', ConflictError, 'PRECONDITION_FAILED'],
      [423, 'RESOURCE_LOCKED', ConflictError, 'ENDPOINT_LOCKED'],
      [413, 'TASK_PAYLOAD_TOO_LARGE', ProtocolError, 'PAYLOAD_TOO_LARGE'],
      [422, 'SEMANTICALLY_INVALID', ProtocolError, 'REQUEST_REFUSED'],
    ] as const;
    for (const [status, hubCode, expected, code] of cases) {
      it(`makes ${expected.name} ${code} of ${status} ${hubCode}`, async () => {
        hub.misbehave('/submit', { status, body: errorBody(status, hubCode, 'the detail') });
        await assert.rejects(client().submit(ENDPOINT, { tasks: {} }), (error) => {
          assert.ok(error instanceof expected);
          assert.equal(error.code, code);
          assert.deepEqual(error.details, { status, hubCode });
          assert.ok(error.message.includes(`submitting to endpoint ${ENDPOINT}`));
          assert.match(error.message, /the detail/);
          return true;
        });
      });
    }

    it('keeps what a proxy said that is no hub', async () => {
      hub.misbehave('/v2/version', { status: 400, body: '<h1>Bad Gateway of ACME</h1>' });
      await assert.rejects(client().version(), /ACME/);
    });

    it('names an answer that is not the hub’s', async () => {
      hub.misbehave('/v2/version', { status: 200, body: '<html>welcome</html>' });
      await assert.rejects(client().version(), {
        code: 'RESPONSE_INVALID',
        message: /has no "api".*welcome/,
      });
      hub.misbehave('/v2/version', { status: 302, headers: { location: 'https://example.org' } });
      await assert.rejects(client().version(), { code: 'RESPONSE_INVALID', message: /redirects/ });
    });
  });

  it('asks for many tasks in portions', async () => {
    const ids = Array.from({ length: 300 }, () => randomUUID());
    for (const id of ids) {
      hub.documents.set(id, { task_id: id, status: 'running' });
    }
    const documents = await client().tasks(ids);
    assert.equal(Object.keys(documents).length, 300);
    assert.equal(hub.seen('/v2/batch_status').length, 3);
  });
});

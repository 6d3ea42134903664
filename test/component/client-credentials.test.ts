import assert from 'node:assert/strict';

import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { AuthError, ConfigError, ProtocolError, UnavailableError } from '../../src/base/errors.ts';
import { clientCredentialsTokenSource } from '../../src/transport/oauth/client-credentials.ts';
import type {
  ClientCredentialsOptions,
  TokenSource,
} from '../../src/transport/oauth/client-credentials.ts';
import { FakeHub } from '../support/fake-hub.ts';

describe('client credentials', () => {
  let hub: FakeHub;
  let nowMs: number;
  const clock: Clock = { ...systemClock, monotonicMs: () => nowMs };

  const source = (options: Partial<ClientCredentialsOptions> = {}): TokenSource =>
    clientCredentialsTokenSource({
      tokenEndpoint: hub.tokenEndpoint,
      clientId: hub.clientId,
      clientSecret: () => hub.clientSecret,
      scope: 'all',
      clock,
      ...options,
    });
  const grants = (): number => hub.seen('/v2/oauth2/token').length;

  beforeEach(async () => {
    nowMs = 1_000_000;
    hub = await FakeHub.start();
  });
  afterEach(async () => {
    await hub.stop();
  });

  it('sends the credentials as HTTP Basic, without escaping the hyphens of the id', async () => {
    await source().accessToken();
    const [request] = hub.seen('/v2/oauth2/token');
    const basic = (request?.headers.authorization ?? '').slice('Basic '.length);
    assert.ok(Buffer.from(basic, 'base64').toString().startsWith(`${hub.clientId}:`));
    const form = new URLSearchParams(request?.text);
    assert.equal(form.get('grant_type'), 'client_credentials');
    assert.equal(form.get('scope'), 'all');
  });

  it('keeps the token until half of its life is over', async () => {
    const tokens = source();
    const first = await tokens.accessToken();
    nowMs += 1799_000;
    assert.equal(await tokens.accessToken(), first);
    nowMs += 2_000;
    assert.notEqual(await tokens.accessToken(), first);
    assert.equal(grants(), 2);
  });

  it('makes one grant for callers that ask at the same time', async () => {
    const tokens = source();
    const got = await Promise.all([
      tokens.accessToken(),
      tokens.accessToken({ refresh: true }),
      tokens.accessToken(),
    ]);
    assert.equal(new Set(got).size, 1);
    assert.equal(grants(), 1);
  });

  it('ends the waiting of an aborted caller and not the grant of the others', async () => {
    const tokens = source();
    const abort = new AbortController();
    const aborted = tokens.accessToken({ signal: abort.signal });
    const other = tokens.accessToken();
    abort.abort(new Error('enough'));
    await assert.rejects(aborted, /enough/);
    assert.equal(typeof (await other), 'string');
  });

  it('goes on with the old token while the server is away, until it expires', async () => {
    const tokens = source({ retries: 0 });
    const first = await tokens.accessToken();
    nowMs += 2_000_000;
    hub.misbehave('/token', { status: 503 }, { status: 503 });
    assert.equal(await tokens.accessToken(), first);
    nowMs += 1_600_000;
    await assert.rejects(tokens.accessToken(), UnavailableError);
  });

  it('retries while the server is in trouble', async () => {
    hub.misbehave('/token', { status: 503 }, { drop: 'before' });
    assert.equal(typeof (await source().accessToken()), 'string');
    assert.equal(grants(), 3);
  });

  it('asks for the secret at every grant', async () => {
    const secrets = ['outdated', hub.clientSecret];
    const tokens = source({ clientSecret: () => secrets.shift() ?? '' });
    await assert.rejects(tokens.accessToken());
    assert.equal(typeof (await tokens.accessToken()), 'string');
  });

  it('says whose credentials were refused, where, and never the secret', async () => {
    await assert.rejects(source({ clientSecret: () => 'wrong-secret' }).accessToken(), (error) => {
      assert.ok(error instanceof AuthError);
      assert.equal(error.code, 'INVALID_CLIENT');
      assert.ok(error.message.includes(hub.clientId) && error.message.includes(hub.tokenEndpoint));
      assert.ok(!error.message.includes('wrong-secret'));
      return true;
    });
    hub.misbehave('/token', {
      status: 401,
      headers: { 'www-authenticate': 'Basic realm="hub"' },
      body: { error: 'invalid_client' },
    });
    await assert.rejects(source().accessToken(), { code: 'INVALID_CLIENT' });
  });

  it('tells a refused scope from refused credentials', async () => {
    hub.misbehave('/token', { status: 400, body: { error: 'invalid_scope' } });
    await assert.rejects(source().accessToken(), { code: 'SCOPE_MISSING' });
  });

  it('names a server that is no token endpoint', async () => {
    hub.misbehave('/token', { status: 200, body: 'hello' });
    await assert.rejects(source().accessToken(), ProtocolError);
    hub.misbehave('/token', { status: 404, body: 'no such page' });
    await assert.rejects(source().accessToken(), ProtocolError);
  });

  it('takes what servers write for a life, and refuses what is no bearer token', async () => {
    const answer = (body: Record<string, unknown>): void => {
      hub.misbehave('/token', { status: 200, body: { access_token: 't', ...body } });
    };
    for (const [expiresIn, lifeS] of [
      ['60', 60],
      [null, 300],
      [undefined, 300],
    ] as const) {
      answer({ token_type: 'Bearer', ...(expiresIn !== undefined && { expires_in: expiresIn }) });
      const tokens = source();
      assert.equal(await tokens.accessToken(), 't');
      nowMs += (lifeS * 1000) / 2 - 1_000;
      assert.equal(await tokens.accessToken(), 't');
      nowMs += 2_000;
      assert.notEqual(await tokens.accessToken(), 't');
    }
    for (const [body, what] of [
      [{ token_type: 'mac' }, /token_type is "mac"/],
      [{}, /token_type/],
      [{ token_type: 'bearer', access_token: '' }, /no access_token/],
      [{ token_type: 'bearer', expires_in: 'soon' }, /expires_in is "soon"/],
      [{ token_type: 'bearer', expires_in: -1 }, /expires_in is -1/],
    ] as const) {
      answer(body);
      await assert.rejects(source().accessToken(), { code: 'RESPONSE_INVALID', message: what });
    }
  });

  it('refuses plain http to another machine before anything is sent', () => {
    assert.throws(() => source({ tokenEndpoint: 'http://hub.example.org/token' }), ConfigError);
    assert.throws(() => source({ tokenEndpoint: 'http://127.0.0.1.example.org/' }), /plain http/);
    assert.throws(() => source({ tokenEndpoint: 'ftp://localhost/' }), /https/);
    source({ tokenEndpoint: 'http://[::1]:5000/token' });
    source({ tokenEndpoint: 'https://hub.example.org/token' });
  });
});

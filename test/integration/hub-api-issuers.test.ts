/** People whom another issuer signs in: its tokens at the hub, with rotating keys and while it is away. */
import assert from 'node:assert/strict';

import { PeopleRegistry } from '../../src/hub/auth/people.ts';
import { OidcIssuer } from '../support/oidc-issuer.ts';
import type { TokenClaims } from '../support/oidc-issuer.ts';
import { TestHub, assertRefused } from './hub-api-support.ts';
import type { Answer } from './hub-api-support.ts';

describe('tokens of another issuer', () => {
  let issuer: OidcIssuer;
  let other: OidcIssuer;
  let hub: TestHub;
  let people: PeopleRegistry;
  before(async () => {
    issuer = await OidcIssuer.start();
    other = await OidcIssuer.start();
    const settings = { audience: 'outpost', usernameClaim: 'preferred_username' };
    hub = await TestHub.start({
      issuers: [
        { ...settings, issuer: issuer.url, groupsClaim: 'groups', domain: 'uni.example' },
        { ...settings, issuer: other.url, groupsClaim: undefined, domain: 'other.example' },
      ],
      keysCooldownMs: 0,
    });
    people = new PeopleRegistry(hub.db);
  });
  after(async () => {
    await hub.stop();
    await issuer.stop();
    await other.stop();
  });

  async function call(token: string, path = '/v2/oauth2/userinfo'): Promise<Answer> {
    return await hub.call('GET', path, undefined, { authorization: `Bearer ${token}` });
  }

  async function ada(more: Partial<TokenClaims> = {}): Promise<string> {
    return await issuer.token({
      subject: 'subject-of-ada',
      claims: { preferred_username: 'ada', name: 'Ada', email: 'ada@uni.example' },
      ...more,
    });
  }

  it('make their people known at first sight, under the domain of the issuer', async () => {
    const first = await call(await ada());
    assert.equal(first.status, 200, JSON.stringify(first.body));
    assert.equal(first.body['preferred_username'], 'ada@uni.example');
    assert.equal(first.body['email'], 'ada@uni.example');
    const again = await call(await ada({ expiresInS: 200 }));
    assert.equal(again.body['sub'], first.body['sub']);
    assert.equal((await call(await ada(), '/v2/authenticate')).status, 200);
  });

  it('never name somebody of another issuer', async () => {
    const claims = { preferred_username: 'ada@uni.example' };
    const { body } = await call(await other.token({ subject: 'mallory', claims }));
    assert.equal(body['preferred_username'], 'ada@uni.example@other.example');
    const own = await call(
      await issuer.token({ subject: 'grace', claims: { preferred_username: 'grace@uni.example' } }),
    );
    assert.equal(own.body['preferred_username'], 'grace@uni.example');
  });

  it('follow a change of the name', async () => {
    const { body: before } = await call(await ada());
    const claims = { preferred_username: 'ada', name: 'Ada King', email: 'ada@uni.example' };
    const { body } = await call(await ada({ claims }));
    assert.equal(body['name'], 'Ada King');
    assert.equal(body['sub'], before['sub']);
  });

  it('are refused when expired, meant for another service, or not of the key', async () => {
    const [head = '', payload = ''] = (await ada()).split('.');
    const forged = `${head}.${payload}.${Buffer.alloc(64).toString('base64url')}`;
    const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`;
    for (const token of [
      await ada({ expiresInS: -120 }),
      await ada({ audience: 'somebody-else' }),
      await ada({ issuer: other.url }),
      await ada({ issuer: 'https://unknown.example' }),
      forged,
      unsigned,
      'a.b.c',
    ]) {
      assertRefused(await call(token), 401, 'USER_UNAUTHENTICATED');
    }
  });

  it('are taken a minute after their end, for clocks that differ', async () => {
    assert.equal((await call(await ada({ expiresInS: -20 }))).status, 200);
  });

  it('are taken under a new key, and no longer under the old one', async () => {
    const old = await ada({ expiresInS: 250 });
    await issuer.rotateKeys();
    assert.equal((await call(await ada())).status, 200);
    assertRefused(await call(old), 401, 'USER_UNAUTHENTICATED');
  });

  // A 401 would make a client throw a good token away.
  it('are answered 503 while the issuer cannot be asked', async () => {
    await issuer.rotateKeys();
    issuer.breakDown(500);
    const token = await ada();
    const answer = await call(token);
    assertRefused(answer, 503, 'ISSUER_UNREACHABLE', /may be good: try again later/);
    assert.equal(answer.headers.get('retry-after'), '5');
    issuer.breakDown(undefined);
    assert.equal((await call(token)).status, 200);
  });

  it('shut out whom the hub disabled', async () => {
    const { body } = await call(await ada());
    await people.setDisabled(String(body['sub']), true);
    assertRefused(await call(await ada({ expiresInS: 299 })), 401, 'USER_UNAUTHENTICATED');
    await people.setDisabled(String(body['sub']), false);
  });

  it('are refused for a second person of the same name, and say who can change that', async () => {
    const claims = { preferred_username: 'twin' };
    assert.equal((await call(await issuer.token({ subject: 'twin-1', claims }))).status, 200);
    assertRefused(
      await call(await issuer.token({ subject: 'twin-2', claims })),
      409,
      'RESOURCE_CONFLICT',
      /calls two people twin@uni\.example.*administrator of the issuer/,
    );
  });

  it('make one person known who comes with many requests at once', async () => {
    for (let round = 0; round < 10; round += 1) {
      const subject = `crowd-${round}`;
      const identity = {
        issuer: issuer.url,
        subject,
        username: `${subject}@uni.example`,
        name: subject,
        email: null,
      };
      const seen = await Promise.all(
        Array.from({ length: 8 }, async () => await people.recognise(identity)),
      );
      assert.equal(new Set(seen.map(({ id }) => id)).size, 1);
    }
  });

  it('need the claim that names their person', async () => {
    const answer = await call(await issuer.token({ subject: 'nameless' }));
    assertRefused(answer, 403, 'USERNAME_CLAIM_MISSING', /preferred_username/);
  });
});

import assert from 'node:assert/strict';

import { presentedCredentials } from '../../../src/hub/auth/client-authentication.ts';
import { OAuthError } from '../../../src/hub/auth/oauth-error.ts';
import { groupScopes } from '../../../src/hub/auth/scopes.ts';
import { hashSecret, verifySecret } from '../../../src/hub/auth/secret-hash.ts';
import { COMPUTE_SCOPE } from '../../../src/protocol/rest.ts';

function basic(text: string): string {
  return `Basic ${Buffer.from(text).toString('base64')}`;
}

function refusedWith(error: string): (thrown: unknown) => boolean {
  return (thrown) => thrown instanceof OAuthError && thrown.error === error;
}

describe('groupScopes', () => {
  it('takes a repeated scope once', () => {
    assert.deepEqual(groupScopes(`${COMPUTE_SCOPE} ${COMPUTE_SCOPE}`), {
      groups: [{ resourceServer: 'funcx_service', scopes: [COMPUTE_SCOPE] }],
    });
  });

  it('makes one group for each resource server, in the order of asking', () => {
    const manage = 'urn:globus:auth:scope:auth.globus.org:manage_projects';
    assert.deepEqual(groupScopes(`${COMPUTE_SCOPE} openid ${manage} openid`), {
      groups: [
        { resourceServer: 'funcx_service', scopes: [COMPUTE_SCOPE] },
        { resourceServer: 'auth.globus.org', scopes: ['openid', manage] },
      ],
    });
  });

  it('names the first scope that it does not know', () => {
    assert.deepEqual(groupScopes('openid nonsense'), { unknown: 'nonsense' });
  });
});

describe('presentedCredentials', () => {
  it('reads HTTP Basic', () => {
    assert.deepEqual(presentedCredentials(basic('id:secret:with:colons'), {}), {
      id: 'id',
      secret: 'secret:with:colons',
    });
  });

  // RFC 6749, 2.3.1: both halves are form-encoded, and some libraries encode more than they must.
  it('decodes both halves of HTTP Basic', () => {
    assert.deepEqual(presentedCredentials(basic('a%2Db:s%5Ft+u'), {}), {
      id: 'a-b',
      secret: 's_t u',
    });
  });

  it('reads the form', () => {
    const form = { client_id: 'id', client_secret: 'secret' };
    assert.deepEqual(presentedCredentials(undefined, form), { id: 'id', secret: 'secret' });
  });

  it('refuses a client that authenticates twice', () => {
    assert.throws(
      () => presentedCredentials(basic('id:secret'), { client_secret: 'secret' }),
      refusedWith('invalid_request'),
    );
  });

  it('refuses what is not there or cannot be read', () => {
    for (const header of [undefined, 'Bearer x', basic('no colon'), basic('id:%ZZ')]) {
      assert.throws(() => presentedCredentials(header, {}), refusedWith('invalid_client'));
    }
  });
});

describe('secret hash', () => {
  it('verifies the secret behind it and no other', async () => {
    const stored = await hashSecret('right');
    assert.ok(!stored.includes('right'));
    assert.equal(await verifySecret('right', stored), true);
    assert.equal(await verifySecret('wrong', stored), false);
  });

  it('differs each time', async () => {
    assert.notEqual(await hashSecret('same'), await hashSecret('same'));
  });
});

import assert from 'node:assert/strict';

import { AuthError, ConfigError } from '../../../src/base/errors.ts';
import { Client } from '../../../src/sdk/client.ts';
import { authoritiesFrom, credentialsFrom, hubUrlFrom } from '../../../src/sdk/environment.ts';

describe('SDK environment', () => {
  it('names the file of authorities that cannot be used', () => {
    assert.equal(authoritiesFrom({}), undefined);
    const environment = { OUTPOST_CA_FILE: '/does/not/exist.pem' };
    assert.throws(
      () => new Client({ environment, clientId: 'a', clientSecret: 'b' }),
      (error) => {
        assert.ok(error instanceof ConfigError);
        assert.match(error.message, /OUTPOST_CA_FILE .*exist\.pem: expected there is no such file/);
        return true;
      },
    );
  });

  it('takes the first complete pair, both halves from one source', () => {
    const environment = {
      OUTPOST_CLIENT_ID: 'ours',
      OUTPOST_CLIENT_SECRET: '',
      GLOBUS_COMPUTE_CLIENT_ID: 'theirs',
      GLOBUS_COMPUTE_CLIENT_SECRET: 'secret',
    };
    assert.deepEqual(credentialsFrom(environment), { clientId: 'theirs', clientSecret: 'secret' });
    assert.deepEqual(credentialsFrom({ ...environment, OUTPOST_CLIENT_SECRET: 's' }), {
      clientId: 'ours',
      clientSecret: 's',
    });
  });

  it('names the missing half of a pair, and what to set when there is none', () => {
    assert.throws(
      () => credentialsFrom({ OUTPOST_CLIENT_SECRET: 'hidden' }),
      (error) =>
        error instanceof ConfigError &&
        error.message.includes('OUTPOST_CLIENT_ID') &&
        !error.message.includes('hidden'),
    );
    assert.throws(() => credentialsFrom({}), AuthError);
  });

  it('names the option that the program left out, and the variables', () => {
    const environment = { OUTPOST_CLIENT_ID: 'theirs', OUTPOST_CLIENT_SECRET: 'hidden' };
    assert.throws(
      () => new Client({ clientId: 'mine', environment }),
      (error) =>
        error instanceof ConfigError &&
        /clientSecret .*must be given, because clientId is.* OUTPOST_CLIENT_SECRET/.test(
          error.message,
        ),
    );
    assert.throws(() => new Client({ clientSecret: 'mine', environment }), /clientId .*must be/);
  });

  it('talks to a hub on this machine unless told otherwise', () => {
    assert.equal(hubUrlFrom({ OUTPOST_HUB_URL: '' }), 'http://localhost:5000');
    assert.equal(hubUrlFrom({ OUTPOST_HUB_URL: 'https://hub' }), 'https://hub');
  });
});

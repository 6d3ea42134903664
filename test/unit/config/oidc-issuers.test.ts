import assert from 'node:assert/strict';

import { parseOidcIssuers } from '../../../src/config/oidc-issuers.ts';

const ISSUER = { issuer: 'https://login.uni.example/realms/main', audience: 'outpost' };

function expected(value: unknown): string {
  const reading = parseOidcIssuers(typeof value === 'string' ? value : JSON.stringify(value));
  return 'expected' in reading ? reading.expected : '';
}

describe('OUTPOST_OIDC_ISSUERS', () => {
  it('fills in what is left out', () => {
    assert.deepEqual(parseOidcIssuers(JSON.stringify([ISSUER])), {
      issuers: [
        {
          ...ISSUER,
          usernameClaim: 'preferred_username',
          groupsClaim: undefined,
          domain: 'login.uni.example',
        },
      ],
    });
  });

  it('says what is wrong, and with which issuer', () => {
    assert.match(expected('{'), /as JSON/);
    assert.match(expected(ISSUER), /a list/);
    assert.match(expected([ISSUER, 'https://x']), /object \(issuer number 2\)/);
    assert.match(expected([{ ...ISSUER, audiance: 'x' }]), /no key "audiance"/);
    assert.match(expected([{ issuer: ISSUER.issuer }]), /audience to be set/);
    assert.match(expected([{ ...ISSUER, issuer: 'http://login.uni.example' }]), /https:/);
    assert.match(expected([{ ...ISSUER, domain: 'clients.outpost' }]), /other than/);
    assert.match(expected([{ ...ISSUER, domain: '' }]), /domain to be a text/);
  });

  // Two issuers with one domain could name each other's people.
  it('wants a domain for each issuer alone', () => {
    const other = { ...ISSUER, issuer: 'https://login.uni.example/realms/guests' };
    assert.match(expected([ISSUER, other]), /domain of its own/);
    assert.equal(expected([ISSUER, { ...other, domain: 'guests.uni.example' }]), '');
  });

  it('takes plain http on this machine only', () => {
    assert.equal(expected([{ ...ISSUER, issuer: 'http://127.0.0.1:8080' }]), '');
    assert.notEqual(expected([{ ...ISSUER, issuer: 'http://127.evil.example' }]), '');
  });
});

/** Secrets are taken out of text by their form, in time that does not depend on what the text looks like. */
import assert from 'node:assert/strict';

import { blankSecrets } from '../../../src/base/blank-secrets.ts';

describe('secrets in text of others', () => {
  it('are blanked, and what stands around them is kept', () => {
    assert.equal(
      blankSecrets('to amqp://me:hunter2@host:5672/v and Authorization: Bearer abcdef123456 ok'),
      'to amqp://me:[secret]@host:5672/v and Authorization: Bearer [secret] ok',
    );
    assert.equal(blankSecrets('http://host:80/a@b, mail a:b@c'), 'http://host:80/a@b, mail a:b@c');
  });

  it('are looked for in time in proportion to the text', () => {
    const texts = ['a.'.repeat(256_000), 'a://b:'.repeat(80_000), 'Bearer '.repeat(80_000)];
    // With a pattern that looks again from every dot, the first alone takes minutes.
    for (const text of texts) {
      assert.equal(blankSecrets(text), text);
    }
  });
});

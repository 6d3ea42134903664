import assert from 'node:assert/strict';

import { UnavailableError } from '../../../src/base/errors.ts';
import { errorAnswer } from '../../../src/hub/http/error-documents.ts';
import { HubError } from '../../../src/hub/hub-error.ts';

describe('errorAnswer', () => {
  it('answers a refusal with the shape that the Globus SDK shows', () => {
    const { document, isOurs } = errorAnswer(new HubError(404, 'X_NOT_FOUND', 'no x'), 'r1', 1);
    assert.deepEqual(document, {
      status: 'Failed',
      code: 'X_NOT_FOUND',
      error_args: [],
      http_status_code: 404,
      detail: 'no x',
      reason: 'no x',
    });
    assert.equal(isOurs, false);
  });

  it('tells nothing of an unexpected error but the request id', () => {
    const { document, isOurs } = errorAnswer(new TypeError('secret insides'), 'r-77', 1);
    assert.equal(document.http_status_code, 500);
    assert.equal(document.code, 'UNKNOWN_ERROR');
    assert.ok(document.detail.includes('r-77'));
    assert.ok(!JSON.stringify(document).includes('insides'));
    assert.equal(isOurs, true);
  });

  it('answers 503 with a time to wait when broker or database are away', () => {
    const lost = Object.assign(new Error('connect ECONNREFUSED 10.0.0.1:5432'), {
      code: 'ECONNREFUSED',
    });
    const away = new UnavailableError('BROKER_UNREACHABLE', 'amqp://internal:5672 refused');
    for (const error of [away, lost]) {
      const answer = errorAnswer(error, 'r1', 1);
      assert.equal(answer.document.http_status_code, 503);
      assert.equal(answer.retryAfterS, 1);
      assert.ok(!answer.document.detail.includes('5432'));
      assert.ok(!answer.document.detail.includes('5672'));
    }
  });

  it('answers 422 to a text that the database cannot hold', () => {
    const error = Object.assign(new Error('invalid byte sequence'), { code: '22021' });
    assert.equal(errorAnswer(error, 'r1', 1).document.code, 'SEMANTICALLY_INVALID');
  });
});

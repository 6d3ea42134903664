/** The outcome table: every way to be cut off is named, and what is done about it follows from the name. */
import assert from 'node:assert/strict';

import {
  REGISTRATION_OUTCOMES,
  SESSION_OUTCOMES,
  registrationCause,
  registrationOutcome,
} from '../../../src/agent/session-outcomes.ts';
import {
  AuthError,
  ConflictError,
  ProtocolError,
  UnavailableError,
} from '../../../src/base/errors.ts';
import { hubError } from '../../../src/client/hub-errors.ts';
import {
  END_CAUSES,
  causeOfClosed,
  causeOfFailure,
  causeOfSetUpEnded,
} from '../../../src/transport/amqp/end-cause.ts';

function fromHub(status: number, code?: string): unknown {
  const body = code === undefined ? '<html>' : { code, detail: 'held by login02' };
  return hubError('registering', 'http://hub', {
    status,
    headers: new Headers(),
    text: JSON.stringify(body),
    body,
  });
}

describe('outcome table of the sessions', () => {
  it('has a row with words for every cause', () => {
    for (const cause of END_CAUSES) {
      assert.ok(SESSION_OUTCOMES[cause].status.length > 0, cause);
    }
  });

  it('names failed attempts', () => {
    const broker = { broker: 'b', user: 'u' };
    const cases = [
      [new AuthError('TOKEN_REJECTED', '', { details: { ...broker, replyCode: 403 } }), 'credentials-refused'], // prettier-ignore
      [new AuthError('TOKEN_REJECTED', '', { details: broker }), 'vhost-refused'],
      [new AuthError('TOKEN_REJECTED', 'of the hub'), 'not-dialled'],
      [new UnavailableError('BROKER_UNREACHABLE', '', { details: { broker: 'b' } }), 'unreachable'],
      [new UnavailableError('HUB_UNREACHABLE', ''), 'not-dialled'],
      [new UnavailableError('CHANNEL_CLOSED', '', { details: { replyCode: 404 } }), 'queue-missing'], // prettier-ignore
      [new UnavailableError('CHANNEL_CLOSED', '', { details: { replyCode: 403 } }), 'permission-refused'], // prettier-ignore
      [new UnavailableError('CHANNEL_CLOSED', '', { details: { replyCode: 405 } }), 'queue-locked'],
      [new UnavailableError('CHANNEL_CLOSED', ''), 'channel-closed'],
      [new UnavailableError('PUBLISH_UNCONFIRMED', '', { details: { returned: true } }), 'unroutable'], // prettier-ignore
      [new UnavailableError('TIMED_OUT', ''), 'no-answer'],
      [new Error('a bug'), 'not-dialled'],
    ] as const;
    for (const [error, cause] of cases) {
      assert.equal(causeOfFailure(error), cause);
    }
  });

  it('names ends of connections and of what was set up on them', () => {
    const reason = '';
    assert.equal(causeOfClosed({ reason, kind: 'lost' }), 'connection-lost');
    assert.equal(causeOfClosed({ reason, kind: 'lost', code: 320 }), 'connection-forced');
    const error = new Error('Heartbeat timeout');
    assert.equal(causeOfClosed({ reason, kind: 'lost', error }), 'connection-silent');
    assert.equal(causeOfClosed({ reason, kind: 'error', code: 501 }), 'connection-error');
    assert.equal(causeOfClosed({ reason, kind: 'refused', code: 403 }), 'credentials-refused');
    assert.equal(causeOfSetUpEnded({ reason, kind: 'cancelled' }), 'consumer-cancelled');
    assert.equal(causeOfSetUpEnded({ reason, kind: 'not-consuming' }), 'not-consuming');
    assert.equal(causeOfSetUpEnded({ reason, code: 404 }), 'queue-missing');
    assert.equal(causeOfSetUpEnded({ reason, code: 406 }), 'channel-closed');
  });

  it('names refused registrations by the code of the hub, never without one', () => {
    assert.equal(registrationCause(fromHub(409, 'RESOURCE_CONFLICT')), 'lease-held');
    assert.equal(registrationCause(fromHub(423, 'RESOURCE_LOCKED')), 'endpoint-locked');
    assert.equal(registrationCause(fromHub(404, 'ENDPOINT_NOT_FOUND')), 'endpoint-gone');
    assert.equal(registrationCause(fromHub(404)), 'hub-misbehaves');
    assert.equal(registrationCause(fromHub(401, 'USER_UNAUTHENTICATED')), 'client-refused');
    assert.equal(registrationCause(fromHub(502)), 'hub-unreachable');
    assert.equal(registrationCause(new ProtocolError('RESPONSE_INVALID', '')), 'hub-misbehaves');
    assert.equal(registrationCause(new ConflictError('NOT_RUNNING', '')), 'not-granted');
  });

  it('keeps an agent with tasks in hand alive through everything but the word of the hub', () => {
    const kept = Object.entries(REGISTRATION_OUTCOMES)
      .filter(([, { action }]) => action === 'wait')
      .map(([cause]) => cause);
    assert.deepEqual(kept.sort(), ['client-refused', 'hub-misbehaves', 'hub-unreachable']);
    const refused = fromHub(401, 'USER_UNAUTHENTICATED');
    assert.equal(registrationOutcome(refused, true).action, 'wait');
    assert.equal(registrationOutcome(refused, false).action, 'stop');
    assert.equal(registrationOutcome(fromHub(409, 'RESOURCE_CONFLICT'), true).action, 'fence');
    assert.equal(registrationOutcome(fromHub(409, 'RESOURCE_CONFLICT'), false).action, 'stop');
    assert.equal(registrationOutcome(fromHub(503), false).action, 'wait');
  });
});

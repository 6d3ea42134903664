/**
 * What the agent does about every way in which it can be cut off, as one table: cause, action, and the words that `agent status` shows.
 *
 * Nothing here ends a running task. Every action but `stop` is repeated for ever, with the delays of session.ts and registration.ts;
 * each row has a test.
 *
 *   redial    dial again with the credentials that are held
 *   register  register again first: the hub declares the queue anew and hands out new credentials
 *   wait      nothing to do but to try again later
 *   fence     somebody else holds the endpoint: take and start nothing more, finish what runs, publish, end
 *   stop      the hub has said that this endpoint must not run
 */
import { AuthError, ComputeError, ConflictError, ProtocolError } from '../base/errors.ts';
import type { EndCause } from '../transport/amqp/end-cause.ts';

/** What the agent does. */
export type SessionAction = 'redial' | 'register' | 'wait' | 'fence' | 'stop';

/** One row. */
export interface SessionOutcome {
  readonly action: SessionAction;
  /** What the agent is doing about it, for people. */
  readonly status: string;
}

const REDIAL = 'dialling again';
const REGISTER = 'registering again';

/** Ends of a connection to the broker, and of what was set up on it. */
export const SESSION_OUTCOMES: Readonly<Record<EndCause, SessionOutcome>> = {
  unreachable: { action: 'redial', status: REDIAL },
  'connection-lost': { action: 'redial', status: REDIAL },
  'connection-silent': { action: 'redial', status: REDIAL },
  'connection-forced': { action: 'redial', status: REDIAL },
  'connection-error': { action: 'redial', status: REDIAL },
  'channel-closed': { action: 'redial', status: REDIAL },
  // A queue that was moved is there again; one that was deleted is told by the next row.
  'consumer-cancelled': { action: 'redial', status: REDIAL },
  'queue-missing': { action: 'register', status: `${REGISTER}, so that the hub makes the queue` },
  'queue-locked': { action: 'register', status: `${REGISTER}, which ends other connections` },
  'permission-refused': { action: 'register', status: `${REGISTER} for new credentials` },
  'credentials-refused': { action: 'register', status: `${REGISTER} for new credentials` },
  // The broker does not say whether the virtual host is down or we may not use it; registering waits for the one, and cures the other.
  'vhost-refused': { action: 'register', status: `${REGISTER}, once the hub can reach the broker` },
  'not-consuming': { action: 'redial', status: REDIAL },
  'no-answer': { action: 'redial', status: REDIAL },
  unroutable: { action: 'redial', status: `${REDIAL}; the hub declares its queues when it starts` },
  'not-dialled': { action: 'wait', status: 'trying again' },
  local: { action: 'redial', status: REDIAL },
};

/** Why a registration was not granted. */
export type RegistrationCause =
  | 'hub-unreachable'
  | 'hub-misbehaves'
  | 'client-refused'
  | 'lease-held'
  | 'endpoint-locked'
  | 'endpoint-gone'
  | 'not-granted';

/** Refused registrations, of an agent that was registered before. */
export const REGISTRATION_OUTCOMES: Readonly<Record<RegistrationCause, SessionOutcome>> = {
  'hub-unreachable': { action: 'wait', status: 'asking the hub again' },
  // A proxy between us and the hub, a hub that is being replaced: what an endpoint with tasks in hand must sit out.
  'hub-misbehaves': { action: 'wait', status: 'asking the hub again; check its address' },
  // A secret may be rotated back in, and somebody may sign in again: both are read anew for every attempt.
  'client-refused': {
    action: 'wait',
    status: 'asking the hub again; new credentials or a new login count without a restart',
  },
  'lease-held': { action: 'fence', status: 'finishing what runs, then ending' },
  'endpoint-locked': { action: 'stop', status: 'stopping' },
  'endpoint-gone': { action: 'stop', status: 'stopping' },
  'not-granted': { action: 'stop', status: 'stopping' },
};

/** Names why a registration failed; decided by the hub's own code, never by its text. */
export function registrationCause(error: unknown): RegistrationCause {
  const hubCode = error instanceof ComputeError ? error.details['hubCode'] : undefined;
  if (error instanceof ConflictError) {
    switch (hubCode) {
      case 'RESOURCE_CONFLICT':
        return 'lease-held';
      case 'RESOURCE_LOCKED':
        return 'endpoint-locked';
      case 'ENDPOINT_NOT_FOUND':
        return 'endpoint-gone';
      default:
        // Without a code of the hub's it is not the hub that answers.
        return error.code === 'NOT_RUNNING' ? 'not-granted' : 'hub-misbehaves';
    }
  }
  if (error instanceof AuthError) {
    return 'client-refused';
  }
  return error instanceof ProtocolError ? 'hub-misbehaves' : 'hub-unreachable';
}

/** What to do about a failed registration; one that never succeeded has nothing to protect and fails at once, with what helps. */
export function registrationOutcome(error: unknown, wasRegistered: boolean): SessionOutcome {
  const cause = registrationCause(error);
  const outcome = REGISTRATION_OUTCOMES[cause];
  if (wasRegistered || cause === 'hub-unreachable') {
    return outcome;
  }
  return { action: 'stop', status: 'ending' };
}

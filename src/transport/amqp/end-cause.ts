/**
 * Why an attempt failed or a session ended, as one word to decide by.
 *
 * Connections, channels and consumers end in many ways, each with a reply code and a text of its own. What somebody does about it
 * depends on a few causes only, and these are all of them. The texts stay for people.
 */
import { AuthError, ComputeError } from '../../base/errors.ts';
import type { ConnectionClosed } from './channel-life.ts';

/** Every cause. */
export const END_CAUSES = [
  /** No broker answered the dial: name, TCP, TLS, a time limit. */
  'unreachable',
  /** The broker refused name and password, or closed a connection over them. */
  'credentials-refused',
  /** The broker refused the virtual host: missing, down, or no permission. */
  'vhost-refused',
  /** The socket ended without a word. */
  'connection-lost',
  /** The peer went silent: its heartbeats stopped, as behind a half-open socket. */
  'connection-silent',
  /** The broker or its operator closed the connection (320), also because its user was deleted. */
  'connection-forced',
  /** The broker closed the connection over a fault of the protocol, such as a frame error. */
  'connection-error',
  /** The broker closed a channel. */
  'channel-closed',
  /** A permission is missing (403), or another consumer holds the queue exclusively, which has the same code. */
  'permission-refused',
  /** There is no such queue or exchange (404). */
  'queue-missing',
  /** The queue belongs to another connection (405). */
  'queue-locked',
  /** The broker cancelled the consumer: its queue was deleted or moved. */
  'consumer-cancelled',
  /** The connection lives, but nothing is being consumed: found by asking. */
  'not-consuming',
  /** The broker did not answer a request within its limit. */
  'no-answer',
  /** A message was returned: no queue is bound where it went. */
  'unroutable',
  /** The attempt ended before the broker was asked. */
  'not-dialled',
  /** This side ended it. */
  'local',
] as const;

/** One of {@link END_CAUSES}. */
export type EndCause = (typeof END_CAUSES)[number];

/** The end of what was set up on a connection. */
export interface SetUpEnded {
  readonly reason: string;
  /** `cancelled` for a consumer, `not-consuming` for one that was found dead; anything else is told by the code. */
  readonly kind?: string;
  /** AMQP reply code, when the broker gave one. */
  readonly code?: number;
}

const BY_CODE: Readonly<Record<number, EndCause>> = {
  403: 'permission-refused',
  404: 'queue-missing',
  405: 'queue-locked',
};

/** Why a connection ended that this side did not close. */
export function causeOfClosed({ kind, code, error }: ConnectionClosed): EndCause {
  switch (kind) {
    case 'local':
      return 'local';
    case 'refused':
      return 'credentials-refused';
    case 'error':
      return 'connection-error';
    case 'lost':
      if (code !== undefined) {
        return 'connection-forced';
      }
      // amqplib has no code for it.
      return error?.message === 'Heartbeat timeout' ? 'connection-silent' : 'connection-lost';
  }
}

/** Why what was set up has ended, on a connection that still stood. */
export function causeOfSetUpEnded({ kind, code }: SetUpEnded): EndCause {
  if (kind === 'cancelled') {
    return 'consumer-cancelled';
  }
  if (kind === 'not-consuming') {
    return 'not-consuming';
  }
  return (code === undefined ? undefined : BY_CODE[code]) ?? 'channel-closed';
}

/** Why an attempt failed: dialling or setting up. */
export function causeOfFailure(error: unknown): EndCause {
  if (error instanceof AuthError && error.code === 'TOKEN_REJECTED' && 'user' in error.details) {
    return error.details['replyCode'] === 403 ? 'credentials-refused' : 'vhost-refused';
  }
  if (!(error instanceof ComputeError)) {
    return 'not-dialled';
  }
  const { returned, replyCode: code } = error.details;
  if (error.code === 'CHANNEL_CLOSED' || error.code === 'PUBLISH_UNCONFIRMED') {
    const byCode = typeof code === 'number' ? BY_CODE[code] : undefined;
    return returned === true ? 'unroutable' : (byCode ?? 'channel-closed');
  }
  if (error.code === 'TIMED_OUT') {
    return 'no-answer';
  }
  // Only a dial names the broker.
  return 'broker' in error.details ? 'unreachable' : 'not-dialled';
}

/**
 * The broker as this machine sees it, without disturbing anything: signing in is tried with the user that reads the results of this
 * identity, which the hub gives to anybody who is signed in. The endpoint's own queue belongs to its lease; taking that would fence a
 * running agent, so of that queue only the running agent is asked.
 */
import { randomUUID } from 'node:crypto';

import { sleep, systemClock } from '../../../base/clock.ts';
import { ComputeError } from '../../../base/errors.ts';
import { dialAmqp } from '../../../transport/amqp/connection.ts';
import type { AmqpConnection } from '../../../transport/amqp/connection.ts';
import { fieldsOf } from '../status-document.ts';
import { EXIT, failed, ok, skipped } from './check.ts';
import type { Check, Finding } from './check.ts';
import { reachabilityChecks } from './reachability.ts';
import type { Server } from './reachability.ts';
import type { Subject } from './subject.ts';

const SETTINGS = ['hub_url', 'ca_file', 'amqp_port'] as const;
const HEARTBEAT_S = 1;
/** A side that hears nothing for two to three heartbeats ends the connection: this tells whether both arrive. */
const HEARTBEAT_WATCH_MS = 3_500;

async function brokerServer(subject: Subject): Promise<Server> {
  const { address } = await subject.broker();
  const { hostname = '', port = 0, protocol } = address.connect;
  return { serverName: 'the broker', host: hostname, port, hasTls: protocol === 'amqps' };
}

/** The checks. */
export const BROKER_CHECKS: readonly Check[] = [
  {
    name: 'broker-address',
    after: ['identity'],
    settings: SETTINGS,
    remedy: 'Tell the operator of the hub: it has to name its broker (OUTPOST_AMQP_PUBLIC_URL)',
    run: addressFinding,
  },
  ...reachabilityChecks({
    prefix: 'broker',
    after: ['broker-address'],
    settings: SETTINGS,
    addressFrom: 'OUTPOST_AMQP_PUBLIC_URL of the hub, amqp_port here',
    serverOf: brokerServer,
  }),
  {
    name: 'broker-sign-in',
    after: ['broker-tls'],
    settings: SETTINGS,
    remedy: 'Tell the operator of the hub; its broker’s log says more',
    run: signInFinding,
  },
  {
    name: 'broker-heartbeat',
    after: ['broker-tls'],
    settings: SETTINGS,
    remedy:
      'Something between here and the broker swallows packets on idle connections: ask the administrators of the network',
    run: heartbeatFinding,
  },
  {
    name: 'broker-queue',
    remedy: 'See: agent status NAME',
    run: queueFinding,
  },
];

async function addressFinding(subject: Subject): Promise<Finding> {
  try {
    const { address } = await subject.broker();
    const { label, user, vhost } = address;
    return ok(`the hub names ${label}, virtual host ${vhost}`, { broker: label, user, vhost });
  } catch (error) {
    // A client that may do no more than run an endpoint reads no results.
    if (
      error instanceof ComputeError &&
      (error.code === 'FORBIDDEN' || error.code === 'SCOPE_MISSING')
    ) {
      return skipped(
        'these credentials may only run an endpoint, and are told the address when they do',
      );
    }
    throw error;
  }
}

async function dial(
  subject: Subject,
  signal: AbortSignal,
  heartbeatS?: number,
): Promise<AmqpConnection> {
  const { url } = await subject.broker();
  const { ca } = subject.settings.config;
  return await dialAmqp({
    url,
    connectionName: `outpost doctor ${subject.context.directory.name}`,
    connectTimeoutMs: subject.limitMs * 0.8,
    signal,
    ...(heartbeatS !== undefined && { heartbeatS }),
    ...(ca !== undefined && { ca }),
  });
}

/** The broker looks at rights before it looks for the queue: one that is not there tells without touching any that is. */
async function signInFinding(subject: Subject, signal: AbortSignal): Promise<Finding> {
  const { queuePrefix, address } = await subject.broker();
  const connection = await dial(subject, signal);
  try {
    const queue = `${queuePrefix}${randomUUID()}`;
    await connection.withChannel(async (channel) => await channel.get(queue, { noAck: true }), {
      timeoutMs: subject.limitMs,
    });
  } catch (error) {
    const code = error instanceof ComputeError ? error.details['replyCode'] : undefined;
    if (code === 403) {
      return failed(
        EXIT.credentials,
        `user ${address.user} is let in and may not read the results of this identity`,
        'Tell the operator of the hub: the rights of this user at the broker were changed',
        { user: address.user },
      );
    }
    if (code !== 404) {
      throw error;
    }
  } finally {
    await connection.close();
  }
  return ok(`user ${address.user} is let in and may read the results of this identity`, {
    user: address.user,
  });
}

async function heartbeatFinding(subject: Subject, signal: AbortSignal): Promise<Finding> {
  const connection = await dial(subject, signal, HEARTBEAT_S);
  const watched = new AbortController();
  let ended: string | undefined;
  const closed = connection.closed.then(({ reason }) => {
    ended = reason;
    watched.abort();
  });
  try {
    const ms = Math.min(HEARTBEAT_WATCH_MS, subject.limitMs * 0.7);
    await sleep(systemClock, ms, watched.signal).catch(() => undefined);
    return ended === undefined
      ? ok(
          `heartbeats pass in both directions (watched for ${(ms / 1000).toFixed(1)} s, one a second)`,
        )
      : failed(
          EXIT.tryAgain,
          `an idle connection did not last: ${ended}`,
          'Something between here and the broker swallows packets on idle connections: ask the administrators of the network',
        );
  } finally {
    await connection.close();
    await closed;
  }
}

async function queueFinding(subject: Subject): Promise<Finding> {
  const { name, state, sessions, reason } = await subject.status();
  const hint = 'the queue of the endpoint belongs to its lease, which only a running agent holds';
  if (sessions === null) {
    return skipped(`${hint}; none runs here`, `Start it and look again: agent start ${name}`);
  }
  const phases = { tasks: phaseOf(sessions['tasks']), results: phaseOf(sessions['results']) };
  if (state === 'online') {
    return ok(
      'the running agent consumes its queue, and the broker confirms its heartbeats',
      phases,
    );
  }
  return state === 'starting'
    ? skipped(`${hint}; the one here is starting`)
    : failed(
        EXIT.tryAgain,
        `the running agent is ${state}: ${reason ?? `tasks ${phases.tasks}, results ${phases.results}`}`,
        `See what it says: agent logs ${name} --level warn`,
        phases,
      );
}

function phaseOf(session: unknown): string {
  const { phase } = fieldsOf(session);
  return typeof phase === 'string' ? phase : 'unknown';
}

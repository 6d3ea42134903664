/**
 * An endpoint whose agent runs on another host of a shared home: the hub is asked about it, and tells it things.
 *
 * E1 What the lock names and who holds the lease must be the same process: nobody else is told anything.
 * E2 Waiting has an end, and says what is waited for.
 */
import { sleep, systemClock } from '../../base/clock.ts';
import { ComputeError, ConflictError, UnavailableError } from '../../base/errors.ts';
import type { HubClient } from '../../client/hub-client.ts';
import { readRegistration } from '../../config/endpoint-directory.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import type {
  CommandOutcome,
  EndpointCommandName,
  EndpointLease,
} from '../../protocol/endpoint-commands.ts';
import { durationText } from '../output.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { commandHubClient } from './hub-access.ts';
import type { AgentHolder } from './presence.ts';
import { findSignIn } from './sign-in.ts';

/** An agent elsewhere, and the hub through which it is reached. */
export interface Elsewhere {
  readonly name: string;
  readonly holder: AgentHolder;
  readonly endpointId: string;
  readonly hub: HubClient;
}

/** Who has asked, and why. */
export interface CommandWords {
  readonly by?: string;
  readonly reason?: string;
}

const POLL_MS = 250;
/** An agent that is just reconnecting listens again within this time. */
const LISTEN_LIMIT_MS = 8_000;
const OUTCOME_LIMIT_MS = 15_000;
/** Who only looks does not wait for long. */
const LOOK_LIMITS = { timeoutMs: 2_000, retries: 0 } as const;

/** The hub of an endpoint that runs elsewhere. @throws ComputeError when its settings or credentials are not in order. */
export async function reachElsewhere(
  { directory, environment }: EndpointContext,
  holder: AgentHolder,
  limits?: typeof LOOK_LIMITS,
): Promise<Elsewhere> {
  const { name, dotenvPath } = directory;
  const registration = readRegistration(directory);
  if (registration === undefined) {
    throw new ConflictError(
      'PRECONDITION_FAILED',
      `Endpoint ${name} is being started on ${holder.host} (process ${holder.pid}) and has not registered yet: run this command there, or wait.`,
    );
  }
  const { config } = await loadAgentConfig(directory, environment);
  const signIn = await findSignIn(() => config, { environment, dotenvPath });
  const hub = commandHubClient(config, signIn, limits);
  return { name, holder, endpointId: registration.endpointId, hub };
}

/** What the hub says about it; undefined when the hub cannot be asked. For those who only look. */
export async function lookElsewhere(
  context: EndpointContext,
  holder: AgentHolder,
): Promise<EndpointLease | undefined> {
  try {
    const there = await reachElsewhere(context, holder, LOOK_LIMITS);
    return await there.hub.endpointLease(there.endpointId);
  } catch (error) {
    if (error instanceof ComputeError) {
      return undefined;
    }
    throw error;
  }
}

/** Whether the process that the lock names holds the lease. */
export function isHolder({ lease, holder }: EndpointLease, lock: AgentHolder): boolean {
  return lease === 'held' && holder?.host === lock.host && holder.pid === lock.pid;
}

/** `running on login03 since …`, or why it does not, in words. `lease` undefined: the hub could not be asked. */
export function elsewhereText(lock: AgentHolder, lease: EndpointLease | undefined): string {
  const { host, pid, since } = lock;
  const where = `on ${host} since ${since}`;
  if (lease === undefined) {
    return `started ${where} (process ${pid}); the hub cannot be asked whether it still runs`;
  }
  if (isHolder(lease, lock)) {
    return lease.status === 'online'
      ? `running ${where}`
      : `running ${where}, and silent${silence(lease)}`;
  }
  if (lease.lease === 'held') {
    const { host: other, pid: otherPid } = lease.holder ?? { host: '?', pid: '?' };
    return `started ${where} (process ${pid}), and taken over by process ${otherPid} on ${other}`;
  }
  return lease.lease === 'expired'
    ? `started ${where} (process ${pid}), and silent${silence(lease)}: its lease has ended`
    : `started ${where} (process ${pid}), which has given the endpoint back and left its lock behind`;
}

/** What to type about it. */
export function elsewhereAdvice(
  name: string,
  lock: AgentHolder,
  lease: EndpointLease | undefined,
): string {
  if (lease === undefined || isHolder(lease, lock)) {
    return lease?.status === 'online'
      ? `to end it from here: agent stop ${name}`
      : `ask on ${lock.host}; if that is gone: agent start ${name} --takeover`;
  }
  return lease.lease === 'held'
    ? `run this command on ${lease.holder?.host ?? 'that host'}`
    : `to start it here: agent start ${name}`;
}

/**
 * The lease, when the process that the lock names holds it.
 *
 * @throws ConflictError when it does not, or the hub knows no such question.
 */
export async function requireHeld(there: Elsewhere): Promise<EndpointLease> {
  const lease = await askLease(there);
  if (!isHolder(lease, there.holder)) {
    throw notHolding(there, lease);
  }
  return lease;
}

/** Asks the hub who holds the endpoint. @throws ConflictError when the hub is too old to say. */
export async function askLease({
  hub,
  endpointId,
  name,
  holder,
}: Elsewhere): Promise<EndpointLease> {
  try {
    return await hub.endpointLease(endpointId);
  } catch (error) {
    if (error instanceof ComputeError && error.details['hubCode'] === 'ROUTE_NOT_FOUND') {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `Endpoint ${name} was started on ${holder.host} (process ${holder.pid}, since ${holder.since}), and the hub at ${hub.hubUrl} is too old to tell it anything. ` +
          `Run this command on ${holder.host}, or take the endpoint over with: agent start ${name} --takeover`,
        { details: { host: holder.host, pid: holder.pid } },
      );
    }
    throw error;
  }
}

/** Tells the agent something; returns the id of the command. @throws ConflictError when it cannot be reached. */
export async function tellElsewhere(
  there: Elsewhere,
  command: EndpointCommandName,
  words: CommandWords = {},
): Promise<string> {
  const startedMs = systemClock.monotonicMs();
  for (;;) {
    const lease = await requireHeld(there);
    try {
      return await there.hub.commandEndpoint(there.endpointId, {
        command,
        lease_epoch: lease.epoch,
        ...words,
      });
    } catch (error) {
      const hubCode = error instanceof ComputeError ? error.details['hubCode'] : undefined;
      // It may be between two connections, or two leases.
      if (hubCode !== 'ENDPOINT_NOT_LISTENING' && hubCode !== 'LEASE_NOT_HELD') {
        throw error;
      }
      if (systemClock.monotonicMs() - startedMs > LISTEN_LIMIT_MS) {
        throw notListening(there, lease);
      }
      await sleep(systemClock, POLL_MS * 2);
    }
  }
}

/** Waits until the agent says what became of a command. @throws ConflictError with its own words when it failed. */
export async function outcomeElsewhere(
  there: Elsewhere,
  commandId: string,
): Promise<{ readonly outcome: CommandOutcome; readonly lease: EndpointLease }> {
  const startedMs = systemClock.monotonicMs();
  const { name, holder } = there;
  for (;;) {
    const lease = await requireHeld(there);
    const outcome = lease.report['last_command'] as CommandOutcome | undefined;
    if (outcome?.command_id === commandId) {
      if (!outcome.ok) {
        throw new ConflictError(
          'PRECONDITION_FAILED',
          `Endpoint ${name} on ${holder.host}: ${outcome.error ?? 'the command failed; its log says more'}`,
        );
      }
      return { outcome, lease };
    }
    if (systemClock.monotonicMs() - startedMs > OUTCOME_LIMIT_MS) {
      throw new UnavailableError(
        'TIMED_OUT',
        `Endpoint ${name} was told, and ${holder.host} has not said within ${OUTCOME_LIMIT_MS / 1000} s what became of it. See: agent status ${name}`,
      );
    }
    await sleep(systemClock, POLL_MS);
  }
}

/** The error for an agent that runs the endpoint no more. */
export function notHolding({ name, holder }: Elsewhere, lease: EndpointLease): ConflictError {
  return new ConflictError(
    'PRECONDITION_FAILED',
    `Endpoint ${name} was ${elsewhereText(holder, lease)}; ${elsewhereAdvice(name, holder, lease)}`,
    { details: { host: holder.host, pid: holder.pid, lease: lease.lease } },
  );
}

function notListening({ name, holder }: Elsewhere, lease: EndpointLease): ConflictError {
  const why =
    lease.status === 'online'
      ? 'it is of a version that takes no commands through the hub'
      : `it is silent${silence(lease)}`;
  return new ConflictError(
    'PRECONDITION_FAILED',
    `Endpoint ${name} runs on ${holder.host} (process ${holder.pid}, since ${holder.since}) and cannot be told anything: ${why}. ` +
      `Run this command on ${holder.host}, or take the endpoint over with: agent start ${name} --takeover`,
    {
      details: {
        host: holder.host,
        pid: holder.pid,
        last_heartbeat_at: lease.last_heartbeat_at,
      },
    },
  );
}

function silence({ last_heartbeat_at: at }: EndpointLease): string {
  return at === null ? '' : ` since ${at} (${durationText(Date.now() - Date.parse(at))})`;
}

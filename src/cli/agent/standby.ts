/**
 * Standing by: the service of an endpoint that another host of a shared home has waits here until that one has gone, instead of ending
 * and being started again every few seconds.
 *
 * A service that does not stand by is refused, and its service manager told not to start it again.
 *
 * Only another host name is another host: whoever runs on this one is told apart by the lock, and by the hub.
 *
 * Invariants: while another host has the endpoint nothing of it is touched (no lock, no journal, no registration); the log has one line when
 * the waiting begins, one when it ends, and one when the hub cannot be asked any more. Which of several takes over is the hub's decision.
 */
import { hostname } from 'node:os';

import { sleep, systemClock } from '../../base/clock.ts';
import { ComputeError, ConflictError, errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { HubClient } from '../../client/hub-client.ts';
import { readRegistration } from '../../config/endpoint-directory.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { commandHubClient } from './hub-access.ts';
import { watchTerminal } from './lost-terminal.ts';
import { findPresence } from './presence.ts';
import { ServiceWatch } from './service-watch.ts';
import { findSignIn } from './sign-in.ts';

/** One question of little worth: it is asked again soon. */
const LOOK_LIMITS = { timeoutMs: 5_000, retries: 0 } as const;
const WITHOUT_HUB_MS = 10_000;

/** Who has the endpoint, or why nobody can say. */
type Sight =
  | { readonly kind: 'free' }
  | { readonly kind: 'held'; readonly host: string; readonly pid: number; readonly since: string }
  | {
      readonly kind: 'unknown';
      readonly host: string;
      readonly since: string;
      readonly why: string;
    };

/** Waits while another host has the endpoint. Resolves at once when none has; `stopped` when this process is told to end. */
export async function standBy(
  context: EndpointContext,
  logger: Logger,
): Promise<'free' | 'stopped'> {
  const lookout = new Lookout(context);
  let sight = await lookout.look();
  if (sight.kind === 'free') {
    return 'free';
  }
  const { name } = context.directory;
  const stop = new AbortController();
  const unwatch = onStopSignal(stop);
  // There is nothing more to be ready for: a service that stands by has started.
  const service = await ServiceWatch.open(context.environment, logger);
  try {
    service.standingBy(`standing by: endpoint ${name} runs on ${sight.host} since ${sight.since}`);
    logger.info(
      { host: sight.host, since: sight.since, everyMs: lookout.periodMs },
      'standing by: another host has the endpoint, and it is started here when that one has gone',
    );
    let wasKnown = true;
    while (sight.kind !== 'free') {
      if (sight.kind === 'unknown' && wasKnown) {
        logger.warn({ reason: sight.why }, 'the hub cannot be asked who has the endpoint; standing by'); // prettier-ignore
      }
      wasKnown = sight.kind === 'held';
      await sleep(systemClock, lookout.periodMs, stop.signal);
      sight = await lookout.look();
    }
    logger.info({}, 'the endpoint is free, starting it here');
    return 'free';
  } catch (error) {
    if (!stop.signal.aborted) {
      throw error;
    }
    logger.info({}, 'stopped while standing by');
    return 'stopped';
  } finally {
    service.close();
    unwatch();
  }
}

/** Refuses to run what another host has, before anything is touched. @throws ConflictError ALREADY_RUNNING. */
export async function refuseWhenElsewhere(context: EndpointContext): Promise<void> {
  const sight = await new Lookout(context).look();
  if (sight.kind === 'held') {
    const { name } = context.directory;
    const { host, pid, since } = sight;
    throw new ConflictError(
      'ALREADY_RUNNING',
      `Endpoint ${name} is running on ${host} since ${since} (process ${pid}). To end it from here: agent stop ${name}. ` +
        `To take it over, also when ${host} is gone: agent start ${name} --takeover. To wait for it as a service does: --foreground --standby`,
      { details: { host, pid, since } },
    );
  }
}

/** Asks the hub who has the endpoint; settings and credentials are read again after a question that failed. */
class Lookout {
  readonly #context: EndpointContext;
  #hub: { readonly client: HubClient; readonly periodMs: number } | undefined;

  constructor(context: EndpointContext) {
    this.#context = context;
  }

  /** Time between two looks: that of a heartbeat, after which the hub may know more. */
  get periodMs(): number {
    return this.#hub?.periodMs ?? WITHOUT_HUB_MS;
  }

  async look(): Promise<Sight> {
    const { directory } = this.#context;
    const registration = readRegistration(directory);
    if (registration === undefined) {
      return { kind: 'free' };
    }
    try {
      const { client } = await this.#reach();
      const { lease, holder } = await client.endpointLease(registration.endpointId);
      return lease === 'held' && holder !== null && holder.host !== hostname()
        ? { kind: 'held', host: holder.host, pid: holder.pid, since: holder.since ?? '?' }
        : { kind: 'free' };
    } catch (error) {
      this.#hub = undefined;
      if (!(error instanceof ComputeError)) {
        throw error;
      }
      return await this.#sightWithoutHub(error);
    }
  }

  async #reach(): Promise<{ readonly client: HubClient; readonly periodMs: number }> {
    const { directory, environment } = this.#context;
    if (this.#hub === undefined) {
      const { config } = await loadAgentConfig(directory, environment);
      const { dotenvPath } = directory;
      const signIn = await findSignIn(() => config, { environment, dotenvPath });
      const client = commandHubClient(config, signIn, LOOK_LIMITS);
      this.#hub = { client, periodMs: config.heartbeatPeriodMs };
    }
    return this.#hub;
  }

  /** The lock says who started it last. A hub that does not know the endpoint, or the question, decides when the agent registers. */
  async #sightWithoutHub(error: ComputeError): Promise<Sight> {
    const presence = await findPresence(this.#context.directory);
    const isDecided = error instanceof ConflictError && error.details['hubCode'] !== undefined;
    if (presence.kind !== 'elsewhere' || isDecided) {
      return { kind: 'free' };
    }
    const { host, since } = presence.holder;
    return { kind: 'unknown', host, since, why: errorText(error) };
  }
}

/** Aborts at a signal that ends an agent; returns how to take that back. A lost terminal is one, SIGHUP otherwise changes nothing. */
function onStopSignal(stop: AbortController): () => void {
  const isTerminalLost = watchTerminal();
  const end = (): void => {
    stop.abort(new ConflictError('NOT_RUNNING', 'told to stop while standing by'));
  };
  const hangUp = (): void => {
    if (isTerminalLost()) {
      end();
    }
  };
  const signals = ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const;
  for (const signal of signals) {
    process.on(signal, end);
  }
  process.on('SIGHUP', hangUp);
  return () => {
    for (const signal of signals) {
      process.off(signal, end);
    }
    process.off('SIGHUP', hangUp);
  };
}

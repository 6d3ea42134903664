/** The loops of an agent that the watchdog looks at, each with what counts as work, as progress, and as help. */
import type { Clock } from '../base/clock.ts';
import type { SessionState } from '../transport/amqp/session.ts';
import type { BrokerLink } from './broker-link.ts';
import type { Heartbeat } from './heartbeat.ts';
import type { SupervisedHost } from './host-link.ts';
import type { Journal } from './journal/journal.ts';
import type { Registrar } from './registration.ts';
import type { ResultOutbox } from './result-outbox.ts';
import type { WatchedLoop } from './watchdog.ts';

/** Longer than an attempt to connect or to register can take, with all the limits inside it. */
const ATTEMPT_LIMIT_MS = 300_000;
/** A large result on a slow line is one confirm. */
const CONFIRM_LIMIT_MS = 180_000;
const HEARTBEAT_LIMIT_MS = 120_000;
const JOURNAL_LIMIT_MS = 60_000;
const HOST_LIMIT_MS = 90_000;

/** Who is watched. */
export interface WatchedParts {
  readonly link: BrokerLink;
  readonly registrar: Registrar;
  readonly outbox: ResultOutbox;
  readonly heartbeat: Heartbeat;
  readonly journal: Journal;
  readonly host: SupervisedHost;
  readonly clock: Clock;
}

/** The loops that meet the broker and the hub. */
export function brokerLoops(
  { link, registrar, outbox, heartbeat, clock }: Omit<WatchedParts, 'journal' | 'host'>,
  limits: { readonly attemptMs: number; readonly confirmMs: number; readonly heartbeatMs: number },
): WatchedLoop[] {
  const isPublishing = (): boolean => link.health().isOnline;
  const session = (purpose: 'tasks' | 'results', name: string): WatchedLoop => ({
    name,
    limitMs: limits.attemptMs,
    isBusy: () => isConnecting(link.sessions[purpose], clock),
    // A hub that is away is asked again and again while the session connects.
    progress: () => `${sessionText(link.sessions[purpose])} ${registrar.attemptCount}`,
    restart: () => {
      link.reconnect(purpose);
    },
  });
  const reconnectResults = (): void => {
    link.reconnect('results');
  };
  return [
    session('tasks', 'intake session'),
    session('results', 'result session'),
    {
      name: 'result publisher',
      limitMs: limits.confirmMs,
      isBusy: () => outbox.inFlightCount > 0 && isPublishing(),
      progress: () => outbox.answeredCount,
      restart: reconnectResults,
    },
    {
      name: 'heartbeat',
      get limitMs() {
        return limits.heartbeatMs;
      },
      isBusy: isPublishing,
      progress: () => heartbeat.confirmedCount,
      restart: reconnectResults,
    },
    {
      name: 'registration',
      limitMs: limits.attemptMs,
      isBusy: () => registrar.isRegistering,
      progress: () => registrar.attemptCount,
    },
  ];
}

/** The worker host: what it has to do takes as long as it takes, but it must answer. */
export function hostLoop(host: SupervisedHost, limitMs: number): WatchedLoop {
  return {
    name: 'worker host',
    limitMs,
    isBusy: () => host.ping(),
    progress: () => host.frameCount,
    restart: (stalledMs) => {
      host.replace(
        `it had not answered for ${Math.round(stalledMs / 1000)} s and was replaced; look for what starves or blocks processes on this machine`,
      );
    },
  };
}

/** All loops of an agent. */
export function watchedLoops(parts: WatchedParts): WatchedLoop[] {
  const { journal, host, heartbeat } = parts;
  return [
    ...brokerLoops(parts, {
      attemptMs: ATTEMPT_LIMIT_MS,
      confirmMs: CONFIRM_LIMIT_MS,
      // The period may change.
      get heartbeatMs() {
        return Math.max(HEARTBEAT_LIMIT_MS, 4 * heartbeat.periodMs);
      },
    }),
    {
      name: 'journal writer',
      limitMs: JOURNAL_LIMIT_MS,
      // A full disk has its own words in `status`.
      isBusy: () => (journal.stats.pendingBytes ?? 0) > 0 && !journal.stats.full,
      progress: () => journal.stats.batches ?? 0,
    },
    hostLoop(host, HOST_LIMIT_MS),
  ];
}

function isConnecting(state: SessionState, clock: Clock): boolean {
  return (
    state.phase === 'connecting' || (state.phase === 'offline' && clock.now() > state.nextAttemptAt)
  );
}

function sessionText(state: SessionState): string {
  return state.phase === 'stopped' ? state.phase : `${state.phase} ${state.since}`;
}

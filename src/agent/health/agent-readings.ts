/** What an agent can be asked about itself at any moment, as numbers: for `/readyz` and `/metrics`. Reading costs nothing in between. */
import type { Clock } from '../../base/clock.ts';
import type { EnvironmentReport } from '../../protocol/host-frames.ts';
import type { Language } from '../../protocol/serialization.ts';
import type { SessionState } from '../../transport/amqp/session.ts';
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';
import type { BrokerLink } from '../broker-link.ts';
import type { Dispatcher, DispatcherCounts } from '../dispatcher.ts';
import type { EnvironmentReports } from '../environment-reports.ts';
import type { Heartbeat } from '../heartbeat.ts';
import { countsWith } from '../host-absence.ts';
import type { HostAbsence } from '../host-absence.ts';
import type { SupervisedHost } from '../host-link.ts';
import type { Intake } from '../intake.ts';
import type { Journal } from '../journal/journal.ts';
import type { RestartCounts } from '../restart-counts.ts';
import type { ResultOutbox } from '../result-outbox.ts';
import type { StallReport, Watchdog } from '../watchdog.ts';

/** Parts of a running agent that are read. */
export interface ReadParts {
  readonly journal: Journal;
  readonly outbox: ResultOutbox;
  readonly dispatcher: Dispatcher;
  readonly intake: Intake;
  readonly host: SupervisedHost;
  readonly absence: HostAbsence;
  readonly restarts: RestartCounts;
  readonly environments: EnvironmentReports;
  readonly heartbeat: Heartbeat;
  readonly link: BrokerLink;
  readonly watchdog: Watchdog;
}

/** An agent at one moment. Times are in milliseconds on the monotonic clock, unless they are called epoch. */
export interface AgentReadings {
  readonly tasks: DispatcherCounts;
  /** Results that were published and not confirmed yet. */
  readonly unconfirmed: number;
  /** Results that wait for a connection or for room. */
  readonly unpublished: number;
  readonly journal: Journal['stats'];
  readonly sessions: Readonly<Record<'tasks' | 'results', SessionState>>;
  /** Connections after the first one. */
  readonly reconnects: Readonly<Record<'tasks' | 'results', number>>;
  readonly offline: { readonly forMs: number; readonly reason: string } | undefined;
  readonly isFenced: boolean;
  /** Why nothing is consumed, if so. */
  readonly pauses: readonly string[];
  readonly isHostConnected: boolean;
  readonly hostPid: number | undefined;
  readonly hostRestarts: number;
  readonly workerRestarts: Readonly<Record<Language, number>>;
  readonly environments: readonly EnvironmentReport[];
  /** Age of the last heartbeat that the broker confirmed; undefined before the first. */
  readonly heartbeatAgeMs: number | undefined;
  readonly heartbeatPeriodMs: number;
  readonly stalls: readonly StallReport[];
  /** Loops that make no progress now. */
  readonly stalled: readonly string[];
  /** When the access token ends, epoch; undefined before there is one. */
  readonly tokenEndEpochMs: number | undefined;
}

/** Reads an agent. */
export function readAgent(parts: ReadParts, tokens: TokenSource, clock: Clock): AgentReadings {
  const { journal, outbox, dispatcher, intake, host, absence, restarts, environments, heartbeat, link, watchdog } = parts; // prettier-ignore
  const { offline } = link.health();
  const confirmedAtMs = heartbeat.confirmedAtMs;
  return {
    tasks: countsWith(absence, dispatcher.counts),
    unconfirmed: outbox.inFlightCount,
    unpublished: outbox.backlogCount,
    journal: journal.stats,
    sessions: link.sessions,
    reconnects: link.reconnectCounts,
    offline: offline && { forMs: clock.now() - offline.sinceMs, reason: offline.reason },
    isFenced: link.fenced !== undefined,
    pauses: intake.pauses,
    isHostConnected: host.connected,
    hostPid: host.pid,
    hostRestarts: restarts.hosts,
    workerRestarts: restarts.workers,
    environments: environments.list,
    heartbeatAgeMs: confirmedAtMs === undefined ? undefined : clock.monotonicMs() - confirmedAtMs,
    heartbeatPeriodMs: heartbeat.periodMs,
    stalls: watchdog.stalls,
    stalled: watchdog.stalled,
    tokenEndEpochMs: tokens.expiresAt?.(),
  };
}

/** What `agent status` shows of a running agent: put together on request, from what the parts know. */
import type { EnvironmentReport } from '../protocol/host-frames.ts';
import type { SessionState } from '../transport/amqp/session.ts';
import { thisProcess } from './agent-lock.ts';
import { RUNNING } from './agent-mode.ts';
import type { ModeDocument } from './agent-mode.ts';
import type { AgentOptions } from './agent-options.ts';
import type { AgentParts } from './agent-parts.ts';
import type { AgentPhase } from './agent-phase.ts';
import type { DispatcherCounts } from './dispatcher.ts';
import { countsWith } from './host-absence.ts';
import type { Journal } from './journal/journal.ts';
import type { ReloadReport } from './live-settings.ts';
import type { Registrar } from './registration.ts';
import type { JobReport } from './scheduled-jobs.ts';
import type { StallReport } from './watchdog.ts';

/** What `agent status` shows. */
export interface AgentStatus {
  readonly name: string;
  readonly endpoint_id: string | null;
  readonly phase: AgentPhase;
  /** Online means: the broker is there, and the last heartbeat was confirmed by it. */
  readonly state: 'online' | 'offline' | 'draining' | 'starting' | 'stopped';
  /** Why it is not online, and what is done about it, in words. */
  readonly reason: string | null;
  /** Since when it is not online. */
  readonly offline_since: string | null;
  /** Whether it takes tasks, and who wanted that. */
  readonly mode: ModeDocument;
  readonly pid: number;
  readonly host: string;
  readonly since: string;
  readonly hub_url: string;
  /** What the operator should know about the settings. */
  readonly notices: readonly string[];
  readonly lease_epoch: number | null;
  readonly sessions: { readonly tasks: SessionState; readonly results: SessionState };
  readonly paused: readonly string[];
  readonly tasks: DispatcherCounts & {
    readonly unconfirmed: number;
    readonly unpublished: number;
    /** Handed back to the hub since the start. */
    readonly handed_back: number;
  };
  /** Why tasks that have not begun could not be handed back. */
  readonly hand_back_failure: string | null;
  readonly journal: Journal['stats'];
  readonly worker_host_pid: number | null;
  /** Interpreters in execution environments. */
  readonly environments: readonly EnvironmentReport[];
  /** Loops that had work and made no progress, since the start. */
  readonly stalls: readonly StallReport[];
  readonly jobs: readonly JobReport[];
  /** How the settings were read again last; null when nobody has asked for that. */
  readonly reload: ReloadReport | null;
  readonly cpu_seconds: number;
  readonly rss_bytes: number;
}

/** What the status is put together from. */
export interface StatusSources {
  readonly options: AgentOptions;
  readonly phase: AgentPhase;
  /** ISO 8601. */
  readonly since: string;
  readonly registrar: Registrar;
  /** Undefined before the agent has started. */
  readonly parts: AgentParts | undefined;
  readonly reload: ReloadReport | null;
}

/** Puts the status together. */
export function agentStatus(sources: StatusSources): AgentStatus {
  const { options, phase, since, registrar, parts, reload } = sources;
  const stopped: SessionState = { phase: 'stopped' };
  const usage = process.resourceUsage();
  return {
    name: options.name,
    endpoint_id: registrar.current?.endpointId ?? options.endpointId ?? null,
    phase,
    ...stateInWords(sources),
    mode: parts?.modes.document ?? RUNNING,
    pid: process.pid,
    host: thisProcess().host,
    since,
    hub_url: options.hubUrl,
    notices: notices(sources),
    lease_epoch: registrar.current?.epoch ?? null,
    sessions: parts?.link.sessions ?? { tasks: stopped, results: stopped },
    paused: parts?.intake.pauses ?? [],
    tasks: {
      ...(parts === undefined ? NO_COUNTS : countsWith(parts.absence, parts.dispatcher.counts)),
      unconfirmed: parts?.outbox.inFlightCount ?? 0,
      unpublished: parts?.outbox.backlogCount ?? 0,
      handed_back: parts?.handBack.count ?? 0,
    },
    hand_back_failure: parts?.modes.handBackFailure ?? null,
    journal: parts?.journal.stats ?? NO_JOURNAL,
    worker_host_pid: parts?.host.pid ?? null,
    environments: parts?.observation.environments.list ?? [],
    stalls: parts?.watchdog.stalls ?? [],
    jobs: parts?.jobs.reports ?? [],
    reload,
    cpu_seconds: (usage.userCPUTime + usage.systemCPUTime) / 1e6,
    rss_bytes: process.memoryUsage.rss(),
  };
}

/** What the operator should know although the endpoint may be online: as long as the broker knows it, it works without the hub. */
function notices({ options, registrar, parts }: StatusSources): string[] {
  const { lastFailure } = registrar;
  const isSilent = lastFailure !== undefined && parts?.link.health().isOnline === true;
  return [
    ...(options.notices ?? []),
    ...(isSilent
      ? [`the hub does not take the registration, and tasks run all the same: ${lastFailure}`]
      : []),
  ];
}

/** Whether the endpoint is online, without what else the status takes. */
export function stateInWords({
  phase,
  registrar,
  parts,
}: Pick<StatusSources, 'phase' | 'registrar' | 'parts'>): Pick<
  AgentStatus,
  'state' | 'reason' | 'offline_since'
> {
  if (phase === 'draining' || phase === 'stopped') {
    return { state: phase, reason: null, offline_since: null };
  }
  const health = parts?.link.health();
  if (health?.isOnline === true) {
    return { state: 'online', reason: null, offline_since: null };
  }
  if (registrar.current === undefined || health?.offline === undefined) {
    const reason = registrar.lastFailure ?? null;
    return { state: 'starting', reason, offline_since: null };
  }
  const { sinceMs, reason } = health.offline;
  const since = new Date(sinceMs).toISOString();
  return { state: 'offline', reason: `OFFLINE since ${since}: ${reason}`, offline_since: since };
}

const NO_COUNTS: DispatcherCounts = {
  running: 0,
  waiting: 0,
  pending: 0,
  succeeded: 0,
  failed: 0,
  duplicates: 0,
  slots: { javascript: 0, python: 0 },
  degraded: {},
};

const NO_JOURNAL: Journal['stats'] = {
  liveCount: 0,
  bytes: 0,
  segments: 0,
  tombstones: 0,
  full: false,
};

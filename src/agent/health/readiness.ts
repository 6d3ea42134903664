/**
 * Whether an agent does what it is for, as against being alive: tasks that are submitted now would be taken, run and answered.
 *
 * A short interruption that the agent is mending by itself is only noted: connections are dialled again, and worker hosts replaced. It
 * counts once it has lasted for HEARTBEATS_MISSED_MAX heartbeat periods, which is when the hub, too, begins to wonder. A pause that an
 * operator has asked for is a state and no fault.
 */
import type { AgentPhase } from '../agent-phase.ts';
import type { AgentReadings } from './agent-readings.ts';

const HEARTBEATS_MISSED_MAX = 3;

/** One thing that speaks against it, or is worth knowing. */
export interface Finding {
  readonly part: 'agent' | 'broker' | 'journal' | 'workers' | 'watchdog';
  readonly message: string;
}

/** The document of `/readyz`. */
export interface Readiness {
  readonly ready: boolean;
  /** What speaks against it. */
  readonly reasons: readonly Finding[];
  /** What does not, yet. */
  readonly notes: readonly Finding[];
}

/** Judges an agent; `readings` is undefined while it starts, and `whyStarting` then says what it waits for. */
export function judgeReadiness(
  phase: AgentPhase,
  readings: AgentReadings | undefined,
  whyStarting?: string,
): Readiness {
  if (phase !== 'running' || readings === undefined) {
    const why = whyStarting === undefined ? '' : `: ${whyStarting}`;
    const message =
      phase === 'running' || phase === 'created' || phase === 'starting'
        ? `it is starting${why}`
        : `it is ${phase}`;
    return { ready: false, reasons: [{ part: 'agent', message }], notes: [] };
  }
  const reasons: Finding[] = [];
  const notes: Finding[] = [];
  judgeBroker(readings, reasons, notes);
  judgeJournal(readings, reasons);
  judgeWorkers(readings, reasons, notes);
  for (const loop of readings.stalled) {
    reasons.push({ part: 'watchdog', message: `the ${loop} makes no progress` });
  }
  for (const pause of readings.pauses) {
    notes.push({ part: 'agent', message: `takes no tasks: ${pause}` });
  }
  return { ready: reasons.length === 0, reasons, notes };
}

function judgeBroker(
  { offline, heartbeatAgeMs, heartbeatPeriodMs, isFenced }: AgentReadings,
  reasons: Finding[],
  notes: Finding[],
): void {
  const allowedMs = HEARTBEATS_MISSED_MAX * heartbeatPeriodMs;
  if (offline !== undefined) {
    const isLong = offline.forMs > allowedMs || heartbeatAgeMs === undefined || isFenced;
    const message = `not online for ${seconds(offline.forMs)}: ${offline.reason}`;
    (isLong ? reasons : notes).push({ part: 'broker', message });
  } else if (heartbeatAgeMs === undefined || heartbeatAgeMs > allowedMs) {
    // Connected, and yet nothing arrives: a broker that does not read, or a connection that has fallen silent.
    const age = heartbeatAgeMs === undefined ? 'yet' : `for ${seconds(heartbeatAgeMs)}`;
    reasons.push({ part: 'broker', message: `the broker has confirmed no heartbeat ${age}` });
  }
}

function judgeJournal({ journal }: AgentReadings, reasons: Finding[]): void {
  if (journal.full) {
    const message = `takes no more tasks: free disk space or raise journal_bytes_max${because(journal.lastError)}`;
    reasons.push({ part: 'journal', message });
  } else if (journal.lastError !== undefined) {
    reasons.push({ part: 'journal', message: journal.lastError });
  }
}

function judgeWorkers(
  { isHostConnected, tasks }: AgentReadings,
  reasons: Finding[],
  notes: Finding[],
): void {
  const degraded = Object.entries(tasks.degraded);
  const places = tasks.slots.javascript + tasks.slots.python;
  for (const [language, why] of degraded) {
    const finding: Finding = { part: 'workers', message: `no ${language} worker starts: ${why}` };
    (places === 0 ? reasons : notes).push(finding);
  }
  if (!isHostConnected && degraded.length === 0) {
    reasons.push({ part: 'workers', message: 'the worker host is being started' });
  }
}

function because(reason: string | undefined): string {
  return reason === undefined ? '' : ` (${reason})`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/**
 * What `agent status` and `agent list` say about an endpoint, from its lock and its control socket.
 *
 *   lock            control socket     state
 *   absent          –                  stopped
 *   holder is gone  –                  stale (the agent ended without cleaning up; the next start goes on from its journal)
 *   other host      –                  elsewhere, and what the hub says of it; stale when its lease was given back
 *   held            answers            what it says: online, offline, starting, draining
 *   held            absent, no id yet  starting
 *   held            silent             unresponsive
 */
import { RUNNING, modeDocument } from '../../agent/agent-mode.ts';
import type { ModeDocument } from '../../agent/agent-mode.ts';
import { errorCode, errorText } from '../../base/errors.ts';
import { readRegistration } from '../../config/endpoint-directory.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { readMode } from './mode-file.ts';
import { askAgent, findPresence } from './presence.ts';
import type { ElsewhereView, SeenElsewhere } from './status-elsewhere.ts';

/** States of an endpoint as commands show them. */
export type EndpointState =
  | 'online'
  | 'offline'
  | 'starting'
  | 'draining'
  | 'stopped'
  | 'stale'
  | 'elsewhere'
  | 'unresponsive';

/** Counts of tasks. */
export interface TaskCounts {
  readonly running: number;
  readonly waiting: number;
  /** Since its start; null when only the hub could be asked. */
  readonly done: number | null;
  readonly failed: number | null;
}

/** The document of `agent status --json`. Fields that only a running agent knows are null otherwise. */
export interface StatusDocument {
  readonly name: string;
  readonly endpoint_id: string | null;
  readonly state: EndpointState;
  /** Why it is not online, in words. */
  readonly reason: string | null;
  readonly since: string | null;
  /** Whether it takes tasks, and who has asked for that; also of an endpoint that does not run. */
  readonly mode: ModeDocument;
  readonly pid: number | null;
  readonly host: string | null;
  readonly hub_url: string | null;
  /** What the operator should know about the settings. */
  readonly notices: readonly string[];
  readonly tasks: TaskCounts | null;
  /** Places for tasks by language. */
  readonly workers: Readonly<Record<string, number>> | null;
  /** Languages of which no worker starts any more, and why. */
  readonly degraded: Readonly<Record<string, string>>;
  readonly journal: Readonly<Record<string, unknown>> | null;
  /** Connections to the broker: the one for tasks and the one for results. */
  readonly sessions: Readonly<Record<string, unknown>> | null;
  readonly lease_epoch: number | null;
  /** Of an endpoint that was started on another host: what the hub says of it, when it can be asked. */
  readonly elsewhere: ElsewhereView | null;
  /** Loops of the agent that had work and made no progress, since its start; each was started again. */
  readonly stalls: readonly unknown[];
  /** What is done by the clock: name, schedule, last_run, outcome, detail, running, next_run. */
  readonly jobs: readonly unknown[];
  /** How the settings were read again last: at, ok, applied, restart_needed, problems, error. */
  readonly reload: Readonly<Record<string, unknown>> | null;
  /** Execution environments with interpreters: type, location, running, idle, starting, and reason when none starts. */
  readonly environments: readonly unknown[];
  /** Process that runs the workers. */
  readonly worker_host_pid: number | null;
  readonly cpu_seconds: number | null;
  readonly rss_bytes: number | null;
}

type Fields = Readonly<Record<string, unknown>>;

const STATUS_LIMIT_MS = 5_000;

const AGENT_STATES: readonly string[] = ['online', 'offline', 'starting', 'draining', 'stopped'];

/** Asks for the state of an endpoint. Never throws because of the agent: its silence is a state. */
export async function readStatus(context: EndpointContext): Promise<StatusDocument> {
  const { directory } = context;
  const presence = await findPresence(directory);
  const stored = readRegistration(directory);
  const base: StatusDocument = {
    ...NOT_RUNNING,
    name: directory.name,
    endpoint_id: stored?.endpointId ?? null,
    lease_epoch: stored?.leaseEpoch ?? null,
    mode: modeDocument(readMode(directory)),
  };
  if (presence.kind === 'stopped') {
    return base;
  }
  const { holder } = presence;
  const held = { ...base, pid: holder.pid, host: holder.host, since: holder.since };
  if (presence.kind === 'stale') {
    const reason = `process ${holder.pid} is gone without having cleaned up; start it again with: agent start ${directory.name}`;
    return { ...held, state: 'stale', pid: null, reason };
  }
  if (presence.kind === 'elsewhere') {
    // Only now: `status` and `list` are quick where nothing runs elsewhere.
    const { seeElsewhere } = await import('./status-elsewhere.ts');
    return fromHub(held, await seeElsewhere(context, holder));
  }
  try {
    const reply = await askAgent(context, 'status', STATUS_LIMIT_MS);
    return fromAgent(held, fieldsOf(reply));
  } catch (error) {
    if (stored === undefined && errorCode(error) === 'NOT_RUNNING') {
      // The control socket opens after the first registration, for which the hub is needed.
      const reason = `it has not registered at the hub yet; see: agent logs ${directory.name}`;
      return { ...held, state: 'starting', reason };
    }
    const reason = `process ${holder.pid} does not answer: ${errorText(error)}`;
    return { ...held, state: 'unresponsive', reason };
  }
}

const NOT_RUNNING: StatusDocument = {
  name: '',
  endpoint_id: null,
  state: 'stopped',
  reason: null,
  since: null,
  mode: RUNNING,
  pid: null,
  host: null,
  hub_url: null,
  notices: [],
  tasks: null,
  workers: null,
  degraded: {},
  journal: null,
  sessions: null,
  lease_epoch: null,
  elsewhere: null,
  stalls: [],
  jobs: [],
  reload: null,
  environments: [],
  worker_host_pid: null,
  cpu_seconds: null,
  rss_bytes: null,
};

function fromHub(held: StatusDocument, { reason, atHub }: SeenElsewhere): StatusDocument {
  if (atHub === undefined) {
    return { ...held, state: 'elsewhere', reason };
  }
  const { view, epoch, mode, tasks } = atHub;
  if (view.lease === 'released') {
    return { ...held, state: 'stale', pid: null, reason, elsewhere: view };
  }
  return {
    ...held,
    state: 'elsewhere',
    reason,
    elsewhere: view,
    lease_epoch: epoch,
    mode: modeReported(mode) ?? held.mode,
    tasks: tasks === undefined ? null : { ...tasks, done: null, failed: null },
  };
}

// The agent that answers may be of another version than this command, so every field is looked at before it is believed.
function fromAgent(base: StatusDocument, agent: Fields): StatusDocument {
  const { state } = agent;
  const tasks = fieldsOf(agent['tasks']);
  return {
    ...base,
    endpoint_id: textOf(agent['endpoint_id']) ?? base.endpoint_id,
    state:
      typeof state === 'string' && AGENT_STATES.includes(state)
        ? (state as EndpointState)
        : 'unresponsive',
    reason: textOf(agent['reason']),
    since: textOf(agent['since']) ?? base.since,
    hub_url: textOf(agent['hub_url']),
    notices: textList(agent['notices']),
    tasks: {
      running: countOf(tasks['running']),
      waiting: countOf(tasks['waiting']) + countOf(tasks['pending']),
      done: countOf(tasks['succeeded']),
      failed: countOf(tasks['failed']),
    },
    workers: numbersIn(tasks['slots']),
    degraded: textsIn(tasks['degraded']),
    journal: fieldsOf(agent['journal']),
    sessions: fieldsOf(agent['sessions']),
    lease_epoch: numberOf(agent['lease_epoch']) ?? base.lease_epoch,
    stalls: Array.isArray(agent['stalls']) ? (agent['stalls'] as unknown[]) : [],
    mode: modeReported(agent['mode']) ?? base.mode,
    jobs: Array.isArray(agent['jobs']) ? (agent['jobs'] as unknown[]) : [],
    reload:
      agent['reload'] === null || agent['reload'] === undefined ? null : fieldsOf(agent['reload']),
    environments: Array.isArray(agent['environments']) ? (agent['environments'] as unknown[]) : [],
    worker_host_pid: numberOf(agent['worker_host_pid']),
    cpu_seconds: numberOf(agent['cpu_seconds']),
    rss_bytes: numberOf(agent['rss_bytes']),
  };
}

/** A value as an object; an empty one when it is something else. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

/** The state, and that no tasks are taken where that is so: `online, paused`. */
export function stateText({ state, mode }: Pick<StatusDocument, 'state' | 'mode'>): string {
  return mode.state === 'running' || state === mode.state ? state : `${state}, ${mode.state}`;
}

/** A mode as an agent reports it. */
export function modeReported(value: unknown): ModeDocument | undefined {
  const { state, since, by, reason } = fieldsOf(value);
  return typeof state === 'string'
    ? {
        state: state as ModeDocument['state'],
        since: textOf(since),
        by: textOf(by),
        reason: textOf(reason),
      }
    : undefined;
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}

function textList(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function countOf(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

function numbersIn(value: unknown): Record<string, number> {
  const entries = Object.entries(fieldsOf(value));
  return Object.fromEntries(
    entries.filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  );
}

function textsIn(value: unknown): Record<string, string> {
  const entries = Object.entries(fieldsOf(value));
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

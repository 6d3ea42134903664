/**
 * What the control socket offers beside what looks at the agent (inspection-methods.ts). Results are JSON and their fields are stable: commands of another version read them.
 *
 *   status                         AgentStatus
 *   mode       {wait_ms}           ModeReply; with wait_ms as soon as nothing is being drained, or after that time
 *   pause, drain, resume  {by, reason}   ModeReply
 *   reload                         ReloadReport
 */
import { UsageError } from '../base/errors.ts';
import type { ModeDocument, RequestedMode } from './agent-mode.ts';
import type { AgentStatus } from './agent-status.ts';
import type { ControlMethod } from './control-socket.ts';
import type { ReloadReport } from './live-settings.ts';
import type { ModeChange } from './mode-switch.ts';

/** Longest that a request may wait for a change, in milliseconds. */
const WAIT_MS_MAX = 5_000;
const TEXT_CHARS_MAX = 256;

/** What a running agent can be asked for. */
export interface ControlledAgent {
  readonly status: () => AgentStatus;
  readonly changeMode: (change: ModeChange) => Promise<boolean>;
  readonly waitWhileDraining: (limitMs: number) => Promise<void>;
  readonly reload: () => Promise<ReloadReport>;
}

/** What commands about the mode are answered. */
export interface ModeReply {
  readonly name: string;
  readonly endpoint_id: string | null;
  readonly mode: ModeDocument;
  /** Whether this request has changed anything. */
  readonly changed: boolean;
  readonly tasks: {
    readonly running: number;
    /** Held, and not begun. */
    readonly waiting: number;
    /** Since the agent was started. */
    readonly handed_back: number;
  };
  readonly hand_back_failure: string | null;
}

/** The methods of an agent. */
export function controlMethods(agent: ControlledAgent): Record<string, ControlMethod> {
  const change =
    (mode: RequestedMode): ControlMethod =>
    async (params) => {
      const by = textOf(params, 'by') ?? 'unknown';
      const changed = await agent.changeMode({ mode, by, reason: textOf(params, 'reason') });
      return modeReply(agent.status(), changed);
    };
  return {
    status: () => agent.status(),
    pause: change('paused'),
    drain: change('drained'),
    resume: change('running'),
    mode: async (params) => {
      const waitMs = params['wait_ms'];
      if (typeof waitMs === 'number' && waitMs > 0) {
        await agent.waitWhileDraining(Math.min(waitMs, WAIT_MS_MAX));
      }
      return modeReply(agent.status(), false);
    },
    reload: async () => await agent.reload(),
  };
}

function modeReply(status: AgentStatus, changed: boolean): ModeReply {
  const { running, waiting, pending, handed_back: handedBack } = status.tasks;
  return {
    name: status.name,
    endpoint_id: status.endpoint_id,
    mode: status.mode,
    changed,
    tasks: { running, waiting: waiting + pending, handed_back: handedBack },
    hand_back_failure: status.hand_back_failure,
  };
}

function textOf(params: Readonly<Record<string, unknown>>, name: string): string | null {
  const value = params[name];
  if (value === undefined || value === null || value === '') {
    return null;
  }
  if (typeof value !== 'string' || value.length > TEXT_CHARS_MAX) {
    throw new UsageError(`${name} must be a text of at most ${TEXT_CHARS_MAX} characters`);
  }
  return value;
}

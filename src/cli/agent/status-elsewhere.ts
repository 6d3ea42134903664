/** What the hub says of an endpoint whose agent was started on another host, for its status. */
import type { LeaseStanding } from '../../protocol/endpoint-commands.ts';
import { elsewhereAdvice, elsewhereText, isHolder, lookElsewhere } from './elsewhere.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import type { AgentHolder } from './presence.ts';

/** The part of the status document that only the hub knows. */
export interface ElsewhereView {
  /** Whether the process that the lock names runs the endpoint. */
  readonly is_holder: boolean;
  readonly lease: LeaseStanding;
  readonly status: 'online' | 'offline';
  readonly last_heartbeat_at: string | null;
}

/** What is known of it. */
export interface SeenElsewhere {
  /** In words, with what to type. */
  readonly reason: string;
  /** Undefined when the hub could not be asked. */
  readonly atHub:
    | {
        readonly view: ElsewhereView;
        readonly epoch: number;
        /** As the agent reported it. */
        readonly mode: unknown;
        readonly tasks: { readonly running: number; readonly waiting: number } | undefined;
      }
    | undefined;
}

/** Asks the hub, for a moment only. */
export async function seeElsewhere(
  context: EndpointContext,
  holder: AgentHolder,
): Promise<SeenElsewhere> {
  const lease = await lookElsewhere(context, holder);
  const advice = elsewhereAdvice(context.directory.name, holder, lease);
  const reason = `${elsewhereText(holder, lease)}; ${advice}`;
  if (lease === undefined) {
    return { reason, atHub: undefined };
  }
  const isRunning = isHolder(lease, holder);
  const { outstanding_tasks: running, pending_tasks: waiting, mode } = lease.report;
  return {
    reason,
    atHub: {
      view: {
        is_holder: isRunning,
        lease: lease.lease,
        status: lease.status,
        last_heartbeat_at: lease.last_heartbeat_at,
      },
      epoch: lease.epoch,
      mode,
      tasks:
        isRunning && typeof running === 'number' && typeof waiting === 'number'
          ? { running, waiting }
          : undefined,
    },
  };
}

/** Asking a running agent to pause, drain or resume, for the commands of those names. */
import type { Argv } from 'yargs';

import type { ModeReply } from '../../agent/control-methods.ts';
import { sleep, systemClock } from '../../base/clock.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { askAgent, findPresence, requireRunning } from './presence.ts';
import { modeReported } from './status-document.ts';
import { userName } from './user-name.ts';

/** Answered once the change is on disk. */
const CHANGE_LIMIT_MS = 10_000;
/** Between two looks at the hub, for an agent that runs on another host. */
const ELSEWHERE_POLL_MS = 500;

/** Declares `--reason`. */
export function withReason<T>(parser: Argv<T>): Argv<T & { reason: string | undefined }> {
  return parser.option('reason', {
    type: 'string',
    requiresArg: true,
    describe: 'Why, for whoever looks at the status',
  });
}

/** Asks for a mode. @throws ConflictError NOT_RUNNING. */
export async function requestMode(
  context: EndpointContext,
  method: 'pause' | 'drain' | 'resume',
  reason?: string,
): Promise<ModeReply> {
  const params = { by: userName(), ...(reason !== undefined && { reason }) };
  const presence = await findPresence(context.directory);
  if (presence.kind === 'elsewhere') {
    const { outcomeElsewhere, reachElsewhere, tellElsewhere } = await import('./elsewhere.ts');
    const there = await reachElsewhere(context, presence.holder);
    const { outcome } = await outcomeElsewhere(there, await tellElsewhere(there, method, params));
    return outcome.result as ModeReply;
  }
  await requireRunning(context.directory);
  return (await askAgent(context, method, CHANGE_LIMIT_MS, params)) as ModeReply;
}

/** How far a change is: answered when nothing is drained any more, or after `waitMs`. */
export async function askMode(
  context: EndpointContext,
  last: ModeReply,
  waitMs: number,
): Promise<ModeReply> {
  const presence = await findPresence(context.directory);
  if (presence.kind !== 'elsewhere') {
    return (await askAgent(context, 'mode', CHANGE_LIMIT_MS, { wait_ms: waitMs })) as ModeReply;
  }
  const { reachElsewhere, requireHeld } = await import('./elsewhere.ts');
  await sleep(systemClock, Math.min(waitMs, ELSEWHERE_POLL_MS));
  const { report } = await requireHeld(await reachElsewhere(context, presence.holder));
  const { outstanding_tasks: running, pending_tasks: waiting } = report;
  return {
    ...last,
    mode: modeReported(report['mode']) ?? last.mode,
    tasks: {
      ...last.tasks,
      ...(typeof running === 'number' && { running }),
      ...(typeof waiting === 'number' && { waiting }),
    },
  };
}

/** `1 task runs`, `3 tasks run`. */
export function runningText(count: number): string {
  return count === 1 ? '1 task runs' : `${count} tasks run`;
}

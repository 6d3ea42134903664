/** Asking a running agent to pause, drain or resume, for the commands of those names. */
import { userInfo } from 'node:os';

import type { Argv } from 'yargs';

import type { ModeReply } from '../../agent/control-methods.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { askAgent, requireRunning } from './presence.ts';

/** Answered once the change is on disk. */
const CHANGE_LIMIT_MS = 10_000;

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
  await requireRunning(context.directory);
  const params = { by: userName(), ...(reason !== undefined && { reason }) };
  return (await askAgent(context, method, CHANGE_LIMIT_MS, params)) as ModeReply;
}

/** `1 task runs`, `3 tasks run`. */
export function runningText(count: number): string {
  return count === 1 ? '1 task runs' : `${count} tasks run`;
}

// A user without an entry in the password file has a number and no name.
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`;
  }
}

/**
 * Whether an agent runs, by the contents of its lock, and how to ask it something, through its control socket.
 */
import { acquireLock, readLock } from '../../agent/agent-lock.ts';
import type { AgentLock, LockHolder } from '../../agent/agent-lock.ts';
import { callControl } from '../../agent/control-client.ts';
import { controlSocketPath } from '../../agent/control-socket.ts';
import { systemClock } from '../../base/clock.ts';
import { ConflictError, errorCode } from '../../base/errors.ts';
import type { EndpointDirectory } from '../../config/endpoint-directory.ts';
import { runtimeDirectory } from '../../config/process-context.ts';
import { serviceRuntimeDirectory } from '../../config/service-environment.ts';
import type { EndpointContext } from './endpoint-argument.ts';

/** Process that holds the lock of an endpoint. */
export type AgentHolder = Pick<LockHolder, 'pid' | 'host' | 'since'>;

/** Whether an endpoint's agent runs. */
export type Presence =
  | { readonly kind: 'stopped' }
  | { readonly kind: 'running' | 'stale' | 'elsewhere'; readonly holder: AgentHolder };

/** Reads the lock of an endpoint. */
export async function findPresence(directory: EndpointDirectory): Promise<Presence> {
  const lock = await readLock(directory.path);
  if (lock.state === 'absent') {
    return { kind: 'stopped' };
  }
  return { kind: lock.state === 'foreign' ? 'elsewhere' : lock.state, holder: lock.holder };
}

/** Takes the lock for this process. @throws ConflictError ALREADY_RUNNING. */
export async function holdLock(directory: EndpointDirectory): Promise<AgentLock> {
  return await acquireLock(directory.path, systemClock);
}

/** Refuses what must not be done to a running agent. @throws ConflictError ALREADY_RUNNING. */
export async function refuseWhenRunning(directory: EndpointDirectory): Promise<void> {
  const presence = await findPresence(directory);
  if (presence.kind === 'running') {
    const { pid, since } = presence.holder;
    throw new ConflictError(
      'ALREADY_RUNNING',
      `Endpoint ${directory.name} is running already (process ${pid}, since ${since}). ` +
        `See: agent status ${directory.name}. To end it: agent stop ${directory.name}`,
      { details: { pid, since } },
    );
  }
}

/** Refuses what must not be done to an agent that may run on another host. @throws ConflictError PRECONDITION_FAILED. */
export async function refuseElsewhere(directory: EndpointDirectory): Promise<void> {
  const presence = await findPresence(directory);
  if (presence.kind === 'elsewhere') {
    throw runsElsewhere(directory, presence.holder);
  }
}

/** Refuses what needs a running agent. @throws ConflictError NOT_RUNNING. */
export async function requireRunning(directory: EndpointDirectory): Promise<void> {
  const presence = await findPresence(directory);
  if (presence.kind === 'elsewhere') {
    throw runsElsewhere(directory, presence.holder);
  }
  if (presence.kind !== 'running') {
    throw new ConflictError(
      'NOT_RUNNING',
      `Endpoint ${directory.name} is not running. Start it with: agent start ${directory.name}`,
    );
  }
}

/** The error for an agent that runs where this command cannot reach it. */
export function runsElsewhere(directory: EndpointDirectory, holder: AgentHolder): ConflictError {
  return new ConflictError(
    'PRECONDITION_FAILED',
    `Endpoint ${directory.name} was started on ${holder.host} (process ${holder.pid}, since ${holder.since}), which cannot be reached from here. ` +
      `Run this command there, or take the endpoint over with: agent start ${directory.name} --takeover`,
    { details: { host: holder.host, pid: holder.pid } },
  );
}

/** Path of the control socket of an agent that is started in this environment. */
export function controlPath({ directory, environment }: EndpointContext): string {
  return controlPaths(directory, runtimeDirectory(environment, directory.name));
}

/**
 * Calls a method of a running agent.
 *
 * Shells have XDG_RUNTIME_DIR, services of the system have a directory of their own, cron has neither: it may lie in any of three places.
 */
export async function askAgent(
  { directory, environment }: EndpointContext,
  method: string,
  timeoutMs: number,
  params: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  const { name } = directory;
  const places = [runtimeDirectory(environment, name), serviceRuntimeDirectory(name), undefined];
  const paths = new Set(places.map((place) => controlPaths(directory, place)));
  let nobodyThere: unknown;
  for (const path of paths) {
    try {
      return await callControl(path, method, params, { timeoutMs });
    } catch (error) {
      if (!isNobodyThere(error)) {
        throw error;
      }
      nobodyThere ??= error;
    }
  }
  throw nobodyThere;
}

function controlPaths(directory: EndpointDirectory, runtimeDir: string | undefined): string {
  return controlSocketPath({
    endpointDir: directory.path,
    uid: process.getuid?.() ?? 0,
    ...(runtimeDir !== undefined && { runtimeDir }),
  });
}

function isNobodyThere(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  const codes = [errorCode(error), errorCode(cause)];
  return codes.some(
    // EACCES: the service of that name is another user's.
    (code) =>
      code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'NOT_RUNNING' || code === 'EACCES',
  );
}

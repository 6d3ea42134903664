/**
 * Stopping an endpoint, for `agent stop`, `restart` and `delete`: a signal to the process that the lock names, then waiting
 * until that process is gone. One on another host of a shared home is stopped through the hub (stop-elsewhere.ts). Ctrl-C while waiting sends the next signal of the agent's ladder (cancel what runs, then exit).
 */
import { sleep, systemClock } from '../../base/clock.ts';
import { ConflictError, UnavailableError, errorCode, errorText } from '../../base/errors.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { askAgent, findPresence } from './presence.ts';
import type { AgentHolder } from './presence.ts';
import { fieldsOf } from './status-document.ts';

/** How a stop ended. */
export interface StopOutcome {
  readonly wasRunning: boolean;
  readonly pid?: number;
  /** Where it ran, when that was another host. */
  readonly host?: string;
  readonly tookMs: number;
}

const POLL_MS = 50;
const NOTE_EVERY_MS = 2_000;
const STATUS_LIMIT_MS = 500;

/** Stops the agent and waits. @throws UnavailableError TIMED_OUT when it still runs after `timeoutMs`. */
export async function stopEndpoint(
  context: EndpointContext,
  timeoutMs: number,
  note: (text: string) => void,
): Promise<StopOutcome> {
  const presence = await findPresence(context.directory);
  if (presence.kind === 'elsewhere') {
    const { stopElsewhere } = await import('./stop-elsewhere.ts');
    const { pid, host } = presence.holder;
    const elsewhereMs = systemClock.monotonicMs();
    const wasRunning = await stopElsewhere(context, presence.holder, timeoutMs, note);
    return { wasRunning, pid, host, tookMs: systemClock.monotonicMs() - elsewhereMs };
  }
  if (presence.kind !== 'running') {
    return { wasRunning: false, tookMs: 0 };
  }
  const { holder } = presence;
  const startedMs = systemClock.monotonicMs();
  signalAgent(holder, 'SIGTERM');
  let signalCount = 1;
  const onInterrupt = (): void => {
    signalCount += 1;
    note(signalCount === 2 ? 'Cancelling running tasks …' : 'Ending it at once …');
    signalAgent(holder, signalCount > 3 ? 'SIGKILL' : 'SIGTERM');
  };
  process.on('SIGINT', onInterrupt);
  try {
    await waitUntilGone(context, holder, timeoutMs, note);
  } finally {
    process.off('SIGINT', onInterrupt);
  }
  return { wasRunning: true, pid: holder.pid, tookMs: systemClock.monotonicMs() - startedMs };
}

async function waitUntilGone(
  context: EndpointContext,
  holder: AgentHolder,
  timeoutMs: number,
  note: (text: string) => void,
): Promise<void> {
  const startedMs = systemClock.monotonicMs();
  let notedMs = startedMs;
  while (await isStillThere(context, holder)) {
    const nowMs = systemClock.monotonicMs();
    if (nowMs - startedMs > timeoutMs) {
      const name = context.directory.name;
      throw new UnavailableError(
        'TIMED_OUT',
        `Process ${holder.pid} of endpoint ${name} still runs after ${timeoutMs / 1000} s; it was told to stop and goes on stopping. ` +
          `See: agent status ${name}. To end it at once: kill -9 ${holder.pid} (its tasks are in the journal).`,
        { details: { pid: holder.pid } },
      );
    }
    if (nowMs - notedMs > NOTE_EVERY_MS) {
      notedMs = nowMs;
      note(`Waiting for process ${holder.pid}${await waitedFor(context)} …`);
    }
    await sleep(systemClock, POLL_MS);
  }
}

async function waitedFor(context: EndpointContext): Promise<string> {
  try {
    const { tasks } = fieldsOf(await askAgent(context, 'status', STATUS_LIMIT_MS));
    const { running } = fieldsOf(tasks);
    return typeof running === 'number' && running > 0
      ? `: ${running} running task${running === 1 ? '' : 's'}`
      : '';
  } catch (error) {
    // Near its end the agent closes the socket; the waiting goes on without the detail.
    return errorText(error) === '' ? '' : '';
  }
}

async function isStillThere(context: EndpointContext, holder: AgentHolder): Promise<boolean> {
  const now = await findPresence(context.directory);
  return now.kind === 'running' && now.holder.pid === holder.pid;
}

function signalAgent(holder: AgentHolder, signal: NodeJS.Signals): void {
  try {
    process.kill(holder.pid, signal);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') {
      return;
    }
    throw new ConflictError(
      'PRECONDITION_FAILED',
      `Process ${holder.pid} cannot be told to stop: ${errorText(error)}. It belongs to another user, who can stop it.`,
      { cause: error },
    );
  }
}

/**
 * Stopping an endpoint that runs on another host of a shared home: through the hub, until its lease and its lock are gone. Ctrl-C while
 * waiting has it cancel what runs, the next one ends the waiting.
 */
import { sleep, systemClock } from '../../base/clock.ts';
import { ConflictError, UnavailableError } from '../../base/errors.ts';
import type { EndpointLease } from '../../protocol/endpoint-commands.ts';
import {
  askLease,
  elsewhereText,
  isHolder,
  notHolding,
  reachElsewhere,
  requireHeld,
  tellElsewhere,
} from './elsewhere.ts';
import type { Elsewhere } from './elsewhere.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { findPresence } from './presence.ts';
import type { AgentHolder } from './presence.ts';
import { userName } from './user-name.ts';

const POLL_MS = 250;
const NOTE_EVERY_MS = 2_000;
/** A command that was lost on its way is sent again. */
const REPEAT_MS = 10_000;
/** How long a lock may outlive its lease: the process ends after it, and network homes show that late. */
const LOCK_GRACE_MS = 10_000;

/** Has it stopped and waits; false when it had ended before. @throws UnavailableError TIMED_OUT, ConflictError. */
export async function stopElsewhere(
  context: EndpointContext,
  holder: AgentHolder,
  timeoutMs: number,
  note: (text: string) => void,
): Promise<boolean> {
  const there = await reachElsewhere(context, holder);
  const { name } = there;
  const lease = await askLease(there);
  if (lease.lease === 'released' || lease.lease === 'none') {
    note(`Endpoint ${name} was ${elsewhereText(holder, lease)}.`);
    return false;
  }
  await requireHeld(there);
  note(`Telling endpoint ${name} on ${holder.host} to stop, through the hub …`);
  await tellElsewhere(there, 'stop', { by: userName() });
  let isLeaving = false;
  let presses = 0;
  const onInterrupt = (): void => {
    presses += 1;
    isLeaving = presses > 1;
    note(isLeaving ? 'Leaving it to itself …' : 'Cancelling running tasks …');
  };
  process.on('SIGINT', onInterrupt);
  try {
    await waitUntilGone(context, there, timeoutMs, note, {
      isCancelled: () => presses > 0,
      isLeaving: () => isLeaving,
    });
  } finally {
    process.off('SIGINT', onInterrupt);
  }
  return true;
}

async function waitUntilGone(
  context: EndpointContext,
  there: Elsewhere,
  timeoutMs: number,
  note: (text: string) => void,
  wishes: { readonly isCancelled: () => boolean; readonly isLeaving: () => boolean },
): Promise<void> {
  const { name, holder } = there;
  const startedMs = systemClock.monotonicMs();
  let notedMs = startedMs;
  let toldMs = startedMs;
  let hasCancelled = false;
  let endedMs: number | undefined;
  while (await namesHolder(context, holder)) {
    const nowMs = systemClock.monotonicMs();
    if (nowMs - startedMs > timeoutMs || wishes.isLeaving()) {
      throw new UnavailableError(
        'TIMED_OUT',
        `Endpoint ${name} still runs on ${holder.host} (process ${holder.pid}) after ${((nowMs - startedMs) / 1000).toFixed(0)} s; it was told to stop and goes on stopping. ` +
          `See: agent status ${name}. If ${holder.host} is gone: agent start ${name} --takeover`,
        { details: { host: holder.host, pid: holder.pid } },
      );
    }
    const lease = await askLease(there);
    if (!isHolder(lease, holder)) {
      endedMs ??= nowMs;
      if (lease.lease === 'expired') {
        throw notHolding(there, lease);
      }
      if (nowMs - endedMs > LOCK_GRACE_MS) {
        return;
      }
    } else if (wishes.isCancelled() && !hasCancelled) {
      hasCancelled = true;
      await tellAgain(there, 'cancel');
    } else if (nowMs - toldMs > REPEAT_MS && lease.status === 'online') {
      toldMs = nowMs;
      await tellAgain(there, hasCancelled ? 'cancel' : 'stop');
    }
    if (nowMs - notedMs > NOTE_EVERY_MS) {
      notedMs = nowMs;
      note(`Waiting for process ${holder.pid} on ${holder.host}${waitedFor(lease)} …`);
    }
    await sleep(systemClock, POLL_MS);
  }
}

/** Near its end it does not listen any more; how it ends is seen by its lease. */
async function tellAgain(there: Elsewhere, command: 'stop' | 'cancel'): Promise<void> {
  try {
    await tellElsewhere(there, command, { by: userName() });
  } catch (error) {
    if (!(error instanceof ConflictError)) {
      throw error;
    }
  }
}

/** Whether the lock is still the one that was there. */
async function namesHolder(context: EndpointContext, holder: AgentHolder): Promise<boolean> {
  const now = await findPresence(context.directory);
  return (
    now.kind === 'elsewhere' &&
    now.holder.pid === holder.pid &&
    now.holder.host === holder.host &&
    now.holder.since === holder.since
  );
}

function waitedFor({ lease, status, last_heartbeat_at: at, report }: EndpointLease): string {
  if (lease === 'held' && status === 'offline' && at !== null) {
    return `, silent since ${at}`;
  }
  const running = report['outstanding_tasks'];
  return typeof running === 'number' && running > 0
    ? `: ${running} running task${running === 1 ? '' : 's'}`
    : '';
}

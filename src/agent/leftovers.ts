/**
 * Finds and ends what an agent's worker hosts left alive: the host itself, interpreters, and whatever functions started, also in
 * sessions of their own.
 *
 * I7: they are known by a cookie that the agent puts into the environment of its worker host and that every descendant inherits. It
 * stays the same for an endpoint directory, so that the next agent finds what the last one left when it was killed.
 *
 * The caller holds `agent.lock`: nobody else has a claim to these processes.
 */
import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';

import type { Clock } from '../base/clock.ts';
import { sleep } from '../base/clock.ts';
import { errorCode, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { hasVariable, otherProcesses, readProcessFile } from '../base/processes.ts';

/** Name of the variable; src/workers/environment.ts passes it on to functions. */
export const COOKIE_VARIABLE = 'OUTPOST_AGENT_COOKIE';

/** How long killed processes may take to be gone. Longer means that the kernel holds one (a hung network file system). */
const GONE_LIMIT_MS = 5_000;
/** How often it is looked whether they are gone; only while some are ending. */
const GONE_POLL_MS = 10;

/** A process that was found. */
export interface Leftover {
  readonly pid: number;
  /** Name of its program, as the kernel has it. */
  readonly command: string;
}

/** What a sweep found. */
export interface SweepOutcome {
  readonly killed: readonly Leftover[];
  /** Could not be ended: another user's by now, or held by the kernel. */
  readonly survivors: readonly Leftover[];
}

/** The cookie of an endpoint directory. */
export async function agentCookie(directory: string): Promise<string> {
  return createHash('sha256')
    .update(await realpath(directory))
    .digest('hex')
    .slice(0, 32);
}

/** Kills every process with the cookie and waits until they are gone. Bounded; says in the log what it found. */
export async function sweepLeftovers(
  cookie: string,
  clock: Clock,
  logger: Logger,
  limitMs = GONE_LIMIT_MS,
): Promise<SweepOutcome> {
  const killed = new Map<number, Leftover>();
  const untilMs = clock.monotonicMs() + limitMs;
  let alive = findLeftovers(cookie);
  // One pass when there is nothing. Otherwise until a pass finds nothing: what is about to be killed may be starting others.
  while (alive.length > 0 && clock.monotonicMs() < untilMs) {
    for (const leftover of alive) {
      kill(leftover, killed, logger);
    }
    await sleep(clock, GONE_POLL_MS);
    alive = alive.filter(({ pid }) => hasVariable(pid, COOKIE_VARIABLE, cookie));
    if (alive.length === 0) {
      alive = findLeftovers(cookie);
    }
  }
  if (alive.length > 0) {
    logger.error(
      { survivors: alive, limitMs },
      'processes of an earlier run cannot be ended; end them by hand, or reboot if they hang in the kernel',
    );
  }
  const survivors = new Set(alive.map(({ pid }) => pid));
  return {
    killed: [...killed.values()].filter(({ pid }) => !survivors.has(pid)),
    survivors: alive,
  };
}

/** Kills every process with the cookie without waiting: for an agent that ends at once. */
export function killLeftovers(cookie: string, logger: Logger): void {
  const killed = new Map<number, Leftover>();
  for (const leftover of findLeftovers(cookie)) {
    kill(leftover, killed, logger);
  }
}

function kill(leftover: Leftover, killed: Map<number, Leftover>, logger: Logger): void {
  const { pid, command } = leftover;
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') {
      logger.debug({ pid, command, reason: errorText(error) }, 'a leftover cannot be signalled');
    }
    return;
  }
  if (!killed.has(pid)) {
    killed.set(pid, leftover);
    logger.warn({ pid, command }, 'killed a process that a worker host had left');
  }
}

/** Processes with the cookie, which are left as they are. Those of an agent that runs are its own. */
export function findLeftovers(cookie: string): Leftover[] {
  return otherProcesses()
    .filter((pid) => hasVariable(pid, COOKIE_VARIABLE, cookie))
    .map((pid) => ({ pid, command: readProcessFile(pid, 'comm').trim() }));
}

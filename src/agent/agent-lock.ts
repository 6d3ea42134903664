/**
 * agent.lock: who runs the agent of an endpoint directory, told by contents (host, boot, process) and never by the age of a file.
 *
 * It is a courtesy on one host: between hosts that share a directory the hub's lease decides, and a holder elsewhere is only reported.
 *
 * Exactly one of many concurrent starters wins, without a lock of the operating system (which network homes do not have):
 *
 *   nobody holds it   link(own file, agent.lock): atomic, fails when it exists
 *   a stale lock S    1. link(own file, agent.lock.after-<hash of S>): one successor per lock, atomic
 *                     2. check that agent.lock still is S (else somebody was faster: step back and start over)
 *                     3. rename(own file, agent.lock), then remove the successor
 *
 * A starter that dies between 1 and 3 leaves a successor that is itself a stale lock: the next one succeeds that.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { link, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';

import type { Clock } from '../base/clock.ts';
import { ConflictError, errorCode, UnavailableError } from '../base/errors.ts';
import { removeIfThere } from '../base/remove-file.ts';
import type { LeaseHolder } from '../protocol/rest.ts';

const LOCK_NAME = 'agent.lock';

/** Rounds after which starters that keep getting in each other's way give up. Each round means that another one has won or died. */
const ROUNDS_MAX = 1000;

/** Who holds the lock of an endpoint directory. */
export interface LockHolder {
  readonly host: string;
  readonly bootId: string;
  /** Process ids mean something only within their namespace; a container has its own. */
  readonly pidNamespace: string;
  readonly pid: number;
  /** Field 22 of /proc/pid/stat: tells a process from a later one of the same id. */
  readonly startTicks: number;
  /** ISO 8601. */
  readonly since: string;
}

/** A lock that this process holds. */
export interface AgentLock {
  readonly holder: LockHolder;
  /** Who held it on another host, and may still run there: the hub's lease decides. */
  readonly foreign?: LockHolder;
  /** Gives it back; idempotent. `toForeign`: the one on another host was wrongly replaced, since the hub did not grant the endpoint. */
  release: (how?: { readonly toForeign: boolean }) => Promise<void>;
}

/**
 * What the lock file says: 'running' on this host, 'stale' (its process is gone), 'absent', or 'foreign' (held on another host or in
 * another container, of which nothing can be said from here).
 */
export type LockState =
  | { readonly state: 'absent' }
  | { readonly state: 'running' | 'stale' | 'foreign'; readonly holder: LockHolder };

/** Whether there is a lock, whoever holds it or held it. */
export function hasLock(directory: string): boolean {
  return existsSync(join(directory, LOCK_NAME));
}

/** Identity of this process for the lease. */
export function thisProcess(): LeaseHolder {
  return {
    host: hostname(),
    boot_id: bootId(),
    pid: process.pid,
    start_ticks: readStartTicks('self') ?? 0,
  };
}

/** Reads the lock of an endpoint directory. */
export async function readLock(directory: string): Promise<LockState> {
  const file = await readLockFile(join(directory, LOCK_NAME));
  return file === undefined
    ? { state: 'absent' }
    : { state: holderState(file.holder), holder: file.holder };
}

/**
 * Takes the lock of an endpoint directory. A stale one is replaced at once, one of another host is replaced and reported.
 *
 * @throws ConflictError ALREADY_RUNNING when a process of this host holds it.
 */
export async function acquireLock(directory: string, clock: Clock): Promise<AgentLock> {
  const holder: LockHolder = {
    ...identity(),
    since: new Date(clock.now()).toISOString(),
  };
  // The nonce makes every lock's text, and with it the name of its successor, unique.
  const text = `${JSON.stringify({ ...holder, nonce: randomBytes(8).toString('hex') })}\n`;
  const draft = join(directory, `${LOCK_NAME}.${process.pid}.${randomBytes(6).toString('hex')}`);
  await writeFile(draft, text, { mode: 0o600, flag: 'wx' });
  try {
    const foreign = await contend(directory, draft);
    return {
      holder,
      ...(foreign === undefined ? {} : { foreign: foreign.holder }),
      release: async ({ toForeign } = { toForeign: false }) => {
        await releaseLock(directory, text, toForeign ? foreign?.text : undefined);
      },
    };
  } finally {
    await removeIfThere(draft);
  }
}

/** Rounds until this process holds the lock or somebody else is known to; returns the foreign lock that was replaced. */
async function contend(directory: string, draft: string): Promise<LockFile | undefined> {
  const path = join(directory, LOCK_NAME);
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const chain = await readChain(directory);
    const last = chain.at(-1);
    if (last === undefined) {
      if (await tryLink(draft, path)) {
        return undefined;
      }
      continue;
    }
    if (holderState(last.holder) === 'running') {
      throw alreadyRunning(directory, last.holder);
    }
    const successor = join(directory, successorName(last.text));
    if (!(await tryLink(draft, successor))) {
      continue;
    }
    const now = await readChain(directory);
    // The chain must be what was judged, with our own file at its end.
    const isUnchanged =
      now.length === chain.length + 1 &&
      chain.every((file, index) => file.text === now[index]?.text);
    if (!isUnchanged) {
      await removeIfThere(successor);
      continue;
    }
    await rename(draft, path);
    await removeSuccessors(directory);
    return holderState(last.holder) === 'foreign' ? last : undefined;
  }
  throw new UnavailableError(
    'START_FAILED',
    `${path} changes hands all the time; look for what keeps starting this endpoint's agent`,
  );
}

interface LockFile {
  readonly text: string;
  readonly holder: LockHolder;
}

/** The lock and its successors: the last one counts. */
async function readChain(directory: string): Promise<LockFile[]> {
  const chain: LockFile[] = [];
  let file = await readLockFile(join(directory, LOCK_NAME));
  while (file !== undefined) {
    chain.push(file);
    file = await readLockFile(join(directory, successorName(file.text)));
  }
  return chain;
}

function successorName(text: string): string {
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 16);
  return `${LOCK_NAME}.after-${hash}`;
}

async function readLockFile(path: string): Promise<LockFile | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
  return { text, holder: parseHolder(text) };
}

/** A lock that is not ours in form was damaged or edited: nobody can be running under it, so it reads as stale. */
function parseHolder(text: string): LockHolder {
  const nobody: LockHolder = { ...identity(), pid: 0, startTicks: 0, since: 'unknown' };
  try {
    const read = JSON.parse(text) as Partial<Record<keyof LockHolder, unknown>> | null;
    const { host, bootId: boot, pidNamespace, pid, startTicks, since } = read ?? {};
    if (
      typeof host === 'string' &&
      typeof boot === 'string' &&
      typeof pidNamespace === 'string' &&
      typeof pid === 'number' &&
      typeof startTicks === 'number' &&
      typeof since === 'string'
    ) {
      return { host, bootId: boot, pidNamespace, pid, startTicks, since };
    }
    return nobody;
  } catch (error) {
    if (error instanceof SyntaxError) {
      return nobody;
    }
    throw error;
  }
}

function holderState(holder: LockHolder): 'running' | 'stale' | 'foreign' {
  const here = identity();
  if (holder.host !== here.host) {
    return 'foreign';
  }
  if (holder.bootId !== here.bootId) {
    return 'stale';
  }
  if (holder.pidNamespace !== here.pidNamespace) {
    return 'foreign';
  }
  return holder.pid > 0 && readStartTicks(String(holder.pid)) === holder.startTicks
    ? 'running'
    : 'stale';
}

function identity(): Omit<LockHolder, 'since'> {
  const { host, boot_id: boot, pid, start_ticks: startTicks } = thisProcess();
  return {
    host,
    bootId: boot,
    pidNamespace: readlinkSync('/proc/self/ns/pid'),
    pid,
    startTicks,
  };
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** Start time of a process in clock ticks since boot; undefined when it is gone or a zombie. */
function readStartTicks(pid: string): number | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ESRCH') {
      return undefined;
    }
    throw error;
  }
  // The name in parentheses may hold anything, also parentheses and spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  return state === 'Z' || state === 'X' ? undefined : Number(fields[19]);
}

function alreadyRunning(directory: string, holder: LockHolder): ConflictError {
  const name = basename(directory);
  return new ConflictError(
    'ALREADY_RUNNING',
    `endpoint ${name} is running already: process ${holder.pid} on ${holder.host} since ${holder.since}; see it with: agent status ${name}, or end it with: agent stop ${name}`,
    { details: { ...holder } },
  );
}

async function releaseLock(
  directory: string,
  text: string,
  restored: string | undefined,
): Promise<void> {
  const path = join(directory, LOCK_NAME);
  // Another host may have taken over meanwhile; its lock is not ours to remove.
  if ((await readLockFile(path))?.text !== text) {
    return;
  }
  if (restored === undefined) {
    await removeIfThere(path);
    return;
  }
  const draft = `${path}.${process.pid}.${randomBytes(6).toString('hex')}`;
  await writeFile(draft, restored, { mode: 0o600, flag: 'wx' });
  await rename(draft, path);
}

async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') {
      return false;
    }
    throw error;
  }
}

/** Removes successors of locks that are no more. Safe while this process holds the lock: nobody may succeed it. */
async function removeSuccessors(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.startsWith(`${LOCK_NAME}.after-`)) {
      await removeIfThere(join(directory, name));
    }
  }
}

/**
 * Who runs the servers of a data directory, on disk, so that a crash leaves nothing that nobody knows.
 *
 * One owner at a time. A record whose owner is dead is a leftover: its servers are ended, each recognised by pid,
 * start tick and boot, never by name. Every server is recorded the moment it is spawned.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import type { Clock } from '../../base/clock.ts';
import { sleep } from '../../base/clock.ts';
import { ConflictError, errorCode, invariant, UnavailableError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { isAlive, processIdentity, signalProcess, workingDirectory } from './process-identity.ts';
import type { ProcessIdentity } from './process-identity.ts';
import { writePrivately } from './server-directory.ts';

interface Record {
  readonly owner: ProcessIdentity;
  readonly servers: readonly (ProcessIdentity & { readonly title: string })[];
}

/** An orphan gets this long to end in order before SIGKILL. */
const ORPHAN_GRACE_MS = 5_000;
const ORPHAN_KILL_MS = 30_000;
/** Only a parent hears of an exit; for a process that is not our child, looking is all there is. */
const LOOK_EVERY_MS = 20;

async function endedWithin(
  clock: Clock,
  identity: ProcessIdentity,
  limitMs: number,
): Promise<boolean> {
  const until = clock.monotonicMs() + limitMs;
  while (isAlive(identity)) {
    if (clock.monotonicMs() >= until) {
      return false;
    }
    await sleep(clock, LOOK_EVERY_MS);
  }
  return true;
}

async function endOrphan(
  clock: Clock,
  logger: Logger,
  identity: ProcessIdentity,
  title: string,
): Promise<void> {
  logger.warn({ pid: identity.pid, title }, 'ending a private server left over by a crashed run');
  // SIGINT is PostgreSQL's fast shutdown; epmd dies of it; the broker ignores it and goes by the second rung.
  signalProcess(identity, title === 'PostgreSQL' ? 'SIGINT' : 'SIGTERM');
  if (await endedWithin(clock, identity, ORPHAN_GRACE_MS)) {
    return;
  }
  signalProcess(identity, 'SIGKILL');
  if (!(await endedWithin(clock, identity, ORPHAN_KILL_MS))) {
    throw new UnavailableError(
      'START_FAILED',
      `${title} of an earlier run (pid ${identity.pid}) does not end; end it with: kill -9 ${identity.pid}`,
    );
  }
}

/** The record of this process as owner of a data directory. */
export class RunningRecord {
  readonly #path: string;
  readonly #owner: ProcessIdentity;
  #servers: Record['servers'] = [];

  private constructor(path: string, owner: ProcessIdentity) {
    this.#path = path;
    this.#owner = owner;
  }

  /** Takes the directory. @throws ConflictError ALREADY_RUNNING when a living process has it. */
  static async take(root: string, clock: Clock, logger: Logger): Promise<RunningRecord> {
    const path = join(root, 'running.json');
    const owner = processIdentity(process.pid);
    invariant(owner !== undefined, 'this process is not in /proc');
    const before = readRecord(path);
    if (before !== undefined && isAlive(before.owner)) {
      throw new ConflictError(
        'ALREADY_RUNNING',
        `process ${before.owner.pid} already runs private servers in ${root}; stop it first, or use another state directory`,
        { details: { pid: before.owner.pid, root } },
      );
    }
    for (const server of before?.servers ?? []) {
      if (isAlive(server)) {
        await endOrphan(clock, logger, server, server.title);
      }
    }
    const record = new RunningRecord(path, owner);
    record.#write();
    return record;
  }

  /** Records a server that was just spawned. */
  add(title: string, identity: ProcessIdentity): void {
    this.#servers = [...this.#servers, { title, ...identity }];
    this.#write();
  }

  /** Gives the directory back, after every server has ended. */
  release(): void {
    rmSync(this.#path, { force: true });
  }

  #write(): void {
    const record: Record = { owner: this.#owner, servers: this.#servers };
    writePrivately(this.#path, `${JSON.stringify(record, undefined, 2)}\n`);
  }
}

function readRecord(path: string): Record | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Record;
  } catch (error) {
    // The record is written by rename, so a torn one means that somebody edited it: it tells us nothing.
    if (errorCode(error) === 'ENOENT' || error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

/**
 * Removes a `postmaster.pid` that would keep PostgreSQL from starting.
 *
 * PostgreSQL believes the file whenever its pid exists, even if that number now belongs to something else (after a reboot, in a
 * container). A postmaster's working directory is its data directory, so that tells; a real one that nobody recorded is ended.
 */
export async function clearPostmasterPid(
  dataDirectory: string,
  clock: Clock,
  logger: Logger,
): Promise<void> {
  const path = join(dataDirectory, 'postmaster.pid');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return;
    }
    throw error;
  }
  const identity = processIdentity(Number(text.split('\n', 1)[0]));
  if (identity !== undefined && workingDirectory(identity.pid) === dataDirectory) {
    await endOrphan(clock, logger, identity, 'PostgreSQL');
  }
  rmSync(path, { force: true });
}

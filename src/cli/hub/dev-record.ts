/**
 * Which `hub dev` runs: `$OUTPOST_HOME/.hub/hub.json`, made by the hub that runs and removed by it.
 *
 * Whether it still runs is answered by pid, start tick and boot, never by the age of the file. The file appears by `link`,
 * which fails when it exists, so that of two starts at the same time one wins.
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { ConflictError, errorCode, InvariantError } from '../../base/errors.ts';
import { isAlive, processIdentity } from '../../hub/dev/process-identity.ts';
import type { ProcessIdentity } from '../../hub/dev/process-identity.ts';

/** Addresses of a `hub dev` that is ready. */
export interface DevAddresses {
  readonly hubUrl: string;
  readonly port: number;
  readonly databaseUrl: string;
  readonly amqpUrl: string;
  readonly managementUrl: string;
}

/** Contents of the record. */
export interface DevHub extends ProcessIdentity {
  readonly startedAt: string;
  /** Absent until it is ready. */
  readonly ready?: DevAddresses;
}

const ATTEMPTS_MAX = 5;

/** Directory of the hub's own things. */
export function hubDirectory(home: string): string {
  return join(home, '.hub');
}

function recordPath(home: string): string {
  return join(hubDirectory(home), 'hub.json');
}

function readRecord(path: string): DevHub | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
  try {
    return JSON.parse(text) as DevHub;
  } catch (error) {
    // It is only ever put in place whole: what does not parse was edited and names no process.
    if (error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

/** The `hub dev` that runs now, if any. */
export function runningDevHub(home: string): DevHub | undefined {
  const record = readRecord(recordPath(home));
  return record !== undefined && isAlive(record) ? record : undefined;
}

/** The answer to a second start. */
export function alreadyRunning(running: DevHub): ConflictError {
  const where = running.ready === undefined ? 'is starting' : `runs at ${running.ready.hubUrl}`;
  return new ConflictError(
    'ALREADY_RUNNING',
    `a hub ${where} already (pid ${running.pid}); stop it with \`hub stop\`, or set OUTPOST_HOME to another directory`,
    { details: { pid: running.pid, hubUrl: running.ready?.hubUrl } },
  );
}

/** The record of this process. */
export class DevRecord {
  readonly #path: string;
  #contents: DevHub;

  private constructor(path: string, contents: DevHub) {
    this.#path = path;
    this.#contents = contents;
  }

  /** Takes the place. @throws ConflictError ALREADY_RUNNING. */
  static take(home: string): DevRecord {
    const identity = processIdentity(process.pid);
    if (identity === undefined) {
      throw new InvariantError('this process is not in /proc');
    }
    mkdirSync(hubDirectory(home), { recursive: true, mode: 0o700 });
    const path = recordPath(home);
    const record = new DevRecord(path, { ...identity, startedAt: new Date().toISOString() });
    for (let attempt = 1; ; attempt += 1) {
      const temporary = record.#writeTemporary();
      try {
        linkSync(temporary, path);
        return record;
      } catch (error) {
        if (errorCode(error) !== 'EEXIST' || attempt === ATTEMPTS_MAX) {
          throw error;
        }
      } finally {
        rmSync(temporary, { force: true });
      }
      clearStale(path);
    }
  }

  /** Writes where the hub is reached. */
  ready(addresses: DevAddresses): void {
    this.#contents = { ...this.#contents, ready: addresses };
    renameSync(this.#writeTemporary(), this.#path);
  }

  /** Gives the place back. */
  release(): void {
    const record = readRecord(this.#path);
    if (record?.pid === this.#contents.pid && record.startTicks === this.#contents.startTicks) {
      rmSync(this.#path, { force: true });
    }
  }

  #writeTemporary(): string {
    const temporary = `${this.#path}.${process.pid}`;
    writeFileSync(temporary, `${JSON.stringify(this.#contents, undefined, 2)}\n`, { mode: 0o600 });
    return temporary;
  }
}

/** Moves a record of a dead process out of the way; puts it back when a living one took the place meanwhile. */
function clearStale(path: string): void {
  const running = readRecord(path);
  if (running !== undefined && isAlive(running)) {
    throw alreadyRunning(running);
  }
  const aside = `${path}.stale-${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    // Somebody else was faster.
    if (errorCode(error) === 'ENOENT') {
      return;
    }
    throw error;
  }
  const moved = readRecord(aside);
  if (moved !== undefined && isAlive(moved)) {
    linkSync(aside, path);
    rmSync(aside, { force: true });
    throw alreadyRunning(moved);
  }
  rmSync(aside, { force: true });
}

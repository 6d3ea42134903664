/**
 * Processor time and memory of the worker host with everything that it has started, from /proc. Only read when somebody asks.
 *
 * The time of a process that has ended is in that of the parent which waited for it. What ended otherwise would make the sum smaller,
 * which a counter must not become: the largest sum of each host is what counts.
 */
import { readFile, readdir } from 'node:fs/promises';

import { errorCode } from '../../base/errors.ts';

/** Linux counts in these everywhere that Node runs (USER_HZ). */
const TICKS_PER_SECOND = 100;
const PROCESSES_MAX = 4096;
/** In /proc/<pid>/stat, behind the name: utime, stime, and both of the children that were waited for. */
const TIME_FIELDS = [11, 12, 13, 14] as const;

/** What a tree of processes uses. */
export interface TreeUsage {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
}

/** Sums up hosts one after the other. */
export class ProcessTreeUsage {
  #pid: number | undefined;
  #largestSeconds = 0;
  /** Of hosts that were replaced. */
  #earlierSeconds = 0;

  /** What the host with this process id uses now, and all hosts so far have used. */
  async read(pid: number | undefined): Promise<TreeUsage> {
    if (pid !== this.#pid) {
      this.#earlierSeconds += this.#largestSeconds;
      this.#largestSeconds = 0;
      this.#pid = pid;
    }
    const now = pid === undefined ? { cpuSeconds: 0, residentBytes: 0 } : await readTree(pid);
    if (pid === this.#pid) {
      this.#largestSeconds = Math.max(this.#largestSeconds, now.cpuSeconds);
    }
    return {
      cpuSeconds: this.#earlierSeconds + this.#largestSeconds,
      residentBytes: now.residentBytes,
    };
  }
}

async function readTree(root: number): Promise<TreeUsage> {
  let ticks = 0;
  let residentBytes = 0;
  const pids = [root];
  for (let pid = pids.shift(), count = 0; pid !== undefined; pid = pids.shift()) {
    ticks += ticksOf(await readProc(`/proc/${pid}/stat`));
    residentBytes += residentBytesOf(await readProc(`/proc/${pid}/status`));
    count += 1;
    if (count + pids.length < PROCESSES_MAX) {
      pids.push(...(await childrenOf(pid)));
    }
  }
  return { cpuSeconds: ticks / TICKS_PER_SECOND, residentBytes };
}

/** A child belongs to the thread that started it. */
async function childrenOf(pid: number): Promise<number[]> {
  const children: number[] = [];
  for (const thread of await threadsOf(pid)) {
    const text = await readProc(`/proc/${pid}/task/${thread}/children`);
    children.push(
      ...text
        .split(' ')
        .filter((word) => word !== '')
        .map(Number),
    );
  }
  return children;
}

function ticksOf(stat: string): number {
  // The name of a program may hold anything, also blanks and brackets.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return TIME_FIELDS.reduce((sum, field) => sum + Number(fields[field] ?? 0), 0);
}

function residentBytesOf(status: string): number {
  return Number(/^VmRSS:\s+(?<kib>\d+) kB$/m.exec(status)?.groups?.['kib'] ?? 0) * 1024;
}

/** Empty when the process has ended meanwhile. */
async function readProc(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isGone(error)) {
      return '';
    }
    throw error;
  }
}

async function threadsOf(pid: number): Promise<string[]> {
  try {
    return await readdir(`/proc/${pid}/task`);
  } catch (error) {
    if (isGone(error)) {
      return [];
    }
    throw error;
  }
}

function isGone(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES';
}

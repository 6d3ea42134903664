/**
 * How many processes the kernel has killed for want of memory: the only way to tell such a kill from any other SIGKILL.
 *
 * The count of our own control group where there is one (version 2, and it says which group ran out); otherwise that of the machine.
 */
import { readFileSync } from 'node:fs';

const CGROUP_ROOT = '/sys/fs/cgroup';

/** The count so far; undefined where the kernel does not tell. Only differences mean something. */
export function countOomKills(read: (path: string) => string = readText): number | undefined {
  const group = /^0::(?<path>\/.*)$/m.exec(read('/proc/self/cgroup'))?.groups?.['path'];
  return (
    (group === undefined
      ? undefined
      : countIn(read(`${CGROUP_ROOT}${group === '/' ? '' : group}/memory.events`))) ??
    countIn(read('/proc/vmstat'))
  );
}

function countIn(text: string): number | undefined {
  const count = /^oom_kill (?<count>\d+)$/m.exec(text)?.groups?.['count'];
  return count === undefined ? undefined : Number(count);
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // Not there on this kernel, or in this container.
    return '';
  }
}

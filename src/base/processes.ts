/**
 * Finds processes by a variable of their environment, which every descendant inherits wherever it goes. Whoever clears the environment
 * of a child hides it; more cannot be seen without rights that nobody here should have.
 */
import { readFileSync, readdirSync } from 'node:fs';

/** Ids of the processes that /proc lists, this one left out. */
export function otherProcesses(): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid);
}

/** Whether a process was started with this variable. Zombies have no environment any more: they count as gone. */
export function hasVariable(pid: number, name: string, value: string): boolean {
  return `\0${readProcessFile(pid, 'environ')}\0`.includes(`\0${name}=${value}\0`);
}

/** A file of a process in /proc; empty when the process is gone or not ours to look at. */
export function readProcessFile(pid: number, file: 'environ' | 'comm' | 'stat'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    // Gone since the directory was read, somebody else's, or no /proc here.
    return '';
  }
}

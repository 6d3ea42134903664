/**
 * Signals to whole process groups. A worker leads a group of its own, so that what a function started ends with it: a
 * signal to the leader alone leaves grandchildren running.
 */
import { readFileSync, readdirSync } from 'node:fs';

import { errorCode } from '../base/errors.ts';

/** Signals the group that `leaderPid` leads. Returns false when no member is left. `signal` 0 only looks. */
export function signalGroup(leaderPid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-leaderPid, signal);
    return true;
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ESRCH') {
      return false;
    }
    // Members that changed their user cannot be signalled; they are alive.
    if (code === 'EPERM') {
      return true;
    }
    throw error;
  }
}

/** Processes of a group other than this one, as far as /proc tells; zombies do not count. */
export function groupMembers(groupId: number): number[] {
  const members: number[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) {
      continue;
    }
    const stat = readStat(pid);
    if (stat?.groupId === groupId && stat.state !== 'Z') {
      members.push(pid);
    }
  }
  return members;
}

/** Group of this process, or undefined where /proc does not tell. */
export function ownGroup(): number | undefined {
  return readStat(process.pid)?.groupId;
}

function readStat(pid: number): { state: string; groupId: number } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    // Gone since the directory was read, or no /proc here.
    return undefined;
  }
  // The name in parentheses may hold anything, so count from its end: state, parent, group.
  const [state, , group] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: state ?? '', groupId: Number(group) };
}

/**
 * Signals to whole process groups. A worker leads a group of its own, so that what a function started ends with it: a
 * signal to the leader alone leaves grandchildren running.
 */
import { errorCode } from '../base/errors.ts';
import { otherProcesses, readProcessFile } from '../base/processes.ts';

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
  return otherProcesses().filter((pid) => {
    const stat = readStat(pid);
    return stat?.groupId === groupId && stat.state !== 'Z';
  });
}

/** Group of this process, or undefined where /proc does not tell. */
export function ownGroup(): number | undefined {
  return readStat(process.pid)?.groupId;
}

function readStat(pid: number): { state: string; groupId: number } | undefined {
  const text = readProcessFile(pid, 'stat');
  if (text === '') {
    return undefined;
  }
  // The name in parentheses may hold anything, so count from its end: state, parent, group.
  const [state, , group] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: state ?? '', groupId: Number(group) };
}

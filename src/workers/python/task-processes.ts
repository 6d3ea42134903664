/**
 * Processes that a task started, wherever they went: a child inherits GC_TASK_UUID in its environment, and /proc shows it. For what
 * has left the process group of an interpreter that was ended (`setsid`, daemons).
 */
import { readFileSync, readdirSync } from 'node:fs';

/** Kills what is left of a task. */
export function killTaskProcesses(taskId: string): void {
  const cookie = `\0GC_TASK_UUID=${taskId}\0`;
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (Number.isInteger(pid) && pid !== process.pid && environmentOf(pid).includes(cookie)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Gone since the directory was read, or it changed its user.
      }
    }
  }
}

function environmentOf(pid: number): string {
  try {
    return `\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}\0`;
  } catch {
    // Gone, or somebody else's.
    return '';
  }
}

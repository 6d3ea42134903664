/**
 * Processes that a task started, wherever they went: a child inherits GC_TASK_UUID in its environment, and /proc shows it. For what
 * has left the process group of an interpreter that was ended (`setsid`, daemons).
 */
import { hasVariable, otherProcesses } from '../../base/processes.ts';

/** Kills what is left of a task. */
export function killTaskProcesses(taskId: string): void {
  for (const pid of otherProcesses()) {
    if (hasVariable(pid, 'GC_TASK_UUID', taskId)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Gone since the directory was read, or it changed its user.
      }
    }
  }
}

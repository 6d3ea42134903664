/** Makes this process, and everything that it will start, stand back when others want the processors. */
import { readdirSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';

import { errorCode } from '../base/errors.ts';

/**
 * Raises the niceness of this process to `nice`; one that is higher already stays, since only the system may lower it.
 * On Linux each thread has its own, and a new one takes its maker's; those that Node has made already are looked up.
 */
export function beNice(nice: number): void {
  if (getPriority() >= nice) {
    return;
  }
  setPriority(nice);
  for (const thread of threads()) {
    try {
      setPriority(thread, nice);
    } catch (error) {
      if (errorCode(error) !== 'ERR_SYSTEM_ERROR') {
        throw error;
      }
      // It ended between the look and the call.
    }
  }
}

function threads(): number[] {
  try {
    return readdirSync('/proc/self/task').map(Number);
  } catch {
    // Not Linux, where niceness belongs to the process.
    return [];
  }
}

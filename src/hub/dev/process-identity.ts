/**
 * Tells one process from a later one with the same number: a pid counts only together with the boot it belongs to
 * and the clock tick at which it started. Nothing is ever signalled by its pid alone.
 */
import { readFileSync, readlinkSync } from 'node:fs';

import { errorCode } from '../../base/errors.ts';

/** One process, recognisable after a crash of ours or a reboot. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: string;
  readonly bootId: string;
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    // ESRCH: the process ended between opening and reading.
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ESRCH') {
      return undefined;
    }
    throw error;
  }
}

/** Identity of a process that lives now, or undefined when there is none (a zombie counts as none). */
export function processIdentity(pid: number): ProcessIdentity | undefined {
  const stat = readProc(`/proc/${pid}/stat`);
  // The command name stands in brackets and may itself hold spaces and brackets.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  const startTicks = fields?.[19];
  if (fields === undefined || startTicks === undefined || /^[ZX]$/.test(fields[0] ?? '')) {
    return undefined;
  }
  return { pid, startTicks, bootId: readProc('/proc/sys/kernel/random/boot_id') ?? '' };
}

/** Whether this very process is still alive. */
export function isAlive(identity: ProcessIdentity): boolean {
  const now = processIdentity(identity.pid);
  return now?.startTicks === identity.startTicks && now.bootId === identity.bootId;
}

/** Working directory of a process, or undefined when it has ended or may not be looked at. */
export function workingDirectory(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errorCode(error) ?? '')) {
      return undefined;
    }
    throw error;
  }
}

/** Sends a signal to exactly this process; false when it is gone. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) {
    return false;
  }
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ESRCH') {
      return false;
    }
    throw error;
  }
}

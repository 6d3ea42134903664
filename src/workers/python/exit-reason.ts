/**
 * Classifies the end of an interpreter once, into a failure with a name and words for the person who submitted the task.
 */
import type { TaskFailureCode } from '../../protocol/host-frames.ts';

/** How an interpreter ended. */
export interface InterpreterExit {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Set when the host ended it because it broke the protocol, with what it did. */
  readonly fault?: string;
  /** Limit of its address space in MiB, if it had one. */
  readonly memoryMb?: number;
  /** Whether the kernel has killed for want of memory meanwhile; absent where it does not tell. */
  readonly wasOutOfMemory?: boolean;
}

/** A named failure. */
export interface ExitReason {
  readonly code: TaskFailureCode;
  readonly message: string;
}

/** So much of stderr stands in the message itself; the whole tail travels as output. */
const STDERR_CHARS_MAX = 1000;

/** What Python, or the libraries under it, say on stderr when they are refused memory. */
const REFUSED_MEMORY = /MemoryError|bad_alloc|can(?:no|'|)t allocate|out of memory/i;

/** How a process ends that was refused memory and was not made for it. */
const CRASH_SIGNALS: ReadonlySet<NodeJS.Signals> = new Set(['SIGSEGV', 'SIGABRT', 'SIGBUS']);

/** Names the end of an interpreter under a task. */
export function classifyExit(exit: InterpreterExit, stderrTail: string): ExitReason {
  const { code, message } = reasonOf(exit);
  const { memoryMb = 0 } = exit;
  const end = quoteStderr(stderrTail);
  const isOwnEnd = exit.fault === undefined && exit.signal !== 'SIGKILL';
  const limit = isOwnEnd ? limitedMemory(memoryMb, stderrTail) : '';
  if (limit !== '') {
    return { code: 'WORKER_KILLED_OOM', message: message + limit + end };
  }
  const isCrash = memoryMb > 0 && exit.signal !== null && CRASH_SIGNALS.has(exit.signal);
  const doubt = isCrash
    ? ` (worker_memory_mb limits it to ${memoryMb} MiB of address space, which not every library survives)`
    : '';
  return { code, message: message + doubt + end };
}

/** Names the limit of memory as the cause, where there is one and what was said tells of it; empty otherwise. */
export function limitedMemory(memoryMb: number, stderrTail: string): string {
  return memoryMb > 0 && REFUSED_MEMORY.test(stderrTail)
    ? `: it ran out of the ${memoryMb} MiB of address space that worker_memory_mb gives it, which the operator of this endpoint can raise`
    : '';
}

/** What an interpreter said before it died, for a message; empty when it said nothing. */
export function quoteStderr(stderrTail: string): string {
  const text = stderrTail.trim().slice(-STDERR_CHARS_MAX);
  return text === '' ? '' : `; the end of its stderr:\n${text}`;
}

function reasonOf({ exitCode, signal, fault, wasOutOfMemory }: InterpreterExit): ExitReason {
  if (fault !== undefined) {
    return {
      code: 'WORKER_PROTOCOL_FAULT',
      message: `the Python interpreter was ended because ${fault}`,
    };
  }
  if (signal === 'SIGKILL' && wasOutOfMemory !== false) {
    return {
      code: 'WORKER_KILLED_OOM',
      message:
        wasOutOfMemory === true
          ? 'the Python interpreter was killed because the machine or its job ran out of memory'
          : 'the Python interpreter was killed by SIGKILL, probably because the machine or its job ran out of memory',
    };
  }
  if (signal === 'SIGKILL') {
    return {
      code: 'WORKER_EXITED',
      message:
        'the Python interpreter was killed by SIGKILL from outside, by a person, a batch system or another program: memory had not run out',
    };
  }
  if (signal !== null) {
    return { code: 'WORKER_EXITED', message: `the Python interpreter was killed by ${signal}` };
  }
  return {
    code: 'WORKER_EXITED',
    message: `the Python interpreter ended with exit code ${exitCode ?? 'unknown'} by itself (a function must return or raise; os._exit() ends the worker)`,
  };
}

/**
 * The life of a process that is a worker host, whoever started it: it owns the end of the process.
 *
 * SIGTERM ends what runs and exits with 0, or lets what runs end first where a service manager sends it; the loss of the agent kills
 * everything at once. Where a thread cannot be ended, `process.exit` would wait for it, so the process kills its own group instead.
 */
import type { Socket } from 'node:net';

import { systemClock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import { WorkerHost } from './host.ts';
import type { HostEnd } from './host.ts';
import { groupMembers, ownGroup, signalGroup } from './process-group.ts';

/** How long what JavaScript functions have started may take to end when the host does. */
const LEFTOVER_MS = 1_000;
const LEFTOVER_POLL_MS = 20;

/** Kills this process with everything in its group. */
function killSelf(): void {
  if (ownGroup() === process.pid) {
    signalGroup(process.pid, 'SIGKILL');
  }
  process.kill(process.pid, 'SIGKILL');
}

/** Ends what functions started in this process's own group (interpreters have groups of their own), then exits. */
function exitCleanly(startedAt = performance.now()): void {
  const leftovers = ownGroup() === process.pid ? groupMembers(process.pid) : [];
  if (leftovers.length === 0) {
    // eslint-disable-next-line n/no-process-exit -- the entry of a process of its own.
    process.exit(0);
  }
  const isOverdue = performance.now() - startedAt > LEFTOVER_MS;
  if (isOverdue) {
    killSelf();
  }
  for (const pid of leftovers) {
    askToEnd(pid);
  }
  setTimeout(() => {
    exitCleanly(startedAt);
  }, LEFTOVER_POLL_MS);
}

function askToEnd(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM');
  } catch (error) {
    // It ended by itself between the look and the signal; anything else shows when the grace is over.
    process.emitWarning(`signalling ${pid}: ${errorText(error)}`);
  }
}

function onEnd(end: HostEnd): void {
  if (end.kind === 'agent-lost') {
    process.stderr.write(`worker host: ${end.reason}; killing all workers\n`);
  }
  if (end.clean) {
    exitCleanly();
  } else {
    killSelf();
  }
}

/** What a host process is given. */
export interface HostProcessOptions {
  /** Connected to the agent. */
  readonly socket: Socket;
  readonly token: string;
  /** Environment of this process; workers see a part of it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Let what runs end when told to end: a second signal, or the agent, cuts that short. */
  readonly drainFirst?: boolean;
}

/** Serves the agent at the other end of the socket until the process ends. */
export function serveAgent({ drainFirst = false, ...options }: HostProcessOptions): void {
  const host = new WorkerHost({ ...options, clock: systemClock, onEnd });
  let mayDrain = drainFirst;
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (mayDrain) {
        mayDrain = false;
        host.drain();
        return;
      }
      host.stop().catch((error: unknown) => {
        process.stderr.write(`worker host: ${errorText(error)}\n`);
        killSelf();
      });
    });
  }
  process.on('exit', () => {
    host.kill();
  });
  process.on('uncaughtException', (error) => {
    // A bug of ours. The agent reports the tasks as lost and starts a new host; leaving would wait for blocked threads.
    process.stderr.write(`worker host: ${error.stack ?? error.message}\n`);
    host.kill();
    killSelf();
  });
  host.start();
}

/**
 * Entry of the worker host process: `node host-main.js <socket path>`, with a one-time token as the first line of its stdin.
 *
 * It owns the end of the process. SIGTERM ends what runs and exits with 0; the loss of the agent kills everything at once. Where a
 * thread cannot be ended, `process.exit` would wait for it, so the process kills its own group instead.
 */
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

import { systemClock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import { WorkerHost } from './host.ts';
import type { HostEnd } from './host.ts';
import { groupMembers, ownGroup, signalGroup } from './process-group.ts';

/** How long connecting and reading the token may take. */
const CONNECT_MS = 10_000;
/** How long what JavaScript functions have started may take to end when the host does. */
const LEFTOVER_MS = 1_000;
const LEFTOVER_POLL_MS = 20;

function fail(reason: string): void {
  process.stderr.write(`worker host: ${reason}\n`);
  // eslint-disable-next-line n/no-process-exit -- the entry of a process of its own.
  process.exit(1);
}

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

async function readToken(): Promise<string | undefined> {
  const lines = createInterface({ input: process.stdin });
  for await (const line of lines) {
    lines.close();
    // The agent may keep its end of the pipe open for ever.
    process.stdin.destroy();
    return line.trim();
  }
  return undefined;
}

async function main(): Promise<void> {
  const [, , socketPath] = process.argv;
  if (socketPath === undefined) {
    fail('usage: host-main.js <socket path>, with a token on stdin; it is started by the agent');
    return;
  }
  const overdue = setTimeout(() => {
    fail(`no token, or no agent at ${socketPath}, within ${CONNECT_MS / 1000} s`);
  }, CONNECT_MS);
  const token = await readToken();
  if (token === undefined || token === '') {
    fail('no token on stdin');
    return;
  }
  const socket = connect(socketPath);
  socket.once('error', (error) => {
    fail(`cannot reach the agent at ${socketPath}: ${errorText(error)}`);
  });
  socket.once('connect', () => {
    clearTimeout(overdue);
    socket.removeAllListeners('error');
    serve(
      new WorkerHost({
        socket,
        token,
        // eslint-disable-next-line n/no-process-env -- handed on to the workers, in part; the host itself is configured by the agent.
        environment: process.env,
        clock: systemClock,
        onEnd,
      }),
    );
  });
}

function serve(host: WorkerHost): void {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
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

main().catch((error: unknown) => {
  fail(errorText(error));
});

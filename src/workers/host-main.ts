/**
 * Entry of the worker host process that an agent starts: `node host-main.js <socket path>`, with a one-time token as the first line of
 * its stdin. What it then does and how it ends: host-process.ts.
 */
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

import { errorText } from '../base/errors.ts';
import { serveAgent } from './host-process.ts';

/** How long connecting and reading the token may take. */
const CONNECT_MS = 10_000;

function fail(reason: string): void {
  process.stderr.write(`worker host: ${reason}\n`);
  // eslint-disable-next-line n/no-process-exit -- the entry of a process of its own.
  process.exit(1);
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
    // eslint-disable-next-line n/no-process-env -- handed on to the workers, in part; the host itself is configured by the agent.
    serveAgent({ socket, token, environment: process.env });
  });
}

main().catch((error: unknown) => {
  fail(errorText(error));
});

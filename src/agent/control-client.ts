/**
 * The command line's side of the control socket: one connection per call, bounded in time.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';

import { systemClock } from '../base/clock.ts';
import {
  AuthError,
  ConflictError,
  InvariantError,
  ProtocolError,
  UnavailableError,
  errorCode,
  errorText,
} from '../base/errors.ts';
import { decodeControlError, LineDecoder } from './control-protocol.ts';
import type { ControlError } from './control-protocol.ts';

const TIMEOUT_MS = 10_000;

/**
 * Calls a method of the running agent and returns its result.
 *
 * @throws ConflictError NOT_RUNNING when nobody listens there; UnavailableError TIMED_OUT when no answer came in time, START_FAILED when
 *   the agent ended during the call; ProtocolError RESPONSE_INVALID; and whatever error the method threw, as the same class and code.
 */
export async function callControl(
  path: string,
  method: string,
  params: Readonly<Record<string, unknown>> = {},
  options: { readonly timeoutMs?: number } = {},
): Promise<unknown> {
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const socket = connect(path);
  const limit = systemClock.after(timeoutMs, () => {
    socket.destroy(
      new UnavailableError(
        'TIMED_OUT',
        `the agent did not answer "${method}" within ${timeoutMs} ms; its log says what keeps it busy`,
      ),
    );
  });
  try {
    socket.write(`${JSON.stringify({ id: 1, method, params })}\n`);
    return parseResponse(await readLine(socket, path, method));
  } finally {
    limit.cancel();
    socket.destroy();
  }
}

async function readLine(socket: Socket, path: string, method: string): Promise<string> {
  const decoder = new LineDecoder();
  return await new Promise<string>((resolve, reject) => {
    socket.on('data', (chunk: Buffer) => {
      try {
        const [line] = decoder.push(chunk);
        if (line !== undefined) {
          resolve(line);
        }
      } catch (error) {
        reject(error instanceof Error ? error : new InvariantError(errorText(error)));
      }
    });
    socket.on('error', (error) => {
      reject(connectionError(error, path, method));
    });
    socket.on('close', () => {
      // No effect when the answer or an error came before.
      reject(agentEnded(method));
    });
  });
}

function connectionError(error: Error, path: string, method: string): Error {
  const code = errorCode(error);
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return new ConflictError(
      'NOT_RUNNING',
      `no agent listens on ${path}: it is not running on this host; start it with: agent start`,
      { cause: error, details: { path } },
    );
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new AuthError('FORBIDDEN', `the control socket ${path} belongs to another user`, {
      cause: error,
    });
  }
  return code === 'EPIPE' || code === 'ECONNRESET' ? agentEnded(method) : error;
}

function agentEnded(method: string): UnavailableError {
  return new UnavailableError(
    'START_FAILED',
    `the agent ended while it was to answer "${method}"; its log says why`,
  );
}

function parseResponse(line: string): unknown {
  let response: unknown;
  try {
    response = JSON.parse(line);
  } catch (error) {
    throw new ProtocolError('RESPONSE_INVALID', 'the agent answered something that is not JSON', {
      cause: error,
    });
  }
  if (typeof response === 'object' && response !== null) {
    if ('error' in response) {
      throw decodeControlError(response.error as ControlError);
    }
    if ('result' in response) {
      return response.result;
    }
  }
  throw new ProtocolError('RESPONSE_INVALID', 'the agent answered without a result or an error');
}

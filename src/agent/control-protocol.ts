/**
 * The control protocol between the command line and a running agent: JSON lines over a Unix socket.
 *
 *   request   {"id": 1, "method": "status", "params": {…}}
 *   response  {"id": 1, "result": …}  or  {"id": 1, "error": {"kind", "code", "message", "details"}}
 */
import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';

import {
  AuthError,
  ComputeError,
  ConfigError,
  ConflictError,
  InvariantError,
  ProtocolError,
  UnavailableError,
  UsageError,
  errorText,
} from '../base/errors.ts';
import type {
  AuthErrorCode,
  ConflictErrorCode,
  ProtocolErrorCode,
  UnavailableErrorCode,
} from '../base/errors.ts';

/** Longest line in either direction, in bytes. */
export const CONTROL_LINE_BYTES_MAX = 4 * 1024 * 1024;

/** Longest path of a socket, in bytes. The system's limit is 107, beyond which it cuts silently; callers append short suffixes. */
const PATH_BYTES_MAX = 99;

/** An error on its way over the control socket. */
export interface ControlError {
  readonly kind: string;
  readonly code: string;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** A response. */
export type ControlResponse =
  | { readonly id: number | string | null; readonly result: unknown }
  | { readonly id: number | string | null; readonly error: ControlError };

/**
 * Path of an endpoint's control socket. The directory is not created, and symbolic links in `endpointDir` are not followed: pass the
 * real path, so that every way to the same directory leads to the same socket.
 */
export function controlSocketPath(where: {
  readonly endpointDir: string;
  /** `$XDG_RUNTIME_DIR`; ignored when the path would become too long. */
  readonly runtimeDir?: string | undefined;
  readonly uid: number;
}): string {
  const hash = createHash('sha256').update(resolve(where.endpointDir)).digest('hex').slice(0, 16);
  const name = `${hash}.sock`;
  if (where.runtimeDir !== undefined && where.runtimeDir !== '') {
    const path = join(where.runtimeDir, 'outpost', name);
    if (Buffer.byteLength(path) <= PATH_BYTES_MAX) {
      return path;
    }
  }
  return join(`/tmp/outpost-${where.uid}`, name);
}

/** Cuts received bytes into lines. */
export class LineDecoder {
  #chunks: Buffer[] = [];
  #bytes = 0;

  /** The lines that `chunk` completes. @throws ProtocolError PAYLOAD_TOO_LARGE when one is longer than CONTROL_LINE_BYTES_MAX. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let rest = chunk;
    for (let end = rest.indexOf(0x0a); end !== -1; end = rest.indexOf(0x0a)) {
      this.#append(rest.subarray(0, end));
      lines.push(Buffer.concat(this.#chunks).toString('utf8'));
      this.#chunks = [];
      this.#bytes = 0;
      rest = rest.subarray(end + 1);
    }
    this.#append(rest);
    return lines;
  }

  #append(part: Buffer): void {
    this.#bytes += part.length;
    if (this.#bytes > CONTROL_LINE_BYTES_MAX) {
      throw new ProtocolError(
        'PAYLOAD_TOO_LARGE',
        `a line on the control socket is longer than ${CONTROL_LINE_BYTES_MAX} bytes`,
      );
    }
    if (part.length > 0) {
      this.#chunks.push(part);
    }
  }
}

/** An error in the form that crosses the socket. */
export function encodeControlError(error: unknown): ControlError {
  if (error instanceof ComputeError) {
    return { kind: error.name, code: error.code, message: error.message, details: error.details };
  }
  return {
    kind: 'InvariantError',
    code: 'INVARIANT',
    message: `the agent failed to answer: ${errorText(error)}; its log says more`,
    details: {},
  };
}

/** The error as it was thrown in the agent, so that the command ends with the same exit code. */
export function decodeControlError(error: ControlError): ComputeError {
  const { kind, code, message } = error;
  const options = { details: error.details };
  switch (kind) {
    case 'AuthError':
      return new AuthError(code as AuthErrorCode, message, options);
    case 'ConfigError':
      return new ConfigError(message, [], options);
    case 'ConflictError':
      return new ConflictError(code as ConflictErrorCode, message, options);
    case 'ProtocolError':
      return new ProtocolError(code as ProtocolErrorCode, message, options);
    case 'UnavailableError':
      return new UnavailableError(code as UnavailableErrorCode, message, options);
    case 'UsageError':
      return new UsageError(message, options);
    default:
      return new InvariantError(message, options);
  }
}

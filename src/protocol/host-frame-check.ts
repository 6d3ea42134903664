/**
 * Frames of a worker host, checked before anybody acts on them. User code shares a process with the sender, so a frame that is whole
 * may still be nonsense: the host is then replaced, and nothing of it reaches the dispatcher.
 */
import { ProtocolError } from '../base/errors.ts';
import type { FrameHeader } from './frames.ts';
import { ENVIRONMENT_REPORTS_MAX } from './host-frames.ts';
import type { HostToAgentFrame } from './host-frames.ts';
import { ENVIRONMENT_TYPES } from './sharing.ts';

type Check = (value: unknown) => boolean;

/** More than any host has places. */
const PLACES_MAX = 100_000;

const isText: Check = (value) => typeof value === 'string';
const isFlag: Check = (value) => typeof value === 'boolean';
const isCount: Check = (value) =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= PLACES_MAX;
const isLanguage: Check = (value) => value === 'javascript' || value === 'python';
const isTexts: Check = (value) => Array.isArray(value) && value.every(isText);

function optional(check: Check): Check {
  return (value) => value === undefined || check(value);
}

const OUTPUT: Readonly<Record<string, Check>> = {
  stdout: optional(isText),
  stderr: optional(isText),
  truncated: optional(isFlag),
};

const isOutput: Check = (value) =>
  typeof value === 'object' && value !== null && wrongField(value, OUTPUT) === undefined;

const RESTARTS: Readonly<Record<string, Check>> = {
  javascript: Number.isSafeInteger,
  python: Number.isSafeInteger,
};

const isRestarts: Check = (value) =>
  typeof value === 'object' && value !== null && wrongField(value, RESTARTS) === undefined;

const REPORT: Readonly<Record<string, Check>> = {
  location: isText,
  type: (value) => ENVIRONMENT_TYPES.some((type) => type === value),
  running: isCount,
  idle: isCount,
  starting: isCount,
  reason: optional(isText),
};

const isReports: Check = (value) =>
  Array.isArray(value) &&
  value.length <= ENVIRONMENT_REPORTS_MAX &&
  value.every(
    (item: unknown) =>
      typeof item === 'object' && item !== null && wrongField(item, REPORT) === undefined,
  );

const ANSWER = { task_id: isText, nonce: isText, output: optional(isOutput) };

const FIELDS: Readonly<Record<HostToAgentFrame['type'], Readonly<Record<string, Check>>>> = {
  hello: { version: Number.isInteger, token: isText, pid: Number.isInteger },
  ready: { javascript: isCount, python: isCount, restarts: optional(isRestarts) },
  result: { ...ANSWER, failed: isFlag },
  failed: { ...ANSWER, code: isText, message: isText, worker_lost: isFlag },
  returned: { nonces: isTexts },
  degraded: { language: isLanguage, reason: isText },
  environments: { list: isReports },
  pong: {},
};

function wrongField(value: object, checks: Readonly<Record<string, Check>>): string | undefined {
  const fields = value as Readonly<Record<string, unknown>>;
  return Object.keys(checks).find((field) => checks[field]?.(fields[field]) === false);
}

/** The header of a frame that a host sent. @throws ProtocolError FRAME_INVALID naming the field. */
export function checkHostFrame(header: FrameHeader): HostToAgentFrame {
  const checks = Object.hasOwn(FIELDS, header.type)
    ? FIELDS[header.type as HostToAgentFrame['type']]
    : undefined;
  if (checks === undefined) {
    throw new ProtocolError(
      'FRAME_INVALID',
      `a worker host sends no frame of type ${JSON.stringify(header.type.slice(0, 40))}`,
    );
  }
  const field = wrongField(header, checks);
  if (field !== undefined) {
    throw new ProtocolError(
      'FRAME_INVALID',
      `frame of type ${header.type}: ${field} is missing or not what it must be`,
    );
  }
  return header as HostToAgentFrame;
}

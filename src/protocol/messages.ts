/**
 * Envelopes of the wire (protocol.md 7): one version byte, then compact JSON `{"message_type":…,"data":{…}}`.
 *
 * Bodies pass through the product unchanged wherever possible: `peekCodeId` reads just enough of a task to route
 * it. Timestamps are nanoseconds and exceed 2^53, so transitions are written by hand and read as bigint.
 */
import { isUtf8 } from 'node:buffer';

import { ProtocolError } from '../base/errors.ts';
import { jsonString } from './json-string.ts';
import { splitSerialized, unpackBuffers } from './serialization.ts';
import { ACTOR_NAMES, TASK_STATES } from './task-state.ts';
import type { ActorName, TaskState, TaskTransition } from './task-state.ts';

const VERSION_BYTE = 0x01;

/** Nanoseconds become text while JSON is parsed, since a number would lose its last digits. In a string the quotes are escaped. */
const NANOSECONDS = /("timestamp":\s*)(\d{16,30})(?=\s*[,}])/g;
/** What tells such text from one that a sender wrote. */
const AS_TEXT = '\\u0000ns:';
const READ_AS_TEXT = '\0ns:';

const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;

const CANONICAL_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Canonical lower-case hyphenated form of a UUID, or undefined when the text is none. */
export function canonicalUuid(text: string): string | undefined {
  if (CANONICAL_UUID.test(text)) {
    return text;
  }
  if (!UUID.test(text)) {
    return undefined;
  }
  const hex = text.replaceAll('-', '').toLowerCase();
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join('-');
}

/** `task`: what the service puts on an endpoint's task queue. */
export interface Task {
  readonly task_id: string;
  /** Function, args and kwargs: three packed buffers. */
  readonly task_buffer: string;
}

/** Why a task failed. `exception` is ours: other readers ignore it (nested unknown keys are dropped silently). */
export interface ResultErrorDetails {
  readonly code: string;
  readonly user_message: string;
  readonly exception?: { readonly type: string; readonly message: string };
}

/** `result`: what an endpoint publishes; it is an error exactly when `error_details` is not null. */
export interface Result {
  readonly task_id: string;
  readonly data: string;
  readonly details: Readonly<Record<string, unknown>> | null;
  readonly error_details: ResultErrorDetails | null;
  readonly task_statuses: readonly TaskTransition[] | null;
}

/** `ep_status_report`: an endpoint's heartbeat. */
export interface EpStatusReport {
  readonly endpoint_id: string;
  readonly global_state: Readonly<Record<string, unknown>>;
  readonly task_statuses: Readonly<Record<string, readonly TaskTransition[]>>;
}

function packEnvelope(messageType: string, dataJson: string): Buffer {
  return Buffer.from(`\x01{"message_type":"${messageType}","data":${dataJson}}`, 'utf8');
}

function transitionJson({ timestamp, state, actor }: TaskTransition): string {
  return `{"timestamp":${timestamp},"state":"${state}","actor":"${actor}"}`;
}

/** Packs a task. */
export function packTask(task: Task): Buffer {
  return packEnvelope(
    'task',
    `{"task_id":"${task.task_id}","container_id":null,"container":null,"task_buffer":${jsonString(task.task_buffer)}}`,
  );
}

/** Packs a result; fields stand in the order of protocol.md 7.1. */
export function packResult(result: Result): Buffer {
  const statuses =
    result.task_statuses === null
      ? 'null'
      : `[${result.task_statuses.map(transitionJson).join(',')}]`;
  return packEnvelope(
    'result',
    `{"task_id":"${result.task_id}","data":${jsonString(result.data)},"details":${JSON.stringify(result.details)},` +
      `"error_details":${JSON.stringify(result.error_details)},"task_statuses":${statuses}}`,
  );
}

/** Packs a heartbeat. */
export function packEpStatusReport(report: EpStatusReport): Buffer {
  const statuses = Object.entries(report.task_statuses).map(
    ([taskId, transitions]) => `"${taskId}":[${transitions.map(transitionJson).join(',')}]`,
  );
  return packEnvelope(
    'ep_status_report',
    `{"endpoint_id":"${report.endpoint_id}","global_state":${JSON.stringify(report.global_state)},"task_statuses":{${statuses.join(',')}}}`,
  );
}

type JsonObject = Record<string, unknown>;

/** Of details and states, which are packed again: writing JSON costs stack where reading it does not. */
const NESTING_LEVELS_MAX = 200;

function invalid(what: string, cause?: unknown): ProtocolError {
  return new ProtocolError('ENVELOPE_INVALID', `message is malformed: ${what}`, { cause });
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function openEnvelope(body: Uint8Array, messageType: string): JsonObject {
  if (body.length === 0) {
    throw invalid('it is empty');
  }
  if (body[0] !== VERSION_BYTE) {
    throw invalid(`protocol version ${body[0] ?? 'none'} is not 1`);
  }
  const bytes = Buffer.from(body.buffer, body.byteOffset + 1, body.length - 1);
  if (!isUtf8(bytes)) {
    throw invalid('it is not UTF-8');
  }
  let envelope: unknown;
  try {
    const text = bytes.toString('utf8');
    // A task has no timestamps, and may be large.
    const isTask = messageType === 'task';
    envelope = JSON.parse(isTask ? text : text.replaceAll(NANOSECONDS, `$1"${AS_TEXT}$2"`));
  } catch (error) {
    throw invalid('it is not JSON', error);
  }
  if (
    !isObject(envelope) ||
    typeof envelope['message_type'] !== 'string' ||
    !isObject(envelope['data'])
  ) {
    throw invalid('it needs message_type and data');
  }
  if (envelope['message_type'] !== messageType) {
    throw new ProtocolError(
      'MESSAGE_TYPE_UNKNOWN',
      `expected a ${messageType} message, got ${envelope['message_type'].slice(0, 40)}`,
    );
  }
  return envelope['data'];
}

function uuidField(data: JsonObject, field: string): string {
  const value = data[field];
  const uuid = typeof value === 'string' ? canonicalUuid(value) : undefined;
  if (uuid === undefined) {
    throw invalid(`${field} is not a UUID`);
  }
  return uuid;
}

function textField(data: JsonObject, field: string): string {
  const value = data[field];
  if (typeof value !== 'string') {
    throw invalid(`${field} is not a string`);
  }
  return value;
}

function objectField(data: JsonObject, field: string): JsonObject | null {
  const value = data[field] ?? null;
  if (value !== null && !isObject(value)) {
    throw invalid(`${field} is not an object`);
  }
  return value;
}

/** An object that is passed on as it is, in which a timestamp is a number like any other. */
function foreignField(data: JsonObject, field: string): JsonObject | null {
  return withNumbers(objectField(data, field)) as JsonObject | null;
}

/** Undoes the rewriting of nanoseconds where the numbers are not ours to keep exact. */
function withNumbers(value: unknown, levelsLeft = NESTING_LEVELS_MAX): unknown {
  if (typeof value === 'string') {
    return value.startsWith(READ_AS_TEXT) ? Number(value.slice(READ_AS_TEXT.length)) : value;
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  if (levelsLeft === 0) {
    throw invalid(`an object in it is nested more than ${NESTING_LEVELS_MAX} levels deep`);
  }
  return Array.isArray(value)
    ? value.map((item) => withNumbers(item, levelsLeft - 1))
    : Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, withNumbers(item, levelsLeft - 1)]),
      );
}

function readTransitions(value: unknown): TaskTransition[] {
  if (!Array.isArray(value)) {
    throw invalid('task_statuses is not a list');
  }
  return value.map((item: unknown) => {
    if (!isObject(item)) {
      throw invalid('a task transition is not an object');
    }
    const { timestamp, state, actor } = item;
    if (!TASK_STATES.includes(state as TaskState) || !ACTOR_NAMES.includes(actor as ActorName)) {
      throw invalid('a task transition has an unknown state or actor');
    }
    return {
      timestamp: readNanoseconds(timestamp),
      state: state as TaskState,
      actor: actor as ActorName,
    };
  });
}

function readNanoseconds(value: unknown): bigint {
  const digits = typeof value === 'string' ? value.replace(READ_AS_TEXT, '') : '';
  if (/^\d{1,30}$/.test(digits)) {
    return BigInt(digits);
  }
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
    throw invalid('the timestamp of a task transition is not an integer');
  }
  return BigInt(value);
}

/** Unpacks a task. @throws ProtocolError ENVELOPE_INVALID or MESSAGE_TYPE_UNKNOWN. */
export function unpackTask(body: Uint8Array): Task {
  const data = openEnvelope(body, 'task');
  return { task_id: uuidField(data, 'task_id'), task_buffer: textField(data, 'task_buffer') };
}

/** Unpacks a result. @throws ProtocolError ENVELOPE_INVALID or MESSAGE_TYPE_UNKNOWN. */
export function unpackResult(body: Uint8Array): Result {
  const data = openEnvelope(body, 'result');
  const error = foreignField(data, 'error_details');
  if (
    error !== null &&
    (typeof error['code'] !== 'string' || typeof error['user_message'] !== 'string')
  ) {
    throw invalid('error_details needs code and user_message');
  }
  return {
    task_id: uuidField(data, 'task_id'),
    data: textField(data, 'data'),
    details: foreignField(data, 'details'),
    error_details: error as ResultErrorDetails | null,
    task_statuses:
      (data['task_statuses'] ?? null) === null ? null : readTransitions(data['task_statuses']),
  };
}

/** Unpacks a heartbeat. @throws ProtocolError ENVELOPE_INVALID or MESSAGE_TYPE_UNKNOWN. */
export function unpackEpStatusReport(body: Uint8Array): EpStatusReport {
  const data = openEnvelope(body, 'ep_status_report');
  const statuses = objectField(data, 'task_statuses') ?? {};
  return {
    endpoint_id: uuidField(data, 'endpoint_id'),
    // Endpoints up to 2.22 sent the state under the message's own name (protocol.md 7.1).
    global_state:
      foreignField(data, 'global_state') ?? foreignField(data, 'ep_status_report') ?? {},
    task_statuses: Object.fromEntries(
      Object.entries(statuses).map(([taskId, list]) => [taskId, readTransitions(list)]),
    ),
  };
}

const TASK_BUFFER_KEY = Buffer.from('"task_buffer":"', 'latin1');
const CODE_PREFIX = /^\d{1,10}\\n([0-9a-z]{2})\\n/;

/**
 * Serialization identifier of a task's function, read without parsing the body when it has the usual form.
 *
 * @throws ProtocolError when the body is not a task or holds no serialized function.
 */
export function peekCodeId(body: Buffer): string {
  const key = body.subarray(0, 1024).indexOf(TASK_BUFFER_KEY);
  if (key !== -1 && body[0] === VERSION_BYTE) {
    const start = key + TASK_BUFFER_KEY.length;
    const match = CODE_PREFIX.exec(body.toString('latin1', start, start + 20));
    if (match?.[1] !== undefined) {
      return match[1];
    }
  }
  const [code] = unpackBuffers(unpackTask(body).task_buffer);
  return splitSerialized(code ?? '').id;
}

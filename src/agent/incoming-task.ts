/**
 * Reads a delivery just far enough to route it: AMQP headers and the function's serialization identifier. The body is not
 * parsed and goes to the worker as it came (protocol.md 5.4).
 */
import { errorText } from '../base/errors.ts';
import {
  ENVIRONMENT_HEADER,
  FUNCTION_UUID_HEADER,
  RESOURCE_SPECIFICATION_HEADER,
  RESULT_SERIALIZERS_HEADER,
  TASK_UUID_HEADER,
} from '../protocol/amqp-headers.ts';
import type { EnvironmentRules } from '../protocol/environments.ts';
import { TASK_BYTES_MAX } from '../protocol/limits.ts';
import { canonicalUuid, peekCodeId, unpackTask } from '../protocol/messages.ts';
import { languageOf, serializerObstacle, unpackBuffers } from '../protocol/serialization.ts';
import type { Language } from '../protocol/serialization.ts';
import type { TaskEnvironment } from '../protocol/sharing.ts';
import type { Delivery } from '../transport/amqp/consumer.ts';
import { environmentObstacle, readTaskEnvironment } from './environments.ts';
import type { TaskFailure } from './task-failure.ts';

/** What the journal keeps beside the body. */
export interface TaskMeta {
  readonly functionId: string;
  readonly language: Language;
  readonly resultSerializers?: readonly string[];
  readonly resourceSpecification?: Readonly<Record<string, unknown>>;
  /** Where the function is to run. */
  readonly environment?: TaskEnvironment;
  /** The task may not run here and ends in this failure; kept, so that a restart does not forget it. */
  readonly refusal?: TaskFailure;
}

/** Outcome of reading a delivery. */
export type IncomingTask =
  | { readonly kind: 'task'; readonly taskId: string; readonly meta: TaskMeta }
  /** The task has a name and so gets a failed result. */
  | { readonly kind: 'refused'; readonly taskId: string; readonly failure: TaskFailure }
  /** Not even a task id can be read: nobody can be told but the log. */
  | { readonly kind: 'garbage'; readonly reason: string };

/** Rules of this endpoint that a task must pass before it is accepted. */
export interface AdmissionRules {
  readonly endpointId: string;
  /** Canonical ids; undefined allows every function. */
  readonly allowedFunctions: ReadonlySet<string> | undefined;
  /** Identifiers of the only serializers that are accepted; undefined accepts all. */
  readonly allowedSerializers?: ReadonlySet<string>;
  /** Execution environments that functions may name; undefined: none. */
  readonly environments?: EnvironmentRules;
  /** Number of places of a language; 0 means that this endpoint does not run it. */
  readonly places: Readonly<Record<Language, number>>;
  /** What tells that this host has a batch scheduler, for which a language may have no places. */
  readonly batchScheduler?: string;
}

/** Reads a delivery. Never throws. */
export function readDelivery(delivery: Delivery, rules: AdmissionRules): IncomingTask {
  const taskId = uuidHeader(delivery, TASK_UUID_HEADER) ?? taskIdOfBody(delivery.body);
  if (taskId === undefined) {
    return {
      kind: 'garbage',
      reason: `no ${TASK_UUID_HEADER} header, and the body is not a task message`,
    };
  }
  const refuse = (code: TaskFailure['code'], message: string): IncomingTask => ({
    kind: 'refused',
    taskId,
    failure: { code, message },
  });
  const functionId = uuidHeader(delivery, FUNCTION_UUID_HEADER);
  if (functionId === undefined) {
    return refuse(
      'ENVELOPE_INVALID',
      `the task message has no valid ${FUNCTION_UUID_HEADER} header`,
    );
  }
  if (rules.allowedFunctions !== undefined && !rules.allowedFunctions.has(functionId)) {
    return refuse(
      'FUNCTION_NOT_ALLOWED',
      `Function ${functionId} not permitted on endpoint ${rules.endpointId}`,
    );
  }
  if (delivery.body.length > TASK_BYTES_MAX) {
    return refuse(
      'ENVELOPE_INVALID',
      `the task message has ${delivery.body.length} bytes, over the limit of ${TASK_BYTES_MAX}`,
    );
  }
  try {
    return readMeta(delivery, taskId, functionId, rules, refuse);
  } catch (error) {
    return refuse('ENVELOPE_INVALID', errorText(error));
  }
}

function readMeta(
  delivery: Delivery,
  taskId: string,
  functionId: string,
  rules: AdmissionRules,
  refuse: (code: TaskFailure['code'], message: string) => IncomingTask,
): IncomingTask {
  const codeId = peekCodeId(delivery.body);
  const language = languageOf(codeId);
  if (language === undefined) {
    return refuse(
      'ENVELOPE_INVALID',
      `the function is serialized as ${JSON.stringify(codeId)}, which is no code serialization that this agent knows`,
    );
  }
  const obstacle =
    rules.allowedSerializers === undefined
      ? undefined
      : serializerObstacle(
          unpackBuffers(unpackTask(delivery.body).task_buffer),
          rules.allowedSerializers,
        );
  if (obstacle !== undefined) {
    return refuse('SERIALIZER_NOT_ALLOWED', obstacle);
  }
  if (rules.places[language] === 0) {
    return { kind: 'refused', taskId, failure: languageNotAvailable(language, rules) };
  }
  const resourceSpecification = readResourceSpecification(
    delivery.headers[RESOURCE_SPECIFICATION_HEADER],
  );
  const environment = readTaskEnvironment(delivery.headers[ENVIRONMENT_HEADER]);
  const unavailable =
    environment === undefined
      ? undefined
      : environmentObstacle(environment, language, rules.environments);
  if (unavailable !== undefined) {
    return { kind: 'refused', taskId, failure: unavailable };
  }
  const resultSerializers = readStringList(delivery.headers[RESULT_SERIALIZERS_HEADER]);
  return {
    kind: 'task',
    taskId,
    meta: {
      functionId,
      language,
      ...(resourceSpecification !== undefined && { resourceSpecification }),
      ...(resultSerializers !== undefined && { resultSerializers }),
      ...(environment !== undefined && { environment }),
    },
  };
}

/** The failure of a task in a language for which this endpoint has no workers. */
export function languageNotAvailable(
  language: Language,
  { batchScheduler }: Pick<AdmissionRules, 'batchScheduler'>,
): TaskFailure {
  const setting = language === 'javascript' ? 'javascript_threads' : 'python_interpreters';
  const why =
    batchScheduler === undefined
      ? ''
      : `, because its host has a batch scheduler (${batchScheduler}) and is taken for a login node`;
  return {
    code: 'LANGUAGE_NOT_AVAILABLE',
    message: `this endpoint runs no ${language} functions${why}: its operator can set ${setting} to 1 or more and restart the agent`,
  };
}

function uuidHeader(delivery: Delivery, name: string): string | undefined {
  const value = delivery.headers[name];
  return typeof value === 'string' ? canonicalUuid(value) : undefined;
}

function taskIdOfBody(body: Buffer): string | undefined {
  try {
    return unpackTask(body).task_id;
  } catch {
    // The caller reports what could not be read; which part of it failed first adds nothing.
    return undefined;
  }
}

/** JSON text; absent, null, empty and "null" all mean none. @throws SyntaxError, or TypeError when it is not an object. */
function readResourceSpecification(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (value === undefined || value === null || value === '') {
    return undefined;
  }
  const parsed: unknown = typeof value === 'string' ? JSON.parse(value) : value;
  if (parsed === null) {
    return undefined;
  }
  if (typeof parsed !== 'object' || Array.isArray(parsed)) {
    throw new TypeError('resource_specification is not a JSON object');
  }
  return parsed as Record<string, unknown>;
}

function readStringList(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value) || value.length === 0) {
    return undefined;
  }
  return value.filter((item): item is string => typeof item === 'string');
}

/**
 * Routes about tasks (protocol.md 3.3: 5 to 9; 4; 6).
 *
 * A submission has no effect before everything about it was checked: ids, rights, limits. What can fail afterwards
 * is the task service's to answer for, and it never answers 5xx after side effects.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';

import type { FastifyInstance, FastifyRequest } from 'fastify';

import { TASK_PACKED_BYTES_MAX } from '../../../protocol/limits.ts';
import type { Submission, SubmissionAccepted, TaskDocument } from '../../../protocol/rest.ts';
import type { TaskEnvironment } from '../../../protocol/sharing.ts';
import type { Caller } from '../../auth/caller.ts';
import { checkSerializers } from '../../catalogue/endpoint-allowlists.ts';
import type { EndpointAccess } from '../../catalogue/endpoint-catalogue.ts';
import { auditRefusal } from '../../groups/audit.ts';
import { HubError } from '../../hub-error.ts';
import { requireStorable } from '../../tasks/task-service.ts';
import type { SubmitRequest, SubmittedFunction } from '../../tasks/task-service.ts';
import { callerOf } from '../authentication.ts';
import { requireUuid } from '../identifiers.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import {
  answers,
  BatchStatusBody,
  IdParams,
  Responses,
  SubmissionBody,
  SubmissionBodyV2,
  SubmissionHeaders,
} from '../schemas.ts';
import { requireTaskCount, submitV2 } from './submit-v2.ts';

interface IdRoute {
  Params: { id: string };
}

const IDEMPOTENCY_KEY_CHARS_MAX = 255;

/** Adds the routes. */
export function taskRoutes(app: FastifyInstance, context: RouteContext): void {
  addSubmitRoutes(app, context);
  addTaskReadingRoutes(app, context);
}

/** A submission from the wire, with canonical ids and without nulls. */
function toSubmission(body: SubmissionBody): Submission {
  return {
    tasks: body.tasks,
    create_queue: body.create_queue ?? false,
    ...(typeof body.task_group_id === 'string'
      ? { task_group_id: requireUuid(body.task_group_id, 'body/task_group_id') }
      : {}),
    ...present('resource_specification', body.resource_specification),
    ...present('user_endpoint_config', body.user_endpoint_config),
    ...present('user_runtime', body.user_runtime),
    ...present('result_serializers', body.result_serializers),
  };
}

function present<K extends string, V>(key: K, value: V | null | undefined): Partial<Record<K, V>> {
  return value === null || value === undefined ? {} : ({ [key]: value } as Record<K, V>);
}

/** Checks everything about a submission, without effects. @throws HubError 400, 403, 404, 413 or 422. */
async function checkSubmission(
  context: RouteContext,
  caller: Caller,
  endpointId: string,
  submission: Submission,
): Promise<SubmitRequest> {
  try {
    return await checkedSubmission(context, caller, endpointId, submission);
  } catch (error) {
    auditRefusal(context.logger, caller, endpointId, error);
    throw error;
  }
}

async function checkedSubmission(
  context: RouteContext,
  caller: Caller,
  endpointId: string,
  submission: Submission,
): Promise<SubmitRequest> {
  const idOf = new Map(
    Object.keys(submission.tasks).map((spelt) => [spelt, requireUuid(spelt, 'body/tasks: a key')]),
  );
  const count = Object.values(submission.tasks).reduce((sum, list) => sum + list.length, 0);
  requireTaskCount(count, context.limits.submissionTasksMax);
  const endpoint = await context.endpoints.usable(caller, endpointId);
  const callable = await context.functions.callable(caller, [...new Set(idOf.values())]);
  const functionCode = new Map<string, SubmittedFunction>();
  for (const [spelt, id] of idOf) {
    if (endpoint.allowedFunctions?.has(id) === false) {
      throw new HubError(
        403,
        'FUNCTION_NOT_PERMITTED',
        `Function ${id} is not permitted on endpoint ${endpointId}; its owner allows only certain functions`,
      );
    }
    const { code, environment } = callable.get(id) ?? { code: '', environment: undefined };
    checkEnvironment(endpoint, id, environment);
    const payloads = submission.tasks[spelt] ?? [];
    checkPayloads(spelt, code, payloads, context.limits.taskBytesMax ?? TASK_PACKED_BYTES_MAX);
    checkSerializers(endpoint.allowedSerializers, spelt, code, payloads);
    functionCode.set(spelt, { id, code, ...(environment !== undefined && { environment }) });
  }
  return { ownerId: caller.id, endpointId, functionCode, submission };
}

/** A function must not run outside of its environment, unknown to who called it: an agent says which kinds it has. @throws HubError 422. */
function checkEnvironment(
  { id, environmentTypes }: EndpointAccess,
  functionId: string,
  environment: TaskEnvironment | undefined,
): void {
  if (environment !== undefined && !environmentTypes.has(environment.type)) {
    throw new HubError(
      422,
      'SEMANTICALLY_INVALID',
      `Function ${functionId} runs in environment ${environment.id} of type ${environment.type}, and endpoint ${id} has ${environmentTypes.size === 0 ? 'no environments' : `only ${[...environmentTypes].join(', ')}`}; ` +
        'ask its operator to allow such environments, or register the function without one',
    );
  }
}

/** A character of a JSON text takes this much at most: an escape. */
const ESCAPE_BYTES_MAX = 6;

/** What a text takes in the message that carries it, where it stands as JSON; for a text that cannot matter, no more than it takes bare. */
function bytesInMessage(text: string): number {
  return text.length * ESCAPE_BYTES_MAX * 2 <= TASK_PACKED_BYTES_MAX
    ? Buffer.byteLength(text)
    : Buffer.byteLength(JSON.stringify(text));
}

function checkPayloads(
  functionId: string,
  code: string,
  payloads: readonly string[],
  bytesMax: number,
): void {
  const codeBytes = bytesInMessage(code);
  for (const [index, payload] of payloads.entries()) {
    requireStorable(payload, index, functionId);
    const payloadBytes = bytesInMessage(payload);
    if (codeBytes + payloadBytes > bytesMax) {
      throw new HubError(
        413,
        'TASK_PAYLOAD_TOO_LARGE',
        `Task ${index + 1} of function ${functionId} is too large: ${payloadBytes} bytes of arguments and ${codeBytes} bytes of ` +
          `function are more than the ${bytesMax} that one task may have (OUTPOST_HUB_TASK_BYTES_MAX); pass large data by reference`,
      );
    }
  }
}

/** Checks a submission and hands it to the task service. @throws HubError 400, 403, 404, 413 or 422. */
async function submitTasks(
  context: RouteContext,
  caller: Caller,
  endpointId: string,
  submission: Submission,
  idempotency?: SubmitRequest['idempotency'],
): Promise<SubmissionAccepted> {
  const request = await checkSubmission(context, caller, endpointId, submission);
  return await context.tasks.submit({
    ...request,
    ...(idempotency === undefined ? {} : { idempotency }),
  });
}

/** The Idempotency-Key with a digest of what it stands for. */
function idempotencyOf(request: FastifyRequest, endpointId: string): SubmitRequest['idempotency'] {
  const key = request.headers['idempotency-key'];
  if (key === undefined) {
    return undefined;
  }
  if (Array.isArray(key) || key === '' || key.length > IDEMPOTENCY_KEY_CHARS_MAX) {
    throw new HubError(
      400,
      'REQUEST_MALFORMED',
      `the Idempotency-Key header must hold 1 to ${IDEMPOTENCY_KEY_CHARS_MAX} characters, once`,
    );
  }
  const requestHash = createHash('sha256')
    .update(endpointId)
    .update('\0')
    .update(request.bodyText ?? '')
    .digest();
  return { key, requestHash };
}

function addSubmitRoutes(app: FastifyInstance, context: RouteContext): void {
  const tags = ['tasks'];
  app.post<IdRoute & { Body: SubmissionBody }>(
    '/v3/endpoints/:id/submit',
    {
      schema: {
        tags,
        params: IdParams,
        headers: SubmissionHeaders,
        body: SubmissionBody,
        response: answers(Responses.submitted),
      },
    },
    async (request) => {
      const id = pathId(request, 'the endpoint id');
      const submission = toSubmission(request.body);
      return await submitTasks(
        context,
        callerOf(request),
        id,
        submission,
        idempotencyOf(request, id),
      );
    },
  );
  app.post<{ Body: SubmissionBodyV2 }>(
    '/v2/submit',
    {
      schema: {
        tags,
        headers: SubmissionHeaders,
        body: SubmissionBodyV2,
        response: answers(Responses.submittedV2),
      },
    },
    async (request) => {
      const caller = callerOf(request);
      return await submitV2(request.body, {
        check: async (endpointId, submission) =>
          await checkSubmission(context, caller, endpointId, submission),
        submit: async (checked) => await context.tasks.submit(checked),
        idempotency: idempotencyOf(request, 'v2'),
        callerId: caller.id,
        tasksMax: context.limits.submissionTasksMax,
      });
    },
  );
}

/** The answer of many large results, page by page as the caller reads it: all of it at once would not fit into memory. */
async function* batchText(
  first: readonly [string, TaskDocument][],
  pages: AsyncIterable<ReadonlyMap<string, TaskDocument>>,
  resultsIn: (documents: ReadonlyMap<string, TaskDocument>) => readonly [string, TaskDocument][],
): AsyncGenerator<string> {
  let separator = '{"response":"batch","results":{';
  const entry = ([spelt, document]: readonly [string, TaskDocument]): string => {
    const text = `${separator}${JSON.stringify(spelt)}:${JSON.stringify(document)}`;
    separator = ',';
    return text;
  };
  for (const result of first) {
    yield entry(result);
  }
  for await (const documents of pages) {
    for (const result of resultsIn(documents)) {
      yield entry(result);
    }
  }
  yield '}}';
}

function addTaskReadingRoutes(app: FastifyInstance, context: RouteContext): void {
  const tags = ['tasks'];
  app.get<IdRoute>(
    '/v2/tasks/:id',
    { schema: { tags, params: IdParams, response: answers(Responses.task) } },
    async (request) => {
      const id = pathId(request, 'the task id');
      const document = (await context.tasks.documents(callerOf(request).id, [id])).get(id);
      if (document === undefined) {
        throw new HubError(404, 'TASK_NOT_FOUND', `Task ${id} could not be found`);
      }
      return document;
    },
  );
  app.post<{ Body: BatchStatusBody }>(
    '/v2/batch_status',
    { schema: { tags, body: BatchStatusBody, response: answers(Responses.batch) } },
    async (request, reply) => {
      // Answered under the id as it was asked for; a task that nobody knows is left out.
      const wanted = request.body.task_ids.map(
        (spelt) => [spelt, requireUuid(spelt, 'body/task_ids')] as const,
      );
      const ids = [...new Set(wanted.map(([, id]) => id))];
      const pages = context.tasks.documentPages(callerOf(request).id, ids);
      const resultsIn = (documents: ReadonlyMap<string, TaskDocument>): [string, TaskDocument][] =>
        wanted.flatMap(([spelt, id]) => {
          const document = documents.get(id);
          return document === undefined ? [] : [[spelt, document]];
        });
      const first = await pages.next();
      const second = first.done === true ? first : await pages.next();
      if (first.done === true || second.done === true) {
        const results = first.done === true ? [] : resultsIn(first.value);
        return { response: 'batch', results: Object.fromEntries(results) };
      }
      const firstTwo = [...resultsIn(first.value), ...resultsIn(second.value)];
      const text = batchText(firstTwo, pages, resultsIn);
      return await reply.type('application/json; charset=utf-8').send(Readable.from(text));
    },
  );
  app.get<IdRoute>(
    '/v2/taskgroup/:id',
    { schema: { tags, params: IdParams, response: answers(Responses.taskGroup) } },
    async (request) => {
      const id = pathId(request, 'the task group id');
      const group = await context.tasks.group(callerOf(request).id, id);
      if (group === undefined) {
        throw new HubError(404, 'TASK_GROUP_NOT_FOUND', `Task group ${id} could not be found`);
      }
      return group;
    },
  );
  app.get(
    '/v2/get_amqp_result_connection_url',
    {
      config: { looksTokenUp: true },
      schema: { tags, response: answers(Responses.resultConnection) },
    },
    async (request) => await context.topology.resultConnection(callerOf(request).id),
  );
}

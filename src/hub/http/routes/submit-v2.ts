/**
 * `POST /v2/submit`: tasks as triples of function, endpoint and payload, answered in their order (protocol.md 3.3).
 *
 * Tasks of several endpoints become one submission for each, in one task group. All of them are checked before the first one
 * is submitted: a caller that got an error submits everything again. Under an Idempotency-Key, each of these submissions has a key of
 * its own, so that a request that broke off between two of them can be repeated.
 */
import { createHash, randomUUID } from 'node:crypto';

import type { Submission, SubmissionAccepted } from '../../../protocol/rest.ts';
import { HubError } from '../../hub-error.ts';
import type { SubmitRequest } from '../../tasks/task-service.ts';
import { requireUuid } from '../identifiers.ts';
import type { SubmissionBodyV2 } from '../schemas.ts';

/** How one submission is checked and made; the second argument names the request as a whole. */
export interface SubmitSteps {
  /** Without effects. */
  readonly check: (endpointId: string, submission: Submission) => Promise<SubmitRequest>;
  readonly submit: (request: SubmitRequest) => Promise<SubmissionAccepted>;
  /** Of the whole request. */
  readonly idempotency: SubmitRequest['idempotency'];
  readonly callerId: string;
  /** Most tasks in one request, over all of its endpoints. */
  readonly tasksMax: number;
}

interface Place {
  readonly index: number;
  readonly functionId: string;
  readonly payload: string;
}

function placesByEndpoint(body: SubmissionBodyV2): Map<string, Place[]> {
  const byEndpoint = new Map<string, Place[]>();
  for (const [index, [spelt, endpoint, payload]] of body.tasks.entries()) {
    const functionId = requireUuid(spelt, 'body/tasks: a function');
    const endpointId = requireUuid(endpoint, 'body/tasks: an endpoint');
    const place = { index, functionId, payload };
    const places = byEndpoint.get(endpointId);
    if (places === undefined) {
      byEndpoint.set(endpointId, [place]);
    } else {
      places.push(place);
    }
  }
  return byEndpoint;
}

const OPTIONS = [
  'resource_specification',
  'user_endpoint_config',
  'user_runtime',
  'result_serializers',
] as const;

/** The options of v3, which the hub takes here as well, without nulls. */
function optionsOf(body: SubmissionBodyV2): Partial<Submission> {
  const options = OPTIONS.map((name) => [name, body[name]] as const);
  return Object.fromEntries(options.filter(([, value]) => value !== undefined && value !== null));
}

/** @throws HubError 413 when there are too many. */
export function requireTaskCount(count: number, tasksMax: number): void {
  if (count > tasksMax) {
    throw new HubError(
      413,
      'BATCH_RUN_TOO_LARGE',
      `the submission holds ${count} tasks, more than the ${tasksMax} allowed (OUTPOST_HUB_SUBMISSION_TASKS_MAX); split it`,
    );
  }
}

/** The task group: that of the request, or a new one, which is the same when the request is repeated. */
function groupIdOf(body: SubmissionBodyV2, { idempotency, callerId }: SubmitSteps): string {
  if (typeof body.task_group_id === 'string') {
    return requireUuid(body.task_group_id, 'body/task_group_id');
  }
  if (idempotency === undefined) {
    return randomUUID();
  }
  const hex = createHash('sha256').update(`group\0${callerId}\0${idempotency.key}`).digest('hex');
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-8$3-8$4-$5');
}

/** The key of one endpoint's submission. */
function keyFor(
  idempotency: SubmitRequest['idempotency'],
  endpointId: string,
): Pick<SubmitRequest, 'idempotency'> {
  if (idempotency === undefined) {
    return {};
  }
  const key = createHash('sha256').update(`${endpointId}\0${idempotency.key}`).digest('hex');
  return { idempotency: { key, requestHash: idempotency.requestHash } };
}

/** Submits and puts the task ids back into the order of the request. */
export async function submitV2(
  body: SubmissionBodyV2,
  steps: SubmitSteps,
): Promise<Record<string, unknown>> {
  requireTaskCount(body.tasks.length, steps.tasksMax);
  const groupId = groupIdOf(body, steps);
  const options = optionsOf(body);
  const checked: { request: SubmitRequest; places: Place[] }[] = [];
  for (const [endpointId, places] of placesByEndpoint(body)) {
    const tasks: Record<string, string[]> = {};
    for (const { functionId, payload } of places) {
      (tasks[functionId] ??= []).push(payload);
    }
    const request = await steps.check(endpointId, {
      ...options,
      tasks,
      create_queue: body.create_websocket_queue ?? false,
      task_group_id: groupId,
    });
    checked.push({ request: { ...request, ...keyFor(steps.idempotency, endpointId) }, places });
  }
  const taskIds: string[] = [];
  for (const { request, places } of checked) {
    const accepted = await steps.submit(request);
    const nextOf = new Map<string, number>();
    for (const { index, functionId } of places) {
      const next = nextOf.get(functionId) ?? 0;
      nextOf.set(functionId, next + 1);
      taskIds[index] = accepted.tasks[functionId]?.[next] ?? '';
    }
  }
  return {
    response: 'success',
    task_group_id: groupId,
    results: taskIds.map((taskId) => ({
      status: 'Success',
      task_uuid: taskId,
      http_status_code: 200,
    })),
  };
}

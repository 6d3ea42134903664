/**
 * `POST /v2/submit`: tasks as triples of function, endpoint and payload, answered in their order (protocol.md 3.3).
 *
 * Tasks of several endpoints become one submission for each, in one task group. All of them are checked before the first one
 * is submitted: a caller that got an error submits everything again.
 */
import { randomUUID } from 'node:crypto';

import type { Submission, SubmissionAccepted } from '../../../protocol/rest.ts';
import type { SubmitRequest } from '../../tasks/task-service.ts';
import { requireUuid } from '../identifiers.ts';
import type { SubmissionBodyV2 } from '../schemas.ts';

interface SubmitSteps {
  /** Without effects. */
  readonly check: (endpointId: string, submission: Submission) => Promise<SubmitRequest>;
  readonly submit: (request: SubmitRequest) => Promise<SubmissionAccepted>;
}

interface Place {
  readonly index: number;
  readonly functionId: string;
  readonly payload: string;
}

function placesByEndpoint(body: SubmissionBodyV2): Map<string, Place[]> {
  const byEndpoint = new Map<string, Place[]>();
  for (const [index, [functionId, endpoint, payload]] of body.tasks.entries()) {
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

/** Submits and puts the task ids back into the order of the request. */
export async function submitV2(
  body: SubmissionBodyV2,
  { check, submit }: SubmitSteps,
): Promise<Record<string, unknown>> {
  const groupId =
    typeof body.task_group_id === 'string'
      ? requireUuid(body.task_group_id, 'body/task_group_id')
      : randomUUID();
  const checked: { request: SubmitRequest; places: Place[] }[] = [];
  for (const [endpointId, places] of placesByEndpoint(body)) {
    const tasks: Record<string, string[]> = {};
    for (const { functionId, payload } of places) {
      (tasks[functionId] ??= []).push(payload);
    }
    const request = await check(endpointId, {
      tasks,
      create_queue: body.create_websocket_queue ?? false,
      task_group_id: groupId,
    });
    checked.push({ request, places });
  }
  const taskIds: string[] = [];
  for (const { request, places } of checked) {
    const accepted = await submit(request);
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

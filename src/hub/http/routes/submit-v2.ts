/**
 * `POST /v2/submit`: tasks as triples of function, endpoint and payload, answered in their order (protocol.md 3.3).
 *
 * Tasks of several endpoints become one submission for each, in one task group.
 */
import { randomUUID } from 'node:crypto';

import type { Submission, SubmissionAccepted } from '../../../protocol/rest.ts';
import { requireUuid } from '../identifiers.ts';
import type { SubmissionBodyV2 } from '../schemas.ts';

type Submit = (endpointId: string, submission: Submission) => Promise<SubmissionAccepted>;

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
  submit: Submit,
): Promise<Record<string, unknown>> {
  const taskIds: string[] = [];
  let groupId =
    typeof body.task_group_id === 'string'
      ? requireUuid(body.task_group_id, 'body/task_group_id')
      : undefined;
  for (const [endpointId, places] of placesByEndpoint(body)) {
    const tasks: Record<string, string[]> = {};
    for (const { functionId, payload } of places) {
      (tasks[functionId] ??= []).push(payload);
    }
    const accepted = await submit(endpointId, {
      tasks,
      create_queue: body.create_websocket_queue ?? false,
      ...(groupId === undefined ? {} : { task_group_id: groupId }),
    });
    groupId = accepted.task_group_id;
    const nextOf = new Map<string, number>();
    for (const { index, functionId } of places) {
      const next = nextOf.get(functionId) ?? 0;
      nextOf.set(functionId, next + 1);
      taskIds[index] = accepted.tasks[functionId]?.[next] ?? '';
    }
  }
  return {
    response: 'success',
    task_group_id: groupId ?? randomUUID(),
    results: taskIds.map((taskId) => ({
      status: 'Success',
      task_uuid: taskId,
      http_status_code: 200,
    })),
  };
}

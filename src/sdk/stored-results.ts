/** Results that are too large for a document or a message: the hub keeps them, and they are fetched when they are asked for. */
import type { HubClient } from '../client/hub-client.ts';
import type { TaskDocument } from '../protocol/rest.ts';

/** The document with its result in it: fetched when the hub keeps that by itself, the same document otherwise. */
export async function documentInFull(
  hub: HubClient,
  document: TaskDocument,
  signal?: AbortSignal,
): Promise<TaskDocument> {
  if (document.outpost?.blob === undefined) {
    return document;
  }
  const result = await hub.taskResult(document.task_id, signal);
  // Without the failure that stands in for the result.
  const { task_id: taskId, completion_t: completedAt, outpost } = document;
  const { stdout, stderr, output_truncated: isTruncated } = outpost;
  const { error_details: error, details } = result;
  return {
    task_id: taskId,
    ...(completedAt !== undefined && { completion_t: completedAt }),
    ...(details !== null && { details }),
    status: error === null ? 'success' : 'failed',
    ...(error === null ? { result: result.data } : { exception: result.data }),
    outpost: {
      ...(stdout !== undefined && { stdout }),
      ...(stderr !== undefined && { stderr }),
      ...(isTruncated !== undefined && { output_truncated: isTruncated }),
      ...(error !== null && {
        error: {
          code: error.code,
          ...(typeof error.exception?.type === 'string' && { type: error.exception.type }),
          ...(typeof error.exception?.message === 'string' && { message: error.exception.message }),
        },
      }),
    },
  };
}

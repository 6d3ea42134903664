/**
 * Tasks as the API sees them: submit, status, groups. Who may use which endpoint and function was decided before.
 *
 * S1 A submission is stored whole or not at all, and what follows the commit cannot fail the request: the original SDK
 *    sends a submission again after a 5xx, which would run its tasks twice.
 * S2 The queue of the task group is there before the answer: the SDK consumes from it at once.
 * S3 Only the owner of a task sees it.
 */
import { randomUUID } from 'node:crypto';

import type { Kysely } from 'kysely';

import { canonicalUuid } from '../../protocol/messages.ts';
import type { Submission, SubmissionAccepted, TaskDocument } from '../../protocol/rest.ts';
import { taskQueueName } from '../broker/topology-table.ts';
import type { BrokerTopology } from '../broker/topology.ts';
import type { HubDatabase } from '../db/schema.ts';
import { HubError } from '../hub-error.ts';
import { earlierAnswer, insertSubmission } from './submit-tasks.ts';
import type { NewTask } from './submit-tasks.ts';
import { taskDocument } from './task-document.ts';
import type { PublishableTask, TaskOptions } from './task-message.ts';

/** A submission whose caller, endpoint and functions were checked. */
export interface SubmitRequest {
  readonly ownerId: string;
  readonly endpointId: string;
  /** By function id as the caller spelt it. */
  readonly functionCode: ReadonlyMap<string, { readonly id: string; readonly code: string }>;
  readonly submission: Submission;
  readonly idempotency?: { readonly key: string; readonly requestHash: Buffer };
}

/** A task group as the API shows it. */
export interface TaskGroupDocument {
  readonly taskgroup_id: string;
  readonly tasks: { readonly id: string; readonly created_at: string }[];
}

/** Tasks from submission to result. */
export interface TaskService {
  /** @throws HubError 403, 404 or 422; UnavailableError before anything was stored. */
  submit: (request: SubmitRequest) => Promise<SubmissionAccepted>;
  /** Status documents of those that exist and are the owner's, by their ids as spelt. */
  documents: (ownerId: string, taskIds: readonly string[]) => Promise<Map<string, TaskDocument>>;
  /** undefined when there is no such group or it is somebody else's. */
  group: (ownerId: string, groupId: string) => Promise<TaskGroupDocument | undefined>;
}

/** In UTF-8. They travel as headers, all of which amqplib encodes into 64 KiB. */
const OPTIONS_BYTES_MAX = 32 * 1024;
/** Tasks read by one statement; each may carry a result of ten megabytes. */
const READ_TASKS_MAX = 128;

/** Settings of a {@link StoredTaskService}. */
export interface TaskServiceOptions {
  readonly db: Kysely<HubDatabase>;
  readonly topology: Pick<BrokerTopology, 'declareTaskGroupQueue'>;
  /** Takes over what is committed. Must not throw. */
  readonly publish: (tasks: readonly PublishableTask[]) => void;
}

/** Tasks in the database. */
export class StoredTaskService implements TaskService {
  readonly #db: Kysely<HubDatabase>;
  readonly #options: TaskServiceOptions;

  constructor(options: TaskServiceOptions) {
    this.#db = options.db;
    this.#options = options;
  }

  async submit(request: SubmitRequest): Promise<SubmissionAccepted> {
    const { ownerId, endpointId, submission, idempotency } = request;
    const options = taskOptions(submission);
    const groupId = groupIdOf(submission);
    const { tasks, idsByFunction } = newTasks(request);
    if (idempotency !== undefined) {
      const earlier = await earlierAnswer(this.#db, ownerId, idempotency);
      if (earlier !== undefined) {
        return inOrderOf(submission, earlier);
      }
    }
    const hasQueue = submission.create_queue === true;
    if (hasQueue) {
      // Before anything is stored (S1). A queue that stays unused goes by itself.
      await this.#options.topology.declareTaskGroupQueue(ownerId, groupId);
    }
    const accepted: SubmissionAccepted = {
      request_id: randomUUID(),
      task_group_id: groupId,
      endpoint_id: endpointId,
      tasks: idsByFunction,
    };
    const outcome = await insertSubmission(this.#db, {
      ownerId,
      endpointId,
      groupId,
      hasQueue,
      options,
      tasks,
      accepted,
      idempotency,
    });
    if (outcome.kind === 'replayed') {
      return inOrderOf(submission, outcome.accepted);
    }
    const { createdAt, queueSuffix } = outcome;
    const queue = taskQueueName({ id: endpointId, queueSuffix });
    this.#options.publish(
      tasks.map((task) => ({ ...task, endpointId, queue, options, createdAt })),
    );
    return accepted;
  }

  async documents(ownerId: string, taskIds: readonly string[]): Promise<Map<string, TaskDocument>> {
    const documents = new Map<string, TaskDocument>();
    for (let start = 0; start < taskIds.length; start += READ_TASKS_MAX) {
      await this.#readDocuments(ownerId, taskIds.slice(start, start + READ_TASKS_MAX), documents);
    }
    return documents;
  }

  async group(ownerId: string, groupId: string): Promise<TaskGroupDocument | undefined> {
    const id = canonicalUuid(groupId);
    const group =
      id === undefined
        ? undefined
        : await this.#db
            .selectFrom('task_groups')
            .select('id')
            .where('id', '=', id)
            .where('owner_id', '=', ownerId)
            .executeTakeFirst();
    if (group === undefined) {
      return undefined;
    }
    const rows = await this.#db
      .selectFrom('tasks')
      .select(['id', 'created_at'])
      .where('group_id', '=', group.id)
      .orderBy('created_at')
      .orderBy('id')
      .execute();
    return {
      taskgroup_id: group.id,
      tasks: rows.map((row) => ({ id: row.id, created_at: row.created_at.toISOString() })),
    };
  }

  async #readDocuments(
    ownerId: string,
    taskIds: readonly string[],
    documents: Map<string, TaskDocument>,
  ): Promise<void> {
    const canonicalIds = taskIds.map((taskId) => canonicalUuid(taskId));
    const wanted = canonicalIds.filter((id) => id !== undefined);
    if (wanted.length === 0) {
      return;
    }
    const rows = await this.#db
      .selectFrom('tasks')
      .select(['id', 'state', 'completed_at', 'result', 'output'])
      .where('id', 'in', wanted)
      .where('owner_id', '=', ownerId)
      .execute();
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const [index, taskId] of taskIds.entries()) {
      const row = byId.get(canonicalIds[index] ?? '');
      if (row !== undefined) {
        documents.set(taskId, taskDocument(taskId, row));
      }
    }
  }
}

/** Only what travels with the tasks. */
function taskOptions(submission: Submission): TaskOptions | null {
  const { resource_specification: resources, result_serializers: serializers } = submission;
  if (resources === undefined && serializers === undefined) {
    return null;
  }
  const options: TaskOptions = {
    ...(resources !== undefined && { resource_specification: resources }),
    ...(serializers !== undefined && { result_serializers: serializers }),
  };
  if (Buffer.byteLength(JSON.stringify(options)) > OPTIONS_BYTES_MAX) {
    throw new HubError(
      422,
      'SEMANTICALLY_INVALID',
      `resource_specification and result_serializers are larger than ${OPTIONS_BYTES_MAX} bytes together; pass large values as arguments`,
    );
  }
  return options;
}

function groupIdOf({ task_group_id: given }: Submission): string {
  if (given === undefined) {
    return randomUUID();
  }
  const id = canonicalUuid(given);
  if (id === undefined) {
    throw new HubError(400, 'INVALID_UUID', 'task_group_id is not a UUID');
  }
  return id;
}

/** PostgreSQL has no NUL in text. @throws HubError 422. */
export function requireStorable(payload: string, index: number, functionId: string): void {
  if (payload.includes('\0')) {
    throw new HubError(
      422,
      'SEMANTICALLY_INVALID',
      `Task ${index + 1} of function ${functionId} has a NUL character in its arguments; encode them (base64, for one)`,
    );
  }
}

function newTasks({ submission, functionCode }: SubmitRequest): {
  tasks: (NewTask & { functionCode: string })[];
  idsByFunction: Record<string, string[]>;
} {
  const tasks: (NewTask & { functionCode: string })[] = [];
  const idsByFunction: Record<string, string[]> = {};
  for (const [spelt, payloads] of Object.entries(submission.tasks)) {
    const found = functionCode.get(spelt);
    if (found === undefined) {
      throw new HubError(404, 'FUNCTION_NOT_FOUND', `Function ${spelt} could not be found`);
    }
    idsByFunction[spelt] = payloads.map((payload, index) => {
      requireStorable(payload, index, spelt);
      const id = randomUUID();
      tasks.push({ id, functionId: found.id, functionCode: found.code, payload });
      return id;
    });
  }
  return { tasks, idsByFunction };
}

/** The database does not keep the order of keys; the request has it. */
function inOrderOf({ tasks }: Submission, accepted: SubmissionAccepted): SubmissionAccepted {
  return {
    ...accepted,
    tasks: Object.fromEntries(Object.keys(tasks).map((key) => [key, accepted.tasks[key] ?? []])),
  };
}

/**
 * Tasks as the API sees them: submit, status, groups. Who may use which endpoint and function was decided before.
 *
 * S1 A submission is stored whole or not at all, and what follows the commit cannot fail the request: the original SDK
 *    sends a submission again after a 5xx, which would run its tasks twice.
 * S2 The queue of the task group is there before the answer: the SDK consumes from it at once.
 * S3 Only the owner of a task sees it.
 */
import { randomUUID } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import { canonicalUuid } from '../../protocol/messages.ts';
import type { Submission, SubmissionAccepted, TaskDocument } from '../../protocol/rest.ts';
import type { TaskEnvironment } from '../../protocol/sharing.ts';
import { taskQueueName } from '../broker/topology-table.ts';
import type { BrokerTopology } from '../broker/topology.ts';
import type { HubDatabase } from '../db/schema.ts';
import { storableJson } from '../db/storable-json.ts';
import { HubError } from '../hub-error.ts';
import { storeHandBack } from './hand-back.ts';
import type { HandBack } from './hand-back.ts';
import { earlierAnswer, insertSubmission } from './submit-tasks.ts';
import type { NewTask } from './submit-tasks.ts';
import { taskDocument } from './task-document.ts';
import type { TaskRow } from './task-document.ts';
import type { PublishableTask, TaskOptions } from './task-message.ts';

/** A function that was checked. */
export interface SubmittedFunction {
  readonly id: string;
  readonly code: string;
  readonly environment?: TaskEnvironment;
}

/** A submission whose caller, endpoint and functions were checked. */
export interface SubmitRequest {
  readonly ownerId: string;
  readonly endpointId: string;
  /** By function id as the caller spelt it. */
  readonly functionCode: ReadonlyMap<string, SubmittedFunction>;
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
  /** The same in portions whose results are bounded in bytes, each as it is asked for. */
  documentPages: (
    ownerId: string,
    taskIds: readonly string[],
  ) => AsyncGenerator<Map<string, TaskDocument>, void>;
  /** Takes back tasks that an agent acked and has not started, and publishes them again. Returns how many. */
  handBack: (handBack: HandBack) => Promise<number>;
  /** undefined when there is no such group or it is somebody else's. */
  group: (ownerId: string, groupId: string) => Promise<TaskGroupDocument | undefined>;
}

/** In UTF-8. They travel as headers, all of which amqplib encodes into 64 KiB. */
const OPTIONS_BYTES_MAX = 32 * 1024;
/** Tasks read by one statement, in count and in bytes of their results; exceeded only by a single result. */
const READ_TASKS_MAX = 1_000;
const READ_BYTES_MAX = 16 * 1024 * 1024;

/** Settings of a {@link StoredTaskService}. */
export interface TaskServiceOptions {
  readonly db: Kysely<HubDatabase>;
  readonly clock: Clock;
  readonly topology: Pick<BrokerTopology, 'declareTaskGroupQueue'>;
  /** Takes over what is committed. Must not throw. */
  readonly publish: (tasks: readonly PublishableTask[]) => void;
  /** Publishes what nobody has published, however young. Must not throw. */
  readonly relay: () => void;
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
    const outcome = await insertSubmission(
      this.#db,
      { ownerId, endpointId, groupId, hasQueue, options, tasks, accepted, idempotency },
      this.#options.clock,
    );
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
    for await (const page of this.documentPages(ownerId, taskIds)) {
      for (const [taskId, document] of page) {
        documents.set(taskId, document);
      }
    }
    return documents;
  }

  async *documentPages(
    ownerId: string,
    taskIds: readonly string[],
  ): AsyncGenerator<Map<string, TaskDocument>, void> {
    const speltById = new Map<string, string[]>();
    for (const spelt of taskIds) {
      const id = canonicalUuid(spelt);
      if (id !== undefined) {
        speltById.set(id, [...(speltById.get(id) ?? []), spelt]);
      }
    }
    const ids = [...speltById.keys()].sort();
    while (ids.length > 0) {
      const wanted = ids.splice(0, READ_TASKS_MAX);
      const { rows, existingCount } = await readTasks(this.#db, ownerId, wanted);
      const last = rows.at(-1);
      if (last !== undefined && rows.length < existingCount) {
        // In the order of the database, which is that of the texts.
        ids.unshift(...wanted.filter((id) => id > last.id));
      }
      const page = new Map<string, TaskDocument>();
      for (const row of rows) {
        for (const spelt of speltById.get(row.id) ?? []) {
          page.set(spelt, taskDocument(spelt, row));
        }
      }
      yield page;
    }
  }

  async handBack(handBack: HandBack): Promise<number> {
    const count = await storeHandBack(this.#db, handBack);
    if (count > 0) {
      this.#options.relay();
    }
    return count;
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
}

/** Tasks of an owner by id, as many as fit into READ_BYTES_MAX, and how many there are. */
async function readTasks(
  db: Kysely<HubDatabase>,
  ownerId: string,
  ids: readonly string[],
): Promise<{ rows: readonly (TaskRow & { readonly id: string })[]; existingCount: number }> {
  const { rows } = await sql<TaskRow & { readonly id: string; readonly existing_count: number }>`
    with sized as (
      select id, coalesce(octet_length(result), 0) as bytes from tasks
      where id = any(${ids}::uuid[]) and owner_id = ${ownerId}::uuid
    ), placed as (
      select id, sum(bytes) over (order by id) - bytes as bytes_before, count(*) over ()::int as existing_count from sized
    )
    select t.id, t.state, t.completed_at, t.result, t.output, t.provisional, p.existing_count
    from placed p join tasks t on t.id = p.id
    where p.bytes_before < ${READ_BYTES_MAX} order by t.id`.execute(db);
  return { rows, existingCount: rows[0]?.existing_count ?? 0 };
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
  if (Buffer.byteLength(storableJson(options, 'body')) > OPTIONS_BYTES_MAX) {
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

// With the flag, surrogates match only where they are no pair.
const UNSTORABLE = /[\0\p{Cs}]/u;

/** PostgreSQL's text has no NUL, and UTF-8 no half of a surrogate pair: it would silently become another character. @throws HubError 422. */
export function requireStorable(payload: string, index: number, functionId: string): void {
  if (UNSTORABLE.test(payload)) {
    throw new HubError(
      422,
      'SEMANTICALLY_INVALID',
      `Task ${index + 1} of function ${functionId} has a NUL character or half of a surrogate pair in its arguments; encode them (base64, for one)`,
    );
  }
}

type CodedTask = NewTask & Pick<PublishableTask, 'functionCode' | 'environment'>;

function newTasks({ submission, functionCode }: SubmitRequest): {
  tasks: CodedTask[];
  idsByFunction: Record<string, string[]>;
} {
  const tasks: CodedTask[] = [];
  const idsByFunction: Record<string, string[]> = {};
  for (const [spelt, payloads] of Object.entries(submission.tasks)) {
    const found = functionCode.get(spelt);
    if (found === undefined) {
      throw new HubError(404, 'FUNCTION_NOT_FOUND', `Function ${spelt} could not be found`);
    }
    const { id: functionId, code, environment } = found;
    const shared = { functionId, functionCode: code, ...(environment && { environment }) };
    idsByFunction[spelt] = payloads.map((payload, index) => {
      requireStorable(payload, index, spelt);
      const id = randomUUID();
      tasks.push({ id, ...shared, payload });
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

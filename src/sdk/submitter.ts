/**
 * Hands batches of tasks to the hub.
 *
 *  B1 A batch is sent under one Idempotency-Key, with the same bytes at every attempt: the hub takes it once.
 *  B2 A batch that the hub refuses because of one of its parts is sent again in parts, under new keys (a refusal has no
 *     effect), so that only the futures of that part fail.
 *  B3 Each future of a batch is told its task, or rejected.
 */
import { randomUUID } from 'node:crypto';

import type { Clock } from '../base/clock.ts';
import { ComputeError, ProtocolError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import type { Submission, SubmissionAccepted } from '../protocol/rest.ts';
import type { FutureControl } from './compute-future.ts';
import { SubmissionError } from './errors.ts';
import type { QueuedTask } from './submission-queue.ts';
import { untilAvailable } from './until-available.ts';

/** A task whose future is awaited. */
export interface SubmittedTask extends QueuedTask {
  readonly functionName: string;
  readonly control: FutureControl<unknown>;
}

/** What a submission carries beside its tasks. */
export type SubmissionSettings = Omit<Submission, 'tasks' | 'result_serializers'>;

/** The same in the program's words. */
export interface TaskSettings {
  readonly taskGroupId?: string | undefined;
  readonly resourceSpecification?: Readonly<Record<string, unknown>> | undefined;
  readonly userEndpointConfig?: Readonly<Record<string, unknown>> | undefined;
}

/** The part of a submission that is the same for all its tasks. */
export function submissionSettings(
  { taskGroupId, resourceSpecification, userEndpointConfig }: TaskSettings,
  createQueue: boolean,
): SubmissionSettings {
  return {
    create_queue: createQueue,
    ...(taskGroupId === undefined ? {} : { task_group_id: taskGroupId }),
    ...(resourceSpecification === undefined
      ? {}
      : { resource_specification: resourceSpecification }),
    ...(userEndpointConfig === undefined ? {} : { user_endpoint_config: userEndpointConfig }),
  };
}

/** Settings of a {@link Submitter}. */
export interface SubmitterOptions {
  readonly hub: HubClient;
  readonly endpointId: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long a batch is tried again while the hub is not available. */
  readonly retryForMs: number;
  /** Ends requests and pauses. */
  readonly signal: AbortSignal;
  /** Asked when a batch is sent. */
  readonly settings: () => SubmissionSettings;
  /** The hub has taken a batch. Called before its tasks are told. */
  readonly onAccepted: (taskGroupId: string) => void;
  readonly onTask: (taskId: string, task: SubmittedTask) => void;
}

/** Refusals on account of one function. */
const FUNCTION_CODES: ReadonlySet<unknown> = new Set([
  'FUNCTION_NOT_FOUND',
  'FUNCTION_ACCESS_FORBIDDEN',
  'FUNCTION_NOT_PERMITTED',
]);

/** Sends batches. */
export class Submitter {
  readonly #options: SubmitterOptions;

  constructor(options: SubmitterOptions) {
    this.#options = options;
  }

  /** Sends a batch; its failure is that of its futures. Never rejects. */
  async send(batch: readonly SubmittedTask[]): Promise<void> {
    const wanted = batch.filter(({ control }) => !control.future.isDone);
    if (wanted.length === 0) {
      return;
    }
    try {
      this.#assign(wanted, await this.#submit(wanted));
    } catch (error) {
      const parts = partsAfter(error, wanted);
      for (const part of parts) {
        await this.send(part); // B2
      }
      if (parts.length === 0) {
        for (const { control } of wanted) {
          control.reject(error as Error);
        }
      }
    }
  }

  async #submit(batch: readonly SubmittedTask[]): Promise<SubmissionAccepted> {
    const { hub, endpointId, clock, logger, retryForMs, signal } = this.#options;
    const submission: Submission = {
      ...this.#options.settings(),
      tasks: Object.fromEntries(
        [...byFunction(batch)].map(([id, tasks]) => [id, tasks.map(({ payload }) => payload)]),
      ),
      ...resultSerializersOf(batch[0]),
    };
    const idempotencyKey = randomUUID();
    const startedMs = clock.monotonicMs();
    return await untilAvailable(
      async () => await hub.submit(endpointId, submission, { idempotencyKey, signal }), // B1
      {
        clock,
        logger,
        retryForMs,
        signal,
        isWanted: () => batch.some(({ control }) => !control.future.isDone),
        onGivenUp: (last, attempts) =>
          new SubmissionError(batch.length, attempts, clock.monotonicMs() - startedMs, last),
      },
    );
  }

  #assign(batch: readonly SubmittedTask[], accepted: SubmissionAccepted): void {
    this.#options.onAccepted(accepted.task_group_id);
    for (const [functionId, tasks] of byFunction(batch)) {
      const ids = accepted.tasks[functionId] ?? [];
      for (const [index, task] of tasks.entries()) {
        const taskId = ids[index];
        if (taskId === undefined || ids.length !== tasks.length) {
          task.control.reject(
            new ProtocolError(
              'RESPONSE_INVALID',
              `the hub took ${tasks.length} tasks of "${task.functionName}" for endpoint ${this.#options.endpointId} and named ${ids.length}`,
            ),
          );
        } else {
          task.control.submitted(taskId);
          this.#options.onTask(taskId, task);
        }
      }
    }
  }
}

/** How a task wants its result serialized, as a submission says it. */
export function resultSerializersOf(
  task: Pick<QueuedTask, 'resultSerializers'> | undefined,
): Pick<Submission, 'result_serializers'> {
  return task === undefined || task.resultSerializers.length === 0
    ? {}
    : { result_serializers: task.resultSerializers };
}

function byFunction(batch: readonly SubmittedTask[]): Map<string, SubmittedTask[]> {
  const groups = new Map<string, SubmittedTask[]>();
  for (const task of batch) {
    const group = groups.get(task.functionId);
    if (group === undefined) {
      groups.set(task.functionId, [task]);
    } else {
      group.push(task);
    }
  }
  return groups;
}

/** The parts to send instead of a batch that was refused; none when every part would be refused alike. */
function partsAfter(error: unknown, batch: readonly SubmittedTask[]): SubmittedTask[][] {
  if (!(error instanceof ComputeError) || batch.length < 2) {
    return [];
  }
  if (error.code === 'PAYLOAD_TOO_LARGE') {
    const middle = Math.ceil(batch.length / 2);
    return [batch.slice(0, middle), batch.slice(middle)];
  }
  if (FUNCTION_CODES.has(error.details['hubCode'])) {
    const functions = [...byFunction(batch).values()];
    return functions.length > 1 ? functions : [];
  }
  return [];
}

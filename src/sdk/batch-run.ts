/**
 * Submits a batch: for each endpoint as few requests as its bounds allow, all tasks in one task group.
 *
 *   tasks ─by endpoint─▶ queue ─portions─▶ Submitter (Idempotency-Key, splits what is refused) ─▶ ids, in the order of the batch
 *
 * Endpoints take turns until an answer names the group; the rest follow side by side.
 */
import type { Clock } from '../base/clock.ts';
import { silentLogger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import type { Batch } from './batch.ts';
import { createFuture } from './compute-future.ts';
import { BatchError } from './errors.ts';
import type { BatchFailure } from './errors.ts';
import { SubmissionQueue } from './submission-queue.ts';
import { Submitter, submissionSettings } from './submitter.ts';
import type { SubmittedTask } from './submitter.ts';

/** Settings of {@link runBatch}. */
export interface BatchRunOptions {
  readonly hub: HubClient;
  readonly clock: Clock;
  /** How long a request is tried again while the hub is not available. */
  readonly retryForMs: number;
  readonly signal: AbortSignal;
}

const TASKS_PER_REQUEST = 512;
const BYTES_PER_REQUEST = 4 * 1024 * 1024;
const REQUESTS_AT_ONCE = 2;

/** Ids of the tasks, in the order of the batch. @throws BatchError when some were not accepted. */
export async function runBatch(batch: Batch, options: BatchRunOptions): Promise<string[]> {
  let { taskGroupId } = batch.options;
  const send = async (endpointId: string, tasks: readonly SubmittedTask[]): Promise<void> => {
    const submitter = new Submitter({
      ...options,
      endpointId,
      logger: silentLogger,
      settings: () => submissionSettings({ ...batch.options, taskGroupId }, false),
      onAccepted: (id) => {
        taskGroupId ??= id;
      },
      onTask: () => undefined,
    });
    const queue = new SubmissionQueue<SubmittedTask>({
      batchSize: TASKS_PER_REQUEST,
      batchBytes: BYTES_PER_REQUEST,
      concurrency: () => (taskGroupId === undefined ? 1 : REQUESTS_AT_ONCE),
      send: async (portion) => {
        await submitter.send(portion);
      },
    });
    tasks.forEach((task) => {
      queue.add(task);
    });
    await queue.idle();
  };

  const controls = batch.tasks.map(() => createFuture<unknown>());
  const lanes = new Map<string, SubmittedTask[]>();
  for (const [index, task] of batch.tasks.entries()) {
    const control = controls[index];
    if (control !== undefined) {
      const lane = lanes.get(task.endpointId) ?? [];
      lane.push({ ...task, control });
      lanes.set(task.endpointId, lane);
    }
  }
  const rest = [...lanes];
  for (let lane = rest[0]; taskGroupId === undefined && lane !== undefined; lane = rest[0]) {
    rest.shift();
    await send(...lane);
  }
  await Promise.all(
    rest.map(async (lane) => {
      await send(...lane);
    }),
  );

  const settled = await Promise.allSettled(
    controls.map(async ({ future }) => await future.submitted),
  );
  return idsOf(batch, settled);
}

function idsOf(batch: Batch, settled: readonly PromiseSettledResult<string>[]): string[] {
  const taskIds: string[] = [];
  const failures: BatchFailure[] = [];
  for (const [index, outcome] of settled.entries()) {
    const task = batch.tasks[index];
    if (outcome.status === 'fulfilled') {
      taskIds[index] = outcome.value;
    } else if (task !== undefined) {
      const { functionId, endpointId } = task;
      failures.push({ index, functionId, endpointId, error: outcome.reason as Error });
    }
  }
  if (failures.length > 0) {
    throw new BatchError(
      settled.map((_, index) => taskIds[index]),
      failures,
    );
  }
  return taskIds;
}

/** The message that carries a task to its endpoint (protocol.md 5.4). */
import {
  ENVIRONMENT_HEADER,
  FUNCTION_UUID_HEADER,
  RESOURCE_SPECIFICATION_HEADER,
  RESULT_SERIALIZERS_HEADER,
  TASK_UUID_HEADER,
} from '../../protocol/amqp-headers.ts';
import { packTask } from '../../protocol/messages.ts';
import type { TaskEnvironment } from '../../protocol/sharing.ts';

/** Options of a submission that travel with each of its tasks. */
export interface TaskOptions {
  readonly resource_specification?: Readonly<Record<string, unknown>>;
  readonly result_serializers?: readonly string[];
}

/** A task with everything that its message needs. */
export interface PublishableTask {
  readonly id: string;
  readonly endpointId: string;
  /** Queue of the endpoint, which is also the routing key. */
  readonly queue: string;
  /** Canonical. */
  readonly functionId: string;
  readonly functionCode: string;
  /** Where the function is to run. */
  readonly environment?: TaskEnvironment;
  readonly payload: string;
  readonly options: TaskOptions | null;
  /** When the database says it was submitted. */
  readonly createdAt: Date;
  /** Under which lease epoch an agent gave it back last, if ever. */
  readonly handedBackEpoch?: number;
}

/** Body of the message: the function's packed buffer and those of args and kwargs are put together as text. */
export function taskBody(task: PublishableTask): Buffer {
  return packTask({ task_id: task.id, task_buffer: task.functionCode + task.payload });
}

/** Headers of the message. */
export function taskHeaders(task: PublishableTask): Record<string, unknown> {
  const { resource_specification: resources, result_serializers: serializers } = task.options ?? {};
  return {
    [FUNCTION_UUID_HEADER]: task.functionId,
    [TASK_UUID_HEADER]: task.id,
    ...(resources !== undefined && { [RESOURCE_SPECIFICATION_HEADER]: JSON.stringify(resources) }),
    ...(serializers !== undefined && { [RESULT_SERIALIZERS_HEADER]: [...serializers] }),
    ...(task.environment !== undefined && {
      [ENVIRONMENT_HEADER]: JSON.stringify(task.environment),
    }),
  };
}

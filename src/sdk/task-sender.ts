/**
 * Tasks on their way from `submit` to the hub: serialized at once, registered if need be, queued, sent in batches.
 *
 *   add ─▶ serialize ─▶ registered? ─▶ queue ─▶ batch ─▶ submitter
 *
 * A task that fails on the way fails its future; one whose future is settled meanwhile is dropped. Bytes are counted from `add`
 * until the hub has taken the task, or it is dropped.
 */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { BackPressure } from './back-pressure.ts';
import type { Client } from './client.ts';
import type { FutureControl } from './compute-future.ts';
import type { ExecutorOptions, executorSettings } from './executor-options.ts';
import type { AnyFunction, FunctionSource } from './function-source.ts';
import { RegisteredFunction } from './registered-function.ts';
import type { FunctionReference } from './registered-function.ts';
import { requestBytes, resultSerializersFor, serializeArguments } from './serializers.ts';
import { SubmissionQueue } from './submission-queue.ts';
import { Submitter, submissionSettings } from './submitter.ts';
import type { SubmittedTask } from './submitter.ts';
import type { UnsettledFutures } from './unsettled-futures.ts';
import { untilAvailable } from './until-available.ts';

type Registered = RegisteredFunction<never> | string;
/** Anything that can be run: a function, its source, or a registered one. */
export type Runnable = AnyFunction | FunctionSource | FunctionReference;

/** Settings of a {@link TaskSender}. */
export interface TaskSenderOptions {
  readonly client: Client;
  readonly executor: ExecutorOptions;
  readonly settings: ReturnType<typeof executorSettings>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pressure: BackPressure;
  readonly unsettled: UnsettledFutures;
  /** Ends requests and pauses. */
  readonly signal: AbortSignal;
  /** The group that tasks join; undefined until the first answer names it. */
  readonly taskGroupId: () => string | undefined;
  /** Runs the sending of one batch. */
  readonly around: (send: () => Promise<void>) => Promise<void>;
  readonly onAccepted: (taskGroupId: string) => void;
  readonly onTask: (taskId: string, task: SubmittedTask) => void;
}

/** Hands tasks over to the hub. */
export class TaskSender {
  readonly #options: TaskSenderOptions;
  readonly #queue: SubmissionQueue<SubmittedTask>;
  readonly #submitter: Submitter;

  constructor(options: TaskSenderOptions) {
    this.#options = options;
    const { client, executor, settings, taskGroupId } = options;
    this.#submitter = new Submitter({
      hub: client.hub,
      clock: options.clock,
      logger: options.logger,
      signal: options.signal,
      onAccepted: options.onAccepted,
      onTask: options.onTask,
      endpointId: executor.endpointId ?? '',
      retryForMs: settings.retryForMs,
      settings: () => submissionSettings({ ...executor, taskGroupId: taskGroupId() }, true),
    });
    this.#queue = new SubmissionQueue({
      batchSize: settings.batchSize,
      batchBytes: settings.batchBytes,
      // The answer to the first submission names the group that the others join.
      concurrency: () => (taskGroupId() === undefined ? 1 : settings.maxConcurrentSubmissions),
      send: async (batch) => {
        await this.#send(batch);
      },
    });
  }

  /** Takes a task on. A failure is that of its future. */
  add(
    fn: Runnable,
    args: readonly unknown[],
    kwargs: Readonly<Record<string, unknown>>,
    control: FutureControl<unknown>,
  ): void {
    const { pressure, settings } = this.#options;
    try {
      // Before anything is awaited: what the caller changes afterwards must not count.
      const payload = serializeArguments(args, kwargs, settings.argumentFormat);
      const bytes = requestBytes(payload);
      pressure.addBytes(bytes);
      if (typeof fn === 'string' || fn instanceof RegisteredFunction) {
        this.#enqueue(fn, payload, bytes, control);
        return;
      }
      this.#register(fn, control).then(
        (known) => {
          this.#enqueue(known, payload, bytes, control);
        },
        (error: unknown) => {
          pressure.addBytes(-bytes);
          control.reject(error as Error);
        },
      );
    } catch (error) {
      control.reject(error as Error);
    }
  }

  /** Drops a task that has not been sent. */
  drop(task: SubmittedTask): void {
    if (this.#queue.remove(task)) {
      this.#options.pressure.addBytes(-task.bytes);
    }
  }

  /** Resolves when nothing waits and nothing is in flight. */
  async idle(): Promise<void> {
    await this.#queue.idle();
  }

  async #register(
    fn: AnyFunction | FunctionSource,
    { future }: FutureControl<unknown>,
  ): Promise<Registered> {
    const { client, clock, logger, settings, signal } = this.#options;
    return await untilAvailable(async () => await client.registrationOf(fn), {
      clock,
      logger,
      retryForMs: settings.retryForMs,
      signal,
      isWanted: () => !future.isDone,
    });
  }

  #enqueue(
    known: Registered,
    payload: string,
    bytes: number,
    control: FutureControl<unknown>,
  ): void {
    const { executor, pressure, settings, unsettled } = this.#options;
    const entry = unsettled.get(control);
    if (entry === undefined) {
      pressure.addBytes(-bytes);
      return;
    }
    const language = known instanceof RegisteredFunction ? known.language : undefined;
    const wanted = resultSerializersFor(language, settings.argumentFormat);
    entry.queued = {
      functionId: typeof known === 'string' ? known : known.id,
      functionName: typeof known === 'string' ? known : known.name,
      payload,
      bytes,
      resultSerializers: executor.resultSerializers ?? wanted.result_serializers ?? [],
      control,
    };
    this.#queue.add(entry.queued);
  }

  /** Sends one batch; a failure is that of its futures. */
  async #send(batch: readonly SubmittedTask[]): Promise<void> {
    const { around, pressure, unsettled } = this.#options;
    for (const { control } of batch) {
      const entry = unsettled.get(control);
      if (entry !== undefined) {
        delete entry.queued;
        entry.isSent = true;
      }
    }
    await around(async () => {
      await this.#submitter.send(batch);
    });
    pressure.addBytes(-batch.reduce((sum, { bytes }) => sum + bytes, 0));
  }
}

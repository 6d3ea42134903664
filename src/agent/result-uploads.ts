/**
 * Brings results that are too large for a message to the hub, and makes the message that takes their place.
 *
 *   journal ─▶ PUT …/result-blob ─▶ reference: a Result that says how to fetch it, for clients that know nothing else,
 *                                   with the blob beside the captured output, for those that do
 *
 * I4: the result stays in the journal until the reference is confirmed; should we end before, it is brought again, which does no harm.
 * I6: one at a time, read from the journal for each attempt; those that wait are task ids.
 *
 * A hub that is away is tried again until `stop`. A hub that refuses (no room, too large) makes the task a named failure (I2).
 */
import { backoffDelayMs } from '../base/backoff.ts';
import type { BackoffOptions } from '../base/backoff.ts';
import { sleep } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { ComputeError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import { TASK_OUTPUT_HEADER } from '../protocol/amqp-headers.ts';
import type { TaskOutput } from '../protocol/host-frames.ts';
import type { BlobReference } from '../protocol/rest.ts';
import { outputHeaders } from './output-headers.ts';
import { packFailure } from './task-failure.ts';
import type { TaskFailure } from './task-failure.ts';

const RETRY: BackoffOptions = { baseMs: 500, maxMs: 60_000 };
/** Refusals that pass: credentials that are renewed, a request that came too slowly, a rate. */
const PASSING: ReadonlySet<number> = new Set([401, 408, 429]);
const INSUFFICIENT_STORAGE = 507;

/** What is published in the place of the result. */
interface Message {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** Uploads results. */
export class ResultUploads {
  readonly #hub: Pick<HubClient, 'hubUrl' | 'uploadResult'>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stopped = new AbortController();
  #last: Promise<unknown> = Promise.resolve();

  constructor(hub: Pick<HubClient, 'hubUrl' | 'uploadResult'>, clock: Clock, logger: Logger) {
    this.#hub = hub;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Brings a result to the hub. Returns what to publish instead, undefined when stopped before; never rejects. */
  async upload(
    taskId: string,
    read: () => Promise<Message>,
    inlineBytesMax: number,
  ): Promise<Message | undefined> {
    const turn = this.#last.then(async () => await this.#upload(taskId, read, inlineBytesMax));
    this.#last = turn;
    return await turn;
  }

  /** Ends waiting for the hub. */
  stop(): void {
    this.#stopped.abort();
  }

  async #upload(
    taskId: string,
    read: () => Promise<Message>,
    inlineBytesMax: number,
  ): Promise<Message | undefined> {
    const { signal } = this.#stopped;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      const { body, headers } = await read();
      try {
        const blob = await this.#hub.uploadResult(taskId, body, signal);
        this.#logger.debug({ taskId, bytes: blob.bytes }, 'a large result is at the hub');
        return this.#reference(taskId, blob, headers, inlineBytesMax);
      } catch (error) {
        const refusal = this.#refusal(body.length, inlineBytesMax, error);
        if (refusal !== undefined) {
          this.#logger.error({ taskId, err: error }, 'the hub does not keep a large result');
          return { body: packFailure(taskId, refusal, this.#clock.now()), headers };
        }
        const delayMs = backoffDelayMs(attempt, RETRY);
        this.#logger[attempt === 0 ? 'warn' : 'debug'](
          { taskId, reason: errorText(error), delayMs },
          'a large result cannot be brought to the hub, trying again',
        );
        await sleep(this.#clock, delayMs, signal).catch(() => undefined);
      }
    }
    return undefined;
  }

  #reference(
    taskId: string,
    blob: BlobReference,
    headers: Readonly<Record<string, unknown>>,
    inlineBytesMax: number,
  ): Message {
    const text = headers[TASK_OUTPUT_HEADER];
    const output = typeof text === 'string' ? (JSON.parse(text) as TaskOutput) : {};
    const failure: TaskFailure = {
      code: 'MaxResultSizeExceeded',
      message:
        `the task ended, and its result of ${blob.bytes} bytes is larger than the ${inlineBytesMax} that travel as a message; the hub keeps it, for outpost_sdk and: ` +
        `curl -H "Authorization: Bearer $TOKEN" ${this.#hub.hubUrl}/v1/tasks/${taskId}/result`,
    };
    return {
      body: packFailure(taskId, failure, this.#clock.now()),
      headers: { ...headers, ...outputHeaders({ ...output, blob }) },
    };
  }

  /** Undefined when trying again may help. */
  #refusal(bytes: number, inlineBytesMax: number, error: unknown): TaskFailure | undefined {
    const status = error instanceof ComputeError ? Number(error.details['status'] ?? 0) : 0;
    const isRefused = status >= 400 && status < 500 && !PASSING.has(status);
    if (!isRefused && status !== INSUFFICIENT_STORAGE) {
      return undefined;
    }
    return {
      code: 'RESULT_NOT_KEPT',
      message: `the task ended, but its result of ${bytes} bytes is larger than the ${inlineBytesMax} that travel as a message, and the hub does not keep it: ${errorText(error)}`,
    };
  }
}

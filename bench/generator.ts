/** The bench's end of the load generator, and of the echo. */
import assert from 'node:assert/strict';

import { brokerEnvironment, BenchProcess } from './child-process.ts';
import type {
  Destination,
  GeneratorReply,
  GeneratorRequest,
  GeneratorSetup,
} from './generator-protocol.ts';
import { quantile } from './statistics.ts';
import type { TaskKind } from './task-bodies.ts';

/** Idle latency. */
export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** A running load generator. */
export class Generator {
  readonly #process: BenchProcess;

  private constructor(process: BenchProcess) {
    this.#process = process;
  }

  /** Starts one that takes results from these queues. */
  static async start(amqpUrl: string, resultQueues: readonly string[]): Promise<Generator> {
    const setup: GeneratorSetup = { resultQueues };
    return new Generator(
      await BenchProcess.start(
        'generator-process',
        [JSON.stringify(setup)],
        brokerEnvironment(amqpUrl),
      ),
    );
  }

  /** Tasks per second of a burst. */
  async burst(destination: Destination, kind: TaskKind, count: number): Promise<number> {
    const [ms] = await this.#ask({ op: 'burst', destination, kind, count });
    assert.ok(ms !== undefined);
    return (count / ms) * 1000;
  }

  /** Latency of tasks that are sent one after the other. */
  async latency(destination: Destination, kind: TaskKind, samples: number): Promise<Latency> {
    const times = await this.#ask({ op: 'latency', destination, kind, samples });
    return { p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99) };
  }

  /** Publishes tasks and waits for the broker's confirms only. */
  async fill(
    destination: Destination,
    kind: TaskKind,
    count: number,
    argument?: string,
  ): Promise<void> {
    await this.#ask({
      op: 'fill',
      destination,
      kind,
      count,
      ...(argument !== undefined && { argument }),
    });
  }

  /** Ends the process. */
  async stop(): Promise<void> {
    await this.#process.stop();
  }

  async #ask(request: GeneratorRequest): Promise<readonly number[]> {
    const { times, failure } = (await this.#process.ask(request)) as GeneratorReply;
    assert.equal(failure, undefined, `a task of the bench failed: ${failure ?? ''}`);
    return times;
  }
}

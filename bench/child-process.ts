/** The bench's own helper processes: forked, ready when they say so, ended with the bench. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { systemClock } from '../src/base/clock.ts';
import { withDeadline } from '../src/base/deadline.ts';
import { UnavailableError } from '../src/base/errors.ts';
import { BROKER_URL_VARIABLE } from './generator-protocol.ts';

const READY_LIMIT_MS = 30_000;
/** Longest that anything takes which a helper is asked for. */
const REPLY_LIMIT_MS = 15 * 60_000;

/** A running helper process. */
export class BenchProcess {
  readonly #child: ChildProcess;
  readonly #name: string;

  private constructor(name: string, child: ChildProcess) {
    this.#name = name;
    this.#child = child;
  }

  /** Forks a compiled module that lies beside this one and waits until it says `ready`. */
  static async start(
    module: string,
    args: readonly string[],
    environment: NodeJS.ProcessEnv,
  ): Promise<BenchProcess> {
    const child = fork(fileURLToPath(new URL(`./${module}.js`, import.meta.url)), args, {
      env: environment,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const started = new BenchProcess(module, child);
    const ready = await started.#message(READY_LIMIT_MS);
    assert.equal(ready, 'ready');
    return started;
  }

  /** Process id. */
  get pid(): number {
    assert.ok(this.#child.pid !== undefined);
    return this.#child.pid;
  }

  /** Sends a request and waits for its reply; one at a time. */
  async ask(request: object): Promise<unknown> {
    this.#child.send(request);
    return await this.#message(REPLY_LIMIT_MS);
  }

  /** Ends the process and waits for its end. */
  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGKILL');
      await ended;
    }
  }

  async #message(limitMs: number): Promise<unknown> {
    const child = this.#child;
    let release: () => void = () => undefined;
    const message = new Promise<unknown>((resolve, reject) => {
      const onExit = (code: number | null): void => {
        const how = `${this.#name} ended with code ${code ?? 'none'}; see above`;
        reject(new UnavailableError('START_FAILED', how));
      };
      child.once('message', resolve);
      child.once('exit', onExit);
      release = (): void => {
        child.off('message', resolve);
        child.off('exit', onExit);
      };
    });
    return await withDeadline(
      systemClock,
      limitMs,
      message,
      () => new UnavailableError('TIMED_OUT', `${this.#name} did not answer in ${limitMs} ms`),
    ).finally(release);
  }
}

/** Environment of helpers that dial the broker. */
export function brokerEnvironment(amqpUrl: string): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], [BROKER_URL_VARIABLE]: amqpUrl };
}

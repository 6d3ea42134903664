/**
 * What a scenario has in its hands while it disturbs a run: the agent, the shared servers, the progress of the workload, a seeded
 * generator, and the pen that writes down when a fault began and was lifted.
 */
import { closeSync, existsSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { sleep, systemClock } from '../src/base/clock.ts';
import { UnavailableError } from '../src/base/errors.ts';
import type { AgentSetting, AgentUnderTest } from './agent-under-test.ts';
import type { Child } from './child.ts';
import { HISTORY_FILES, HistoryWriter } from './history.ts';
import type { FaultEvent } from './history.ts';
import type { SeededRandom } from './seeded-random.ts';
import type { Site } from './site.ts';
import { RELEASE_FILE } from './workload-plan.ts';

const LOOK_EVERY_MS = 20;
const PROGRESS_LIMIT_MS = 180_000;

/** One way to attack. */
export interface Scenario {
  readonly name: string;
  /** What happens, in a sentence. */
  readonly summary: string;
  readonly agent?: (directory: string) => AgentSetting;
  /** Before the agent is configured: a file system, a file. Returns how to undo it, or why the scenario cannot be had here. */
  readonly prepare?: (
    directory: string,
  ) => { readonly undo: () => void } | { readonly skip: string };
  /** Whether broker, database and hub are left in peace, so that other scenarios may run beside it. */
  readonly isLocal: boolean;
  /** Submit evenly over this time unless told otherwise. */
  readonly submitMs?: number;
  /** How long the disturbance lasts at most, beyond what the tasks themselves need. */
  readonly extraMs?: number;
  readonly disturb: (scene: Scene) => Promise<void>;
}

/** Counts the lines of the workload's history as they come. */
class Progress {
  readonly #path: string;
  #offset = 0;
  #rest = '';
  settled = 0;
  hasFinished = false;

  constructor(path: string) {
    this.#path = path;
  }

  look(): void {
    if (!existsSync(this.#path)) {
      return;
    }
    const file = openSync(this.#path, 'r');
    try {
      const chunk = Buffer.alloc(1024 * 1024);
      for (;;) {
        const count = readSync(file, chunk, 0, chunk.length, this.#offset);
        if (count === 0) {
          return;
        }
        this.#offset += count;
        this.#take(chunk.toString('latin1', 0, count));
      }
    } finally {
      closeSync(file);
    }
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      this.settled += line.startsWith('{"type":"settled"') ? 1 : 0;
      this.hasFinished ||= line.startsWith('{"type":"finished"');
    }
  }
}

/** The stage of one scenario. */
export class Scene {
  readonly site: Site;
  readonly agent: AgentUnderTest;
  readonly endpointId: string;
  readonly directory: string;
  readonly random: SeededRandom;
  readonly tasks: number;
  /** What was expected of the product beside the invariants and did not come. */
  readonly disappointments: string[] = [];
  readonly #events: HistoryWriter<FaultEvent>;
  readonly #progress: Progress;
  readonly #workload: Child;

  constructor(parts: {
    readonly site: Site;
    readonly agent: AgentUnderTest;
    readonly endpointId: string;
    readonly directory: string;
    readonly random: SeededRandom;
    readonly tasks: number;
    readonly workload: Child;
  }) {
    this.site = parts.site;
    this.agent = parts.agent;
    this.endpointId = parts.endpointId;
    this.directory = parts.directory;
    this.random = parts.random;
    this.tasks = parts.tasks;
    this.#workload = parts.workload;
    this.#events = new HistoryWriter(join(parts.directory, HISTORY_FILES.events));
    this.#progress = new Progress(join(parts.directory, HISTORY_FILES.workload));
  }

  /** Waits until this share of the tasks has been settled. */
  async reached(share: number): Promise<void> {
    const until = systemClock.monotonicMs() + PROGRESS_LIMIT_MS;
    for (;;) {
      if (this.hasFinished || this.#progress.settled >= share * this.tasks) {
        return;
      }
      if (systemClock.monotonicMs() > until) {
        throw new UnavailableError(
          'TIMED_OUT',
          `the workload settled ${this.#progress.settled} of ${this.tasks} tasks in ${PROGRESS_LIMIT_MS / 1000} s`,
        );
      }
      await sleep(systemClock, LOOK_EVERY_MS);
    }
  }

  /** Whether the workload has nothing left to do. */
  get hasFinished(): boolean {
    this.#progress.look();
    return this.#progress.hasFinished || this.#workload.hasEnded;
  }

  async pause(ms: number): Promise<void> {
    await sleep(systemClock, ms);
  }

  fault(fault: string, at = Date.now()): void {
    this.#events.write({ type: 'fault', fault, at });
  }

  lifted(fault: string, at = Date.now()): void {
    this.#events.write({ type: 'lifted', fault, at });
  }

  /** Lets the workload submit its last tasks: they come after the fault. */
  release(): void {
    writeFileSync(join(this.directory, RELEASE_FILE), '');
  }

  /** Writes down what should have been so. */
  expect(holds: boolean, what: string): void {
    if (!holds) {
      this.disappointments.push(`expected: ${what}`);
    }
  }
}

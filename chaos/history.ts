/**
 * What happened in a run, as files that one program writes and another judges: one JSON document a line, append-only.
 *
 *   workload.jsonl   what the workload did and was told: submissions, settlements of futures, answers of the API
 *   events.jsonl     when the supervisor applied a fault and when it lifted it
 *   markers.log      one line an execution, appended by the function itself: "<key> <pid> <nonce> <time>"
 *
 * A task is known by its key, a number of the workload's own that goes to the function as an argument: a submission that the hub
 * took twice would run twice under two task ids, and is found out all the same. Times are milliseconds since the epoch.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { ProtocolError } from '../src/base/errors.ts';

/** A task was handed to the SDK. */
export interface Submitted {
  readonly type: 'submitted';
  readonly key: number;
  readonly at: number;
  readonly language: 'javascript' | 'python';
  readonly durationMs: number;
  /** How often it may be started again after its worker was lost. */
  readonly maxRetries: number;
  /** When its future must be settled at the latest. */
  readonly deadlineAt: number;
}

/** The hub named the task. */
export interface Accepted {
  readonly type: 'accepted';
  readonly key: number;
  readonly at: number;
  readonly taskId: string;
}

/** A future was settled. */
export interface Settled {
  readonly type: 'settled';
  readonly key: number;
  readonly at: number;
  /** Undefined: rejected before the hub had named the task. */
  readonly taskId?: string | undefined;
  readonly outcome: Outcome;
}

/** The API was asked how a task stands. */
export interface Answer {
  readonly type: 'answer';
  /** When the question was sent: an answer that crosses a result on its way contradicts nothing. */
  readonly askedAt: number;
  readonly at: number;
  readonly taskId: string;
  readonly outcome: Outcome | { readonly status: 'pending' };
}

/** The workload could do no more: everything was settled, or its time was over. */
export interface Finished {
  readonly type: 'finished';
  readonly at: number;
}

/** How a task ended: the value, as JSON text, or the code of its failure. */
export type Outcome =
  | { readonly status: 'value'; readonly value: string }
  | { readonly status: 'failure'; readonly code: string; readonly message: string };

/** A fault began or was lifted. */
export interface FaultEvent {
  readonly type: 'fault' | 'lifted';
  readonly fault: string;
  readonly at: number;
}

/** One execution. */
export interface Marker {
  readonly key: number;
  readonly pid: number;
  readonly nonce: string;
  readonly at: number;
}

/** A line of workload.jsonl. */
export type WorkloadRecord = Submitted | Accepted | Settled | Answer | Finished;

/** Everything about one run. */
export interface History {
  readonly workload: readonly WorkloadRecord[];
  readonly events: readonly FaultEvent[];
  readonly markers: readonly Marker[];
}

/** Names of the files within the directory of a run. */
export const HISTORY_FILES = {
  workload: 'workload.jsonl',
  events: 'events.jsonl',
  markers: 'markers.log',
} as const;

/** Appends records, each in one write, so that a killed writer loses nothing that it had written. */
export class HistoryWriter<Kind extends object> {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  write(...records: readonly Kind[]): void {
    if (records.length > 0) {
      appendFileSync(this.#path, records.map((record) => `${JSON.stringify(record)}\n`).join(''));
    }
  }
}

/** The lines that are whole: the last one may have been cut short by a kill. */
function wholeLines(path: string): string[] {
  if (!existsSync(path)) {
    return [];
  }
  return readFileSync(path, 'utf8').split('\n').slice(0, -1);
}

function parseMarker(line: string): Marker {
  const match = /^(\d+) (\d+) (\S+) (\d+)$/.exec(line);
  if (match === null) {
    throw new ProtocolError('ENVELOPE_INVALID', `not a marker: ${JSON.stringify(line)}`);
  }
  const [, key, pid, nonce = '', at] = match;
  return { key: Number(key), pid: Number(pid), nonce, at: Number(at) };
}

/** Reads the history of a run. @throws ProtocolError ENVELOPE_INVALID, SyntaxError when a file holds something else. */
export function readHistory(directory: string): History {
  const lines = (name: string): string[] => wholeLines(join(directory, name));
  return {
    workload: lines(HISTORY_FILES.workload).map((line) => JSON.parse(line) as WorkloadRecord),
    events: lines(HISTORY_FILES.events).map((line) => JSON.parse(line) as FaultEvent),
    markers: lines(HISTORY_FILES.markers).map(parseMarker),
  };
}

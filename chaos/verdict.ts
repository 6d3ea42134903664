/**
 * Judges the history of a run. Knows nothing about how it came about: what counts is what the user of the SDK saw and what the
 * functions left behind.
 *
 *   lost                  a future that was never settled
 *   late                  a future that was settled after its deadline
 *   duplicatedExecutions  executions beyond the first, less those that the task's max_retries allowed
 *   duplicatedResults     futures settled twice, and answers of the API that contradict what was told before: a terminal state that
 *                         changed, or another one than the future's. A provisional LOST may be replaced once by a real result.
 *   wrongResults          values of another task, and values without an execution
 *   unnamedFailures       failures that do not say what went wrong in the system: the functions themselves never fail
 *   recoverySeconds       the longest time from the lifting of a fault to the first value of a task that was submitted before the lifting
 *                         and began to run after the fault had begun; null when there was no such task. (A result that was on its way
 *                         when the fault came says nothing about recovery.)
 */
import type { Answer, FaultEvent, History, Outcome, Settled, Submitted } from './history.ts';

/** The judgement. */
export interface Verdict {
  readonly submitted: number;
  readonly succeeded: number;
  readonly failedNamed: number;
  readonly lost: number;
  readonly late: number;
  readonly duplicatedExecutions: number;
  /** Executions beyond the first that max_retries allowed. */
  readonly retriedExecutions: number;
  readonly duplicatedResults: number;
  readonly wrongResults: number;
  readonly unnamedFailures: number;
  readonly recoverySeconds: number | null;
  /** Failures by their code. */
  readonly failures: Readonly<Record<string, number>>;
  /** Recovery after each fault, in order. */
  readonly recoveries: readonly { readonly fault: string; readonly seconds: number | null }[];
  /** The first violations in words. */
  readonly problems: readonly string[];
}

/** Codes of a state that a real result may still replace. */
const PROVISIONAL_CODES: ReadonlySet<string> = new Set(['LOST', 'TASK_LOST', 'ENDPOINT_LOST']);
/** These say nothing about what went wrong, or say that a function failed, which ours do not. */
const UNNAMED_CODES: ReadonlySet<string> = new Set(['', 'INVARIANT', 'RemoteExecutionError']);
const PROBLEMS_MAX = 50;

/** What is known about one task. */
interface TaskStory {
  readonly submitted: Submitted;
  readonly settlements: Settled[];
  /** When it began to run, each time. */
  readonly executions: number[];
}

class Findings {
  readonly counts = {
    lost: 0,
    late: 0,
    duplicatedExecutions: 0,
    duplicatedResults: 0,
    wrongResults: 0,
    unnamedFailures: 0,
  };
  readonly problems: string[] = [];

  add(kind: keyof Findings['counts'], problem: string, count = 1): void {
    this.counts[kind] += count;
    if (this.problems.length < PROBLEMS_MAX) {
      this.problems.push(`${kind}: ${problem}`);
    }
  }
}

/** Judges a history. */
export function judge(history: History): Verdict {
  const findings = new Findings();
  const stories = collect(history, findings);
  const failures: Record<string, number> = {};
  let succeeded = 0;
  let failedNamed = 0;
  let retriedExecutions = 0;
  for (const [key, story] of stories) {
    retriedExecutions += judgeExecutions(key, story, findings);
    const [first, ...more] = story.settlements;
    if (first === undefined) {
      findings.add('lost', `task ${key} was submitted and its future never settled`);
      continue;
    }
    if (more.length > 0) {
      findings.add(
        'duplicatedResults',
        `the future of task ${key} was settled ${story.settlements.length} times`,
        more.length,
      );
    }
    const overdueMs = first.at - story.submitted.deadlineAt;
    if (overdueMs > 0) {
      findings.add('late', `task ${key} was settled ${overdueMs} ms after its deadline`);
    }
    if (first.outcome.status === 'value') {
      succeeded += 1;
      judgeValue(key, first.outcome.value, story, findings);
    } else {
      const { code, message } = first.outcome;
      failures[code] = (failures[code] ?? 0) + 1;
      if (UNNAMED_CODES.has(code)) {
        findings.add('unnamedFailures', `task ${key} failed with "${code}": ${message}`);
      } else {
        failedNamed += 1;
      }
    }
  }
  judgeAnswers(history, findings);
  const recoveries = recoveriesOf(history.events, stories);
  const seconds = recoveries.flatMap((recovery) => recovery.seconds ?? []);
  return {
    submitted: stories.size,
    succeeded,
    failedNamed,
    ...findings.counts,
    retriedExecutions,
    recoverySeconds: seconds.length === 0 ? null : Math.max(...seconds),
    failures,
    recoveries,
    problems: findings.problems,
  };
}

/** Whether nothing was found that must never be. */
export function isClean(verdict: Verdict): boolean {
  return (
    verdict.lost +
      verdict.late +
      verdict.duplicatedExecutions +
      verdict.duplicatedResults +
      verdict.wrongResults +
      verdict.unnamedFailures ===
    0
  );
}

function collect(history: History, findings: Findings): Map<number, TaskStory> {
  const stories = new Map<number, TaskStory>();
  for (const record of history.workload) {
    if (record.type === 'submitted') {
      stories.set(record.key, { submitted: record, settlements: [], executions: [] });
    } else if (record.type === 'settled') {
      stories.get(record.key)?.settlements.push(record);
    }
  }
  for (const { key, pid, at } of history.markers) {
    const story = stories.get(key);
    if (story === undefined) {
      findings.add('wrongResults', `process ${pid} ran task ${key}, which nobody submitted`);
    } else {
      story.executions.push(at);
    }
  }
  return stories;
}

/** Returns how many executions were retries that the task allowed. */
function judgeExecutions(key: number, story: TaskStory, findings: Findings): number {
  const more = Math.max(0, story.executions.length - 1);
  const allowed = Math.min(more, story.submitted.maxRetries);
  if (more > allowed) {
    findings.add(
      'duplicatedExecutions',
      `task ${key} (max_retries ${story.submitted.maxRetries}) ran ${story.executions.length} times`,
      more - allowed,
    );
  }
  return allowed;
}

function judgeValue(key: number, value: string, story: TaskStory, findings: Findings): void {
  if (keyOf(value) !== key) {
    findings.add('wrongResults', `the future of task ${key} got the value ${value}`);
  } else if (story.executions.length === 0) {
    findings.add('wrongResults', `task ${key} has a value, and no function ever ran for it`);
  }
}

/** The functions return their key. */
function keyOf(value: string): unknown {
  const parsed = JSON.parse(value) as { key?: unknown } | null;
  return parsed?.key;
}

/** What was told about a task last, in the order of time. */
function judgeAnswers(history: History, findings: Findings): void {
  const told = new Map<string, { outcome: Outcome; by: string; wasProvisional: boolean }>();
  const statements = history.workload
    .filter((record) => record.type === 'answer' || record.type === 'settled')
    .toSorted((a, b) => saidAt(a) - saidAt(b));
  for (const record of statements) {
    const { taskId, outcome } = record;
    if (taskId === undefined || !isTheTasksOwn(record)) {
      continue;
    }
    const by = record.type === 'answer' ? 'an answer of the API' : 'its future';
    const before = told.get(taskId);
    if (before === undefined) {
      if (outcome.status !== 'pending') {
        told.set(taskId, { outcome, by, wasProvisional: false });
      }
      continue;
    }
    if (isSame(before.outcome, outcome)) {
      continue;
    }
    if (isProvisional(before.outcome) && outcome.status !== 'pending' && !before.wasProvisional) {
      told.set(taskId, { outcome, by, wasProvisional: true });
      continue;
    }
    if (record.type === 'settled' && isProvisional(record.outcome)) {
      // The future was told LOST and the API had the real result by then.
      continue;
    }
    findings.add(
      'duplicatedResults',
      `task ${taskId}: ${before.by} said ${inWords(before.outcome)}, later ${by} said ${inWords(outcome)}`,
    );
    if (outcome.status !== 'pending') {
      told.set(taskId, { ...before, outcome, by });
    }
  }
}

/** "It has not ended" was true when the question was sent; the end of a task is true from when it was told. */
function saidAt(record: Answer | Settled): number {
  return record.type === 'answer' && record.outcome.status === 'pending'
    ? record.askedAt
    : record.at;
}

/** A future can be rejected by the program's own side (no connection to the hub): that says nothing about the task. */
function isTheTasksOwn(record: Answer | Settled): boolean {
  return (
    record.outcome.status !== 'failure' || !/^(HUB_|FUTURE_|TIMED_OUT$)/.test(record.outcome.code)
  );
}

function isProvisional(outcome: Outcome): boolean {
  return outcome.status === 'failure' && PROVISIONAL_CODES.has(outcome.code);
}

function isSame(a: Outcome, b: Answer['outcome']): boolean {
  return a.status === 'value'
    ? b.status === 'value' && a.value === b.value
    : b.status === 'failure' && a.code === b.code;
}

function inWords(outcome: Answer['outcome']): string {
  switch (outcome.status) {
    case 'pending':
      return 'that it has not ended';
    case 'value':
      return `value ${outcome.value}`;
    case 'failure':
      return `failure ${outcome.code}`;
  }
}

function recoveriesOf(
  events: readonly FaultEvent[],
  stories: ReadonlyMap<number, TaskStory>,
): Verdict['recoveries'] {
  const beganAt = new Map<string, number>();
  const recoveries: { fault: string; seconds: number | null }[] = [];
  for (const { type, fault, at } of events) {
    if (type === 'fault') {
      beganAt.set(fault, at);
    } else {
      const firstAt = firstValueAt(stories, beganAt.get(fault) ?? at, at);
      recoveries.push({ fault, seconds: firstAt === Infinity ? null : (firstAt - at) / 1000 });
    }
  }
  return recoveries;
}

function firstValueAt(
  stories: ReadonlyMap<number, TaskStory>,
  faultAt: number,
  liftedAt: number,
): number {
  let firstAt = Infinity;
  for (const { submitted, settlements, executions } of stories.values()) {
    const [settled] = settlements;
    if (
      submitted.at <= liftedAt &&
      settled?.outcome.status === 'value' &&
      settled.at >= liftedAt &&
      (executions.at(-1) ?? -Infinity) >= faultAt
    ) {
      firstAt = Math.min(firstAt, settled.at);
    }
  }
  return firstAt;
}

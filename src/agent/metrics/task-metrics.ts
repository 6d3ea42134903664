/**
 * Counts tasks and times their stages, as they happen: the only metrics that cost something while nobody looks, and so are made only
 * when there is a listener.
 *
 *   delivered ──wait──▶ running ──run──▶ ended ──confirm──▶ confirmed by the broker
 */
import { Counter, Histogram } from 'prom-client';
import type { Registry } from 'prom-client';

import type { Clock } from '../../base/clock.ts';
import type { TaskFailureCode } from '../../protocol/host-frames.ts';
import type { Language } from '../../protocol/serialization.ts';
import type { TaskObserver } from '../task-observer.ts';

const LANGUAGES: readonly Language[] = ['javascript', 'python'];
/** From a no-op on an idle machine to a week. */
const BUCKETS_S = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200,
  28_800, 86_400, 604_800,
];

/** States of a task that are counted. */
const STATES = ['received', 'succeeded', 'failed', 'restarted', 'confirmed'] as const;
const STAGES = ['wait', 'run', 'confirm'] as const;

/** Every code that there is: one that a worker host invents must not become a time series of its own (I6). */
const CODES: ReadonlySet<string> = new Set(
  Object.keys({
    TASK_TIMED_OUT: true,
    TASK_CANCELLED: true,
    WORKER_EXITED: true,
    WORKER_KILLED_OOM: true,
    WORKER_UNRESPONSIVE: true,
    WORKER_PROTOCOL_FAULT: true,
    WORKER_START_FAILED: true,
    AGENT_RESTARTED: true,
    AGENT_STOPPED: true,
    ENVELOPE_INVALID: true,
    FUNCTION_NOT_ALLOWED: true,
    SERIALIZER_NOT_ALLOWED: true,
    LANGUAGE_NOT_AVAILABLE: true,
    ENVIRONMENT_NOT_AVAILABLE: true,
    RESULT_UNREADABLE: true,
    RESULT_UNDELIVERABLE: true,
    RESULT_NOT_KEPT: true,
    MaxResultSizeExceeded: true,
  } satisfies Record<TaskFailureCode, true>),
);

/** Registers the metrics of tasks, and returns who keeps them. */
export function taskMetrics(registry: Registry, clock: Clock): TaskObserver {
  const tasks = new Counter({
    name: 'outpost_tasks_total',
    help: 'Tasks that have reached a state: received (durable and acked), succeeded, failed, restarted (worker lost, runs again), confirmed (the broker has the result).',
    labelNames: ['state', 'language'],
    registers: [registry],
  });
  const failures = new Counter({
    name: 'outpost_task_failures_total',
    help: 'Failed tasks by cause: "function" is an exception of the function or a value that cannot be returned, the others are codes of docs/errors.md.',
    labelNames: ['code', 'language'],
    registers: [registry],
  });
  const stages = new Histogram({
    name: 'outpost_task_stage_seconds',
    help: 'Time that tasks spend in a stage: wait (delivery to running), run, confirm (result to confirm of the broker).',
    labelNames: ['stage', 'language'],
    buckets: BUCKETS_S,
    registers: [registry],
  });
  for (const language of LANGUAGES) {
    // From the start, so that the first event is seen as a change.
    STATES.forEach((state) => {
      tasks.inc({ state, language }, 0);
    });
    STAGES.forEach((stage) => {
      stages.zero({ stage, language });
    });
  }
  const note = (stage: (typeof STAGES)[number], language: Language, ms: number): void => {
    stages.observe({ stage, language }, Math.max(0, ms) / 1000);
  };
  return {
    onReceived: ({ meta: { language } }) => {
      tasks.inc({ state: 'received', language });
    },
    onEnded: ({ task, failed, failure, isRetried }) => {
      const { language } = task.meta;
      if (isRetried) {
        tasks.inc({ state: 'restarted', language });
        return;
      }
      tasks.inc({ state: failed ? 'failed' : 'succeeded', language });
      if (failed) {
        failures.inc({ code: causeOf(failure?.code), language });
      }
      // A task that was refused never ran; of a recovered one it is not known when it came.
      if (task.begunAtMs > 0) {
        note('run', language, task.endedAtMs - task.begunAtMs);
        if (task.receivedAtMs > 0) {
          note('wait', language, task.begunAtMs - task.receivedAtMs);
        }
      }
    },
    onConfirmed: ({ meta: { language }, endedAtMs }) => {
      tasks.inc({ state: 'confirmed', language });
      if (endedAtMs > 0) {
        note('confirm', language, clock.monotonicMs() - endedAtMs);
      }
    },
  };
}

function causeOf(code: string | undefined): string {
  if (code === undefined) {
    return 'function';
  }
  return CODES.has(code) ? code : 'other';
}

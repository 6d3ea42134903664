/**
 * That a worker host is missing which somebody else is to start (`worker_host: unit`), once that has lasted.
 *
 * Nothing is wrong with the tasks then, and nobody has said that a host cannot run: so they wait, in the journal and at the broker, and
 * whoever looks at the endpoint is told why.
 */
import type { DispatcherCounts } from './dispatcher.ts';

/** Why no worker host is there. */
export interface HostAbsence {
  /** In words; undefined while a host is there, or is expected any moment. */
  reason: string | undefined;
}

/** Counts of tasks, with what keeps them waiting among the reasons for which the endpoint is degraded. */
export function countsWith({ reason }: HostAbsence, counts: DispatcherCounts): DispatcherCounts {
  return reason === undefined
    ? counts
    : { ...counts, degraded: { javascript: reason, python: reason, ...counts.degraded } };
}

/** What the supervisor tells the workload, as a file. */

/**
 * How fast tasks are submitted: spread evenly over a time; or `gated`: some at once, then a trickle, and the last ones only when the
 * supervisor has made the file `released`, so that there are tasks before, during and after a fault, however long that takes.
 */
export type Pace = { readonly kind: 'even'; readonly ms: number } | { readonly kind: 'gated' };

/** File in the directory of the history that lets the last tasks go. */
export const RELEASE_FILE = 'released';

/** The plan of one run. */
export interface WorkloadPlan {
  readonly hubUrl: string;
  readonly endpointId: string;
  /** Directory of the history. */
  readonly directory: string;
  readonly seed: number;
  readonly tasks: number;
  readonly pace: Pace;
  /** From its submission to the settlement of a future. */
  readonly deadlineMs: number;
  /** After this time the workload no longer waits. */
  readonly limitMs: number;
}

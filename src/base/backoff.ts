/**
 * Delay between attempts: exponential with full jitter, capped, without an end.
 *
 *   attempt   0      1      2      3      4 …      cap
 *   upper     base   2×     4×     8×     16×      maxMs
 *   delay     uniformly between half of the upper bound and the upper bound
 */

/** Shape of the delays. */
export interface BackoffOptions {
  readonly baseMs: number;
  readonly maxMs: number;
  /** Uniform in [0, 1); a parameter so that tests are deterministic. */
  readonly random?: () => number;
}

/** The delay before attempt number `attempt` (0 is the first retry), in milliseconds. */
export function backoffDelayMs(attempt: number, options: BackoffOptions): number {
  const random = options.random ?? Math.random;
  // 2^30 is past any cap in use; beyond it the shift would overflow for an agent that retries for months.
  const upper = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(attempt, 30));
  return upper / 2 + (random() * upper) / 2;
}

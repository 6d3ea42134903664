/**
 * Waiting for a fact instead of for time.
 *
 * The deadline is there for what never comes, not to say how quick something must be: a busy machine may take long over anything.
 */

const LOOK_EVERY_MS = 20;
const DEADLINE_MS = 30_000;

/** Calls `probe` until it does not throw and returns its value; after the deadline its last failure is thrown. */
export async function eventually<T>(
  probe: () => Promise<T> | T,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  const until = performance.now() + deadlineMs;
  for (;;) {
    try {
      return await probe();
    } catch (error) {
      if (performance.now() >= until) {
        throw error;
      }
    }
    await new Promise<void>((resolve) => {
      setTimeout(resolve, LOOK_EVERY_MS);
    });
  }
}

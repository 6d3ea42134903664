/** Waiting for a fact instead of for time. */

const LOOK_EVERY_MS = 20;

/** Calls `probe` until it does not throw and returns its value; after the deadline its last failure is thrown. */
export async function eventually<T>(probe: () => Promise<T> | T, deadlineMs = 5000): Promise<T> {
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

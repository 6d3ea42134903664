/** A function for tasks that are to run until a test lets them go. It travels as its source text, so it has all it needs inside. */

/** Runs until somebody makes the file at `path`, and returns `value`. */
export const untilFile = async <T>(path: string, value: T): Promise<T> => {
  const { existsSync } = await import('node:fs');
  while (!existsSync(path)) {
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
  }
  return value;
};

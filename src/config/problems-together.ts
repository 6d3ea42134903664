/** Reports the problems of several readings at once: somebody who mends settings wants to mend them once. */
import { ConfigError } from '../base/errors.ts';
import type { ConfigProblem } from '../base/errors.ts';

type Results<Readings extends readonly (() => Promise<unknown>)[]> = {
  -readonly [Index in keyof Readings]: Awaited<ReturnType<Readings[Index]>>;
};

/** The error for problems of settings. */
export function settingsError(problems: readonly ConfigProblem[]): ConfigError {
  return new ConfigError(
    problems.length === 1
      ? 'The settings have a problem:'
      : `The settings have ${problems.length} problems:`,
    problems,
  );
}

/**
 * Runs every reading, even when an earlier one has failed.
 *
 * @throws one ConfigError with the problems of all; any other error only when there is none of those.
 */
export async function problemsTogether<const Readings extends readonly (() => Promise<unknown>)[]>(
  readings: Readings,
): Promise<Results<Readings>> {
  const outcomes = await Promise.allSettled(readings.map(async (reading) => await reading()));
  const reasons: unknown[] = outcomes.flatMap((outcome) =>
    outcome.status === 'rejected' ? [outcome.reason as unknown] : [],
  );
  const [only, ...others] = reasons.filter((reason) => reason instanceof ConfigError);
  if (only !== undefined) {
    if (others.length === 0) {
      throw only;
    }
    // Two readings of one file find the same.
    const found = [only, ...others].flatMap((error) => error.problems);
    const problems = [...new Map(found.map((one) => [JSON.stringify(one), one])).values()];
    throw settingsError(problems);
  }
  if (reasons.length > 0) {
    throw reasons[0];
  }
  return outcomes.map((outcome) =>
    outcome.status === 'fulfilled' ? outcome.value : undefined,
  ) as Results<Readings>;
}

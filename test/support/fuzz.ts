/**
 * Parameters of the randomised tests. `npm test` tries the same inputs every time: a change is judged by what it changes. `npm run fuzz`
 * looks for new ones. Every run prints its seed in the titles, so that one that hangs or dies can be repeated too:
 *
 *   FUZZ_SEED=123 npm test -- unit           the same inputs again
 *   npm run fuzz -- --seed 123 --examples 2000
 */
import type { Parameters } from 'fast-check';

function wholeNumber(name: string): number | undefined {
  const text = process.env[name];
  return text === undefined || !/^\d{1,9}$/.test(text) ? undefined : Number(text);
}

/** Seed of this run. */
export const FUZZ_SEED = wholeNumber('FUZZ_SEED') ?? 20_260_301;

/** Examples for each property, when somebody asked for more or fewer than the test's own number. */
export const FUZZ_EXAMPLES = wholeNumber('FUZZ_EXAMPLES');

/** Stands at the end of a title. */
export const seedNote = `(FUZZ_SEED=${FUZZ_SEED})`;

/** For `fc.assert`: the seed, and how many examples are tried. */
export function fuzzed<T>(examples: number): Parameters<T> {
  return { seed: FUZZ_SEED, numRuns: FUZZ_EXAMPLES ?? examples };
}

/** Time limit of a test that takes `ms` with its own number of examples. */
export function patienceMs(ms: number, examples: number): number {
  return ms * Math.max(1, (FUZZ_EXAMPLES ?? examples) / examples);
}

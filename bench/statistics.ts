/** The few numbers that the bench reports about a list of measurements. Lists may be in any order and must not be empty. */
import assert from 'node:assert/strict';

/** The value below which the given share (0 to 1) of the measurements lies: nearest rank. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value =
    sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
  assert.ok(value !== undefined, 'a quantile of nothing');
  return value;
}

/** The middle measurement; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  assert.ok(upper !== undefined && lower !== undefined, 'a median of nothing');
  return (lower + upper) / 2;
}

/** The arithmetic mean. */
export function mean(values: readonly number[]): number {
  assert.ok(values.length > 0, 'a mean of nothing');
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** A number with as many digits as are worth reading. */
export function round(value: number, digits = 2): number {
  return Number(value.toFixed(digits));
}

/** Lengths and points of time as people type them for `agent logs`. */
import { UsageError } from '../../base/errors.ts';

const UNITS_MS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** A length of time: `30s`, `10m`, `1.5h`, `2d`; a bare number is seconds. Undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const parts = /^(?<number>\d+(\.\d+)?)\s*(?<unit>s|m|min|h|d)?$/i.exec(text.trim())?.groups;
  const unitMs = UNITS_MS[(parts?.['unit'] ?? 's').toLowerCase()];
  const ms = Number(parts?.['number']) * (unitMs ?? NaN);
  return Number.isFinite(ms) && ms > 0 ? ms : undefined;
}

/** A point in time, in milliseconds since the epoch: a date, or a length of time back from now. @throws UsageError. */
export function parseSince(text: string, nowMs: number): number {
  const agoMs = parseDuration(text);
  const atMs = agoMs === undefined ? Date.parse(text) : nowMs - agoMs;
  if (Number.isNaN(atMs)) {
    throw new UsageError(
      `--since ${text} is no time: give how long ago (30s, 10m, 2h, 1d) or a date (2026-01-31T08:00).`,
    );
  }
  return atMs;
}

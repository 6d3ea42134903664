/**
 * JSON that a caller wants kept, checked before it reaches PostgreSQL: jsonb holds neither NUL characters nor halves of surrogate
 * pairs, and nesting costs stack there and here. What programs printed is mended instead of refused (tasks/jsonb.ts); a caller can act.
 */
import { HubError } from '../hub-error.ts';

/** Deeper than any configuration that a person wrote, and far from what overflows a stack. */
const NESTING_LEVELS_MAX = 100;

// Takes every escape as one token; JSON.stringify writes a surrogate as an escape only when it is a lone one.
const ESCAPE = /\\(?:u(?:0000|d[89a-f][0-9a-f]{2})|[^])/g;

function refused(field: string, why: string): HubError {
  return new HubError(
    422,
    'SEMANTICALLY_INVALID',
    `Request payload failed validation: ${field} ${why}`,
  );
}

function checkNesting(value: unknown, field: string, levelsLeft: number): void {
  if (typeof value !== 'object' || value === null) {
    return;
  }
  if (levelsLeft === 0) {
    throw refused(field, `is nested more than ${NESTING_LEVELS_MAX} levels deep`);
  }
  for (const item of Object.values(value)) {
    checkNesting(item, field, levelsLeft - 1);
  }
}

/** Text of a value for a jsonb column. @throws HubError 422 naming the field when the database cannot hold the value. */
export function storableJson(value: unknown, field: string): string {
  checkNesting(value, field, NESTING_LEVELS_MAX);
  const text = JSON.stringify(value);
  for (const [escape] of text.matchAll(ESCAPE)) {
    if (escape.length > 2) {
      throw refused(
        field,
        'holds a NUL character or half of a surrogate pair, which cannot be stored',
      );
    }
  }
  return text;
}

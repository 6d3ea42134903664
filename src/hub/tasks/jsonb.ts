/**
 * JSON as PostgreSQL's jsonb takes it: it holds neither NUL characters nor lone surrogates, both of which JSON can spell.
 * They become U+FFFD, since what a program printed must not decide whether its result can be stored.
 */

// Takes every escape as one token, so that an escaped backslash before "u0000" is not mistaken for an escape.
const ESCAPE = /\\(?:u[0-9a-f]{4}|[^])/g;
const UNSTORABLE = /^\\u(?:0000|d[89a-f][0-9a-f]{2})$/;

/** Text of a value for a jsonb column. */
export function jsonbText(value: unknown): string {
  // JSON.stringify writes a surrogate as an escape only when it is a lone one.
  return JSON.stringify(value).replaceAll(ESCAPE, (escape) =>
    UNSTORABLE.test(escape) ? '\uFFFD' : escape,
  );
}

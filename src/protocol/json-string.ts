/**
 * A text as a JSON string. `JSON.stringify` looks at each character by itself, which takes 7 ms for 1 MiB; most of a large text needs no
 * escape, and a regular expression tells so five times faster.
 */

import { isPairAt } from './surrogates.ts';

/** Characters in one look; a piece in which one needs an escape is left to `JSON.stringify`. */
const PIECE_CHARS = 32_768;

// eslint-disable-next-line no-control-regex -- these are what JSON escapes
const NEEDS_ESCAPE = /["\\\u0000-\u001f\ud800-\udfff]/;

/** What `JSON.stringify` makes of a text, to the character. */
export function jsonString(text: string): string {
  if (text.length <= PIECE_CHARS) {
    return JSON.stringify(text);
  }
  let json = '"';
  for (let start = 0; start < text.length;) {
    // Two halves of a character, escaped one by one, would be two lone surrogates.
    const end = start + PIECE_CHARS;
    const piece = text.slice(start, isPairAt(text, end - 1) ? end + 1 : end);
    json += NEEDS_ESCAPE.test(piece) ? JSON.stringify(piece).slice(1, -1) : piece;
    start += piece.length;
  }
  return `${json}"`;
}

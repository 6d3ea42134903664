/**
 * What somebody typed, as a query of PostgreSQL's text search: every word must be there, the last one may be just begun.
 *
 * Words are separated as in the index (migration 0005): at ASCII punctuation and white space, and never inside.
 */

/** Words that count; the rest of a longer query is ignored. */
const WORDS_MAX = 16;
const WORD_CHARS_MAX = 64;
/** A single letter begins too many words to mean any of them. */
const PREFIX_CHARS_MIN = 2;

/** The text for `to_tsquery`; undefined when there is no word in it. */
export function searchQueryText(typed: string): string | undefined {
  const words = typed
    .split(/[\s\0!-/:-@[-`{-~]+/)
    .filter((word) => word !== '')
    .slice(0, WORDS_MAX)
    .map((word) => word.slice(0, WORD_CHARS_MAX));
  if (words.length === 0) {
    return undefined;
  }
  const isBegun =
    words.length < WORDS_MAX && Array.from(words.at(-1) ?? '').length >= PREFIX_CHARS_MIN;
  return words
    .map((word, index) => `'${word}'${isBegun && index === words.length - 1 ? ':*' : ''}`)
    .join(' & ');
}

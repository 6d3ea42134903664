/** What the text of a function says about itself: the docstring of a Python function, the doc comment of a JavaScript one. */
import { SERIALIZERS, splitSerialized, unpackBuffers } from '../../protocol/serialization.ts';

/** A comment stands near the beginning. */
const TEXT_CHARS_MAX = 64 * 1024;
const DOC_CHARS_MAX = 10_000;

const BLANKS = /[ \t\r]*/y;
const WHITE_SPACE = /\s*/y;
const TEXT_START = /[rRuU]{0,2}(?:"""|'''|"|')/y;

/** The comment in the text of a function; undefined without one. */
export function docCommentOf(text: string, language: 'javascript' | 'python'): string | undefined {
  const start = text.slice(0, TEXT_CHARS_MAX);
  const found =
    language === 'python'
      ? docstringOf(start)
      : start.includes('/**')
        ? between(start, start.indexOf('/**') + 3, '*/')?.replaceAll(/^[ \t]*\*[ \t]?/gm, '')
        : undefined;
  const doc = found?.trim().slice(0, DOC_CHARS_MAX).replaceAll('\0', ' ');
  return doc === '' ? undefined : doc;
}

/**
 * The text that is the first statement after a colon that ends the head of a function. What was passed over is not looked at again:
 * a regular expression for all of this takes seconds for a text that is made for it.
 */
function docstringOf(text: string): string | undefined {
  let at: number;
  for (let colon = text.indexOf(':'); colon !== -1; colon = text.indexOf(':', at)) {
    at = endOf(BLANKS, text, colon + 1);
    if (text[at] === '#') {
      at = text.indexOf('\n', at);
    }
    if (at === -1) {
      return undefined;
    }
    if (text[at] === '\n') {
      at = endOf(WHITE_SPACE, text, at);
      const start = endOf(TEXT_START, text, at);
      const quote = text.slice(at, start).replace(/^[rRuU]+/, '');
      const doc = between(text, start, quote);
      if (doc !== undefined && (quote.length > 1 || !doc.includes('\n'))) {
        return doc;
      }
    }
  }
  return undefined;
}

/** Where what the pattern matches from here on ends; here, when it does not match. */
function endOf(sticky: RegExp, text: string, from: number): number {
  sticky.lastIndex = from;
  return sticky.test(text) ? sticky.lastIndex : from;
}

/** What stands between a place and the next `end`; undefined when that is empty or does not come. */
function between(text: string, from: number, end: string): string | undefined {
  const to = end === '' ? -1 : text.indexOf(end, from);
  return to === -1 ? undefined : text.slice(from, to);
}

/** The comment of a packed function, where its text can be read at all. */
export function docOfPackedFunction(code: string): string | undefined {
  const [buffer = ''] = unpackBuffers(code);
  const { id, payload } = splitSerialized(buffer);
  if (id === SERIALIZERS.JAVASCRIPT_SOURCE) {
    return docCommentOf(payload, 'javascript');
  }
  return id === SERIALIZERS.SOURCE_TEXT_INSPECT ? docCommentOf(payload, 'python') : undefined;
}

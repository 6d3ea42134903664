/** What the text of a function says about itself: the docstring of a Python function, the doc comment of a JavaScript one. */
import { SERIALIZERS, splitSerialized, unpackBuffers } from '../../protocol/serialization.ts';

/** A comment stands near the beginning. */
const TEXT_CHARS_MAX = 64 * 1024;
const DOC_CHARS_MAX = 10_000;

// After the colon that ends the head of a function, its first statement.
const DOCSTRING =
  /:[ \t]*(?:#[^\n]*)?\n\s*[rRuU]{0,2}(?:"""([^]*?)"""|'''([^]*?)'''|"([^"\n]*)"|'([^'\n]*)')/;
const DOC_COMMENT = /\/\*\*([^]*?)\*\//;

/** Of groups of which one at most took part. */
function firstGroup(match: readonly (string | undefined)[] | null): string | undefined {
  return match?.slice(1).find((group) => group !== undefined);
}

/** The comment in the text of a function; undefined without one. */
export function docCommentOf(text: string, language: 'javascript' | 'python'): string | undefined {
  const start = text.slice(0, TEXT_CHARS_MAX);
  const found =
    language === 'python'
      ? firstGroup(DOCSTRING.exec(start))
      : DOC_COMMENT.exec(start)?.[1]?.replaceAll(/^[ \t]*\*[ \t]?/gm, '');
  const doc = found?.trim().slice(0, DOC_CHARS_MAX).replaceAll('\0', ' ');
  return doc === '' ? undefined : doc;
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

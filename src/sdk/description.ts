/**
 * What a function says about itself, which becomes its description unless the program gives another:
 *
 *   Python       the docstring
 *   JavaScript   a doc comment before the function (in a source text), or the first thing in its body; `toString` of a
 *                function object does not have what stands before it
 */
import type { FunctionSource } from './function-source.ts';

/** Parameters: up to two levels of brackets inside, which is what people write. */
const PARAMETERS = String.raw`\((?:[^(){}]|\((?:[^()]|\([^()]*\))*\)|\{[^{}]*\})*\)`;
const DOC_COMMENT = String.raw`\/\*\*([^]*?)\*\/`;
const NAME = String.raw`[\p{ID_Start}$_][\p{ID_Continue}$]*`;
const BEFORE = new RegExp(String.raw`^\s*${DOC_COMMENT}`, 'u');
const INSIDE = new RegExp(
  String.raw`^\s*(?:async\b\s*)?(?:(?:function\b\s*)?(?:${NAME})?\s*${PARAMETERS}|${NAME})\s*(?:=>)?\s*\{?\s*${DOC_COMMENT}`,
  'u',
);

/** The description in a function's own words; undefined when it has none. */
export function descriptionOf(fn: FunctionSource): string | undefined {
  const text = fn.language === 'python' ? docstring(fn) : docComment(fn.source);
  return text === undefined || text === '' ? undefined : text;
}

function docComment(source: string): string | undefined {
  const comment = (BEFORE.exec(source) ?? INSIDE.exec(source))?.[1];
  return comment
    ?.split('\n')
    .map((line) => line.replace(/^\s*\* ?/, '').trimEnd())
    .join('\n')
    .trim();
}

function docstring({ name, source }: FunctionSource): string | undefined {
  const head = new RegExp(
    String.raw`^[ \t]*(?:async[ \t]+)?def[ \t]+${name.replaceAll(/[^\p{ID_Continue}]/gu, '')}[ \t]*${PARAMETERS}[ \t]*(?:->[^\n]*)?:[ \t]*(?:#[^\n]*)?\r?\n\s*[rRuU]?("""|'''|"|')([^]*?)\1`,
    'mu',
  );
  const lines = head.exec(source)?.[2]?.split('\n');
  if (lines === undefined) {
    return undefined;
  }
  const [first = '', ...others] = lines;
  // As inspect.cleandoc does: what all lines but the first are indented by is no part of the text.
  const margin = Math.min(
    ...others
      .filter((line) => line.trim() !== '')
      .map((line) => /^\s*/.exec(line)?.[0].length ?? 0),
  );
  return [first.trimStart(), ...others.map((line) => line.slice(margin).trimEnd())]
    .join('\n')
    .trim();
}

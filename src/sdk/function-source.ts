/**
 * From what a person writes to what is registered: the source text of a function, its name, its language.
 *
 * A JavaScript function travels as its source and runs in another process: it cannot use variables from around it,
 * so what can be recognised as not standing on its own is refused here rather than failing there.
 */
import { SERIALIZERS, packBuffers } from '../protocol/serialization.ts';
import type { Language } from '../protocol/serialization.ts';
import { SerializationError } from './errors.ts';
import { requireFunction } from './given.ts';

/** A function ready to be registered. */
export interface FunctionSource {
  readonly name: string;
  readonly language: Language;
  readonly source: string;
}

/** Any function, whatever its parameters. */
export type AnyFunction = (...args: never) => unknown;

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;
const NATIVE_BODY = /\{\s*\[native code\]\s*\}\s*$/;
const CLASS_START = /^class\b/;
const GENERATOR_START = /^(?:async\s+)?(?:function\s*)?\*/;
const NAME = String.raw`[\p{ID_Start}$_][\p{ID_Continue}$]*`;
/** The forms that compile on their own: `function …`, `(…) =>`, `x =>`, and the method shorthand `name(…) {`. */
const SENDABLE_START = new RegExp(
  String.raw`^(?:async\b\s*)?(?:function\b|\([^]*?\)\s*=>|${NAME}\s*(?:=>|\())`,
  'u',
);

/** Takes the source of a JavaScript function. @throws SerializationError when it cannot run elsewhere; UsageError when it is none. */
export function sourceOfFunction(fn: AnyFunction, name?: string): FunctionSource {
  requireFunction(fn);
  const label = name ?? (fn.name === '' ? 'anonymous' : fn.name.replace(/^bound /, ''));
  const text = Function.prototype.toString.call(fn);
  const refuse = (why: string): SerializationError =>
    new SerializationError(`"${label}" cannot be sent to an endpoint: ${why}`);
  if (NATIVE_BODY.test(text)) {
    throw refuse(
      'it is a bound or built-in function, whose source is not available. Wrap it: (x) => thing.method(x), with `thing` made inside.',
    );
  }
  if (CLASS_START.test(text)) {
    throw refuse('it is a class. Send a function that makes the object and returns plain data.');
  }
  if (GENERATOR_START.test(text)) {
    throw refuse('it is a generator. Send a function that returns all values at once.');
  }
  if (!SENDABLE_START.test(text)) {
    throw refuse(
      'it is a getter, a setter or a method with a computed name. Write it as a function or an arrow function.',
    );
  }
  return { name: identifier(label), language: 'javascript', source: withoutHelper(text) };
}

/** esbuild, and with it tsx, calls a helper `__name` wherever a function gets a name; what is sent brings it along. */
function withoutHelper(text: string): string {
  return /\b__name\(/.test(text)
    ? `(...args) => { const __name = (fn) => fn; return (${text})(...args); }`
    : text;
}

/** Checks a source text and finds its name. @throws SerializationError when the name cannot be told. */
export function sourceOfText(source: string, language: Language, name?: string): FunctionSource {
  if (source.trim() === '') {
    throw new SerializationError('the source of the function is empty');
  }
  if (language === 'python') {
    return { name: name ?? pythonName(source), language, source };
  }
  const found =
    name ??
    /^\s*(?:async\s+)?function\s*\*?\s*([\p{ID_Start}$_][\p{ID_Continue}$]*)/u.exec(source)?.[1];
  return { name: identifier(found ?? 'anonymous'), language, source };
}

/** The packed `function_code` of a registration. */
export function packFunctionCode({ name, language, source }: FunctionSource): string {
  const id =
    language === 'javascript' ? SERIALIZERS.JAVASCRIPT_SOURCE : SERIALIZERS.SOURCE_TEXT_INSPECT;
  return packBuffers([`${id}\n${name}:${source}`]);
}

/** The serialization identifier of a language's source. */
export function codeId(language: Language): string {
  return language === 'javascript'
    ? SERIALIZERS.JAVASCRIPT_SOURCE
    : SERIALIZERS.SOURCE_TEXT_INSPECT;
}

/** Names end at the first colon on the wire, and a property key such as "get data" is no name there. */
function identifier(name: string): string {
  return IDENTIFIER.test(name) ? name : 'anonymous';
}

function pythonName(source: string): string {
  const names = [...source.matchAll(/^(?:async\s+)?def\s+([^\W\d]\w*)/gmu)].map(
    (match) => match[1],
  );
  const [only] = names;
  if (names.length === 1 && only !== undefined) {
    return only;
  }
  throw new SerializationError(
    names.length === 0
      ? 'the Python source defines no function at its top level: write `def name(...):` without indentation'
      : `the Python source defines several functions (${names.join(', ')}): say which one to call with { name: "${names.at(-1) ?? ''}" }`,
  );
}

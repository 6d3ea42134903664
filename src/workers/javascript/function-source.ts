/**
 * Compiles the source of a function. Accepted forms, tried in this order:
 *
 *   function (a) {…}   async (a) => …   class expressions      an expression
 *   add(a, b) {…}      async add(a) {…}                        a method, as `toString` of one prints it
 *   const K = 2; function add(a) {…}                           statements that define the name of the function
 *   export default function (a) {…}                            a module
 *
 * `require` and `import()` work inside. Only compiled code is kept, never a closure: each task evaluates it afresh.
 * Modules are the exception, because an import is for the lifetime of a thread.
 */
import { createRequire } from 'node:module';
import vm from 'node:vm';

import { ProtocolError } from '../../base/errors.ts';

/** A function as user code defines it. */
export type UserFunction = (...args: unknown[]) => unknown;

type Factory = (require: NodeJS.Require) => unknown;

const CACHE_COUNT_MAX = 256;
const CACHE_CHARS_MAX = 8 * 1024 * 1024;

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$_]*$/u;
const MODULE = /^\s*(?:export|import)\s[^(]/m;

/** Compiles sources, and keeps what was used last. */
export class FunctionSources {
  readonly #factories = new Map<string, Factory>();
  readonly #modules = new Map<string, Promise<UserFunction>>();
  readonly #require: NodeJS.Require;
  #chars = 0;

  /** `directory` is where `require` and `import()` start to look. */
  constructor(directory: string) {
    this.#require = createRequire(`${directory}/function.js`);
  }

  /** A fresh instance of the function that `payload` (`name:source`) defines. @throws SyntaxError, or what its evaluation throws. */
  async load(payload: string): Promise<UserFunction> {
    const cached = this.#factories.get(payload);
    if (cached !== undefined) {
      // Last used, last evicted.
      this.#factories.delete(payload);
      this.#factories.set(payload, cached);
      return asFunction(cached(this.#require));
    }
    const { name, source } = splitPayload(payload);
    const factory = compileFactory(name, source);
    if (factory instanceof SyntaxError) {
      if (MODULE.test(source)) {
        return await this.#importModule(name, source);
      }
      throw factory;
    }
    this.#keep(payload, factory);
    return asFunction(factory(this.#require));
  }

  #keep(payload: string, factory: Factory): void {
    this.#factories.set(payload, factory);
    this.#chars += payload.length;
    for (const oldest of this.#factories.keys()) {
      if (this.#factories.size <= CACHE_COUNT_MAX && this.#chars <= CACHE_CHARS_MAX) {
        return;
      }
      this.#factories.delete(oldest);
      this.#chars -= oldest.length;
    }
  }

  async #importModule(name: string, source: string): Promise<UserFunction> {
    const url = moduleUrl(name, source);
    let loading = this.#modules.get(url);
    if (loading === undefined) {
      loading = importFunction(url, name);
      // The loader keeps every module for the lifetime of the thread; forgetting the promise only costs a look-up.
      this.#modules.set(url, loading);
    }
    return await loading;
  }
}

/** The URL that a module source is imported from; it stands in stack traces until they are cleaned. */
function moduleUrl(name: string, source: string): string {
  return `data:text/javascript;name=${encodeURIComponent(name)};base64,${Buffer.from(source, 'utf8').toString('base64')}`;
}

async function importFunction(url: string, name: string): Promise<UserFunction> {
  const namespace = (await import(url)) as Record<string, unknown>;
  const exported = namespace['default'] ?? namespace[name] ?? Object.values(namespace)[0];
  return asFunction(exported);
}

function splitPayload(payload: string): { name: string; source: string } {
  const colon = payload.indexOf(':');
  if (colon === -1) {
    throw new ProtocolError(
      'BUFFER_INVALID',
      'a JavaScript function is sent as `name:source`, but this one has no colon',
    );
  }
  return { name: payload.slice(0, colon), source: payload.slice(colon + 1) };
}

function asFunction(value: unknown): UserFunction {
  if (typeof value !== 'function') {
    throw new TypeError(
      `the source does not define a function but ${value === null ? 'null' : `a value of type ${typeof value}`}`,
    );
  }
  return value as UserFunction;
}

interface Attempt {
  readonly prefix: string;
  readonly source: string;
  readonly suffix: string;
  readonly pick?: (value: unknown) => unknown;
}

function attemptsFor(name: string, source: string): Attempt[] {
  const attempts: Attempt[] = [
    // A trailing semicolon is no part of an expression, but people copy it along.
    { prefix: 'return (\n', source: source.replace(/[\s;]+$/, ''), suffix: '\n)' },
    {
      prefix: 'return ({\n',
      source,
      suffix: '\n})',
      pick: (value) => Object.values(value as Record<string, unknown>)[0],
    },
  ];
  if (IDENTIFIER.test(name)) {
    attempts.push({ prefix: '\n', source, suffix: `\n;return ${name};` });
  }
  return attempts;
}

/** Compiles in the first form that parses; otherwise returns the error of the form that got furthest. */
function compileFactory(name: string, source: string): Factory | SyntaxError {
  let furthest: { error: SyntaxError; line: number; column: number } | undefined;
  for (const { prefix, source: text, suffix, pick } of attemptsFor(name, source)) {
    try {
      const compiled = vm.compileFunction(prefix + text + suffix, ['require'], {
        filename: name === '' ? 'function' : name,
        // The prefix is a line of its own, so that lines are counted as in the source.
        lineOffset: -1,
        importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER as never,
      }) as Factory;
      return pick === undefined ? compiled : (require) => pick(compiled(require));
    } catch (error) {
      if (!(error instanceof SyntaxError)) {
        throw error;
      }
      const place = errorPlace(error);
      if (
        furthest === undefined ||
        place.line > furthest.line ||
        (place.line === furthest.line && place.column > furthest.column)
      ) {
        furthest = { error, ...place };
      }
    }
  }
  return furthest?.error ?? new SyntaxError('the source is empty');
}

/** Where a SyntaxError points to, from the arrow that V8 prepends to the stack: `name:line`, the line, the arrow. */
function errorPlace(error: SyntaxError): { line: number; column: number } {
  const [head = '', , arrow = ''] = (error.stack ?? '').split('\n');
  return { line: Number(/:(\d+)$/.exec(head)?.[1] ?? 0), column: arrow.indexOf('^') };
}

/**
 * Several items in one task: a function that calls another for each item of a list, made as source, because what is sent
 * cannot use variables from around it. An item that fails fails alone; its error travels as data.
 */
import { TaskExecutionError } from './errors.ts';
import { sourceOfFunction } from './function-source.ts';
import type { AnyFunction, FunctionSource } from './function-source.ts';
import type { TaskContext } from './outcome.ts';

/** What became of one item, as the wrapper returns it. A value of undefined is left out by JSON. */
export interface ItemOutcome {
  readonly value?: unknown;
  readonly thrown?: { readonly type: string; readonly message: string; readonly stack: string };
}

/** `function …`, `(…) =>` and `x =>` are expressions; the rest are methods as `toString` prints them. */
const EXPRESSION_START =
  /^(?:async\b\s*)?(?:function\b|\([^]*?\)\s*=>|[\p{ID_Start}$_][\p{ID_Continue}$]*\s*=>)/u;

/** Makes the function that takes a list. @throws SerializationError when `fn` cannot be sent. */
export function chunkedSource(fn: AnyFunction): FunctionSource {
  const { name, language, source } = sourceOfFunction(fn);
  const expression = EXPRESSION_START.test(source)
    ? `(${source}\n)`
    : `Object.values({ ${source}\n})[0]`;
  const wrapper = `async (items) => {
  const fn = ${expression};
  const outcomes = [];
  for (const item of items) {
    try {
      outcomes.push({ value: await fn(item) });
    } catch (error) {
      const isError = error instanceof Error;
      outcomes.push({
        thrown: {
          type: isError ? error.name : typeof error,
          message: isError ? error.message : String(error),
          stack: isError && typeof error.stack === 'string' ? error.stack : String(error),
        },
      });
    }
  }
  return outcomes;
}`;
  return { name, language, source: wrapper };
}

/** The error of an item that failed within its task. */
export function errorOfItem(
  thrown: NonNullable<ItemOutcome['thrown']>,
  taskId: string,
  context: TaskContext,
): TaskExecutionError {
  return new TaskExecutionError({
    ...context,
    taskId,
    code: 'RemoteExecutionError',
    type: thrown.type,
    message: thrown.message,
    traceback: thrown.stack,
  });
}

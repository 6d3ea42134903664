/**
 * What a program hands over, looked at where types did not: in plain JavaScript, or behind a cast. The mistakes are those that everybody
 * makes once (an `await` left out, a function that was called or never registered), and each is told by what to write instead.
 */
import { UsageError } from '../base/errors.ts';

function isPromise(value: unknown): boolean {
  return value instanceof Promise;
}

function kindOf(value: unknown): string {
  if (value === null) {
    return 'null';
  }
  return typeof value === 'object' ? 'an object' : typeof value;
}

/** @throws UsageError unless this is a registered function, by its handle or its id. */
export function requireRegistered(fn: unknown): void {
  if (isPromise(fn)) {
    throw new UsageError(
      'the function is a Promise: write `await` before client.registerFunction(…), whose handle is wanted here',
    );
  }
  if (typeof fn === 'function') {
    throw new UsageError(
      `the function ${fn.name === '' ? '' : `"${fn.name}" `}is not registered: pass what \`await client.registerFunction(fn)\` returns, or its id. ` +
        'executor.submit(fn, …) registers by itself.',
    );
  }
  const id: unknown = typeof fn === 'object' && fn !== null && 'id' in fn ? fn.id : fn;
  if (typeof id !== 'string' || id === '') {
    throw new UsageError(
      `which function? The handle that client.registerFunction() returned, or its id, is wanted, and not ${kindOf(fn)}`,
    );
  }
}

/** @throws UsageError unless this is a function that can be sent, or a handle. */
export function requireFunction(fn: unknown): void {
  if (isPromise(fn)) {
    throw new UsageError(
      'the function is a Promise: pass the function itself and then its arguments, submit(fn, 1, 2) and not submit(fn(1, 2)); ' +
        'or write `await` before client.registerFunction(…)',
    );
  }
  if (
    typeof fn !== 'function' &&
    (typeof fn !== 'object' || fn === null) &&
    typeof fn !== 'string'
  ) {
    throw new UsageError(
      `a function is wanted, and not ${kindOf(fn)}: pass the function itself and then its arguments, submit(fn, 1, 2) and not submit(fn(1, 2))`,
    );
  }
}

/** @throws UsageError unless there is a client. */
export function requireClient(client: unknown): void {
  if (typeof client !== 'object' || client === null) {
    throw new UsageError(
      'an Executor needs a client: new Executor({ client: new Client(), endpointId })',
    );
  }
}

/** @throws UsageError unless this is the id of a task. */
export function requireTaskId(taskId: unknown): void {
  if (typeof taskId !== 'string' || taskId === '') {
    throw new UsageError(
      isPromise(taskId)
        ? 'the task id is a Promise: write `await` before client.run(…)'
        : `which task? Its id is wanted, as client.run() returns it, and not ${kindOf(taskId)}`,
    );
  }
}

/** @throws UsageError unless these are positional arguments. */
export function requireArguments(args: unknown): void {
  if (!Array.isArray(args)) {
    throw new UsageError(
      `the arguments are a list: { args: [1, 2] }, also when there is only one, and not ${kindOf(args)}`,
    );
  }
}

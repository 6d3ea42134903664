/**
 * Which values JSON carries without changing them. `JSON.stringify` would silently make `{}` of a Map and `null` of NaN,
 * and the function would compute with that.
 */

/** Where in a value JSON fails, and why. */
export interface JsonObstacle {
  /** Path in the notation of the language, such as `args[0].when`. */
  readonly path: string;
  readonly what: string;
  /** Whether no other format carries it either. */
  readonly isStuck?: boolean;
}

/** An obstacle on the way up: the steps to it, innermost first. Most values have none, so no path is kept on the way down. */
interface Found {
  readonly what: string;
  readonly isStuck?: boolean;
  readonly steps: string[];
}

/** The first part of a value that JSON would lose or change; undefined when there is none. */
export function findJsonObstacle(value: unknown, path: string): JsonObstacle | undefined {
  const found = visit(value, new Set());
  return found === undefined
    ? undefined
    : { ...found, path: path + found.steps.reverse().join('') };
}

function visit(value: unknown, above: Set<object>): Found | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'undefined':
      return undefined;
    case 'number':
      return Number.isFinite(value) ? undefined : { what: `${value}`, steps: [] };
    case 'bigint':
      return { what: 'a bigint', steps: [] };
    case 'symbol':
    case 'function':
      return { what: `a ${typeof value}`, isStuck: true, steps: [] };
    case 'object':
      return value === null ? undefined : visitObject(value, above);
  }
}

function visitObject(value: object, above: Set<object>): Found | undefined {
  if (above.has(value)) {
    return { what: 'a reference to an object around it (a cycle)', steps: [] };
  }
  if (value instanceof Promise) {
    return { what: 'a Promise (an `await` is missing)', isStuck: true, steps: [] };
  }
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    return { what: `binary data (${value.constructor.name})`, steps: [] };
  }
  if ('toJSON' in value && typeof value.toJSON === 'function') {
    // Somebody decided how it is written; a Date becomes its ISO text.
    return undefined;
  }
  const isArray = Array.isArray(value);
  if (!isArray && !isPlain(value)) {
    return { what: `an instance of ${value.constructor.name}`, steps: [] };
  }
  above.add(value);
  const found = isArray
    ? visitItems(value, above)
    : visitProperties(value as Record<string, unknown>, above);
  above.delete(value);
  return found;
}

function visitItems(items: readonly unknown[], above: Set<object>): Found | undefined {
  let index = 0;
  for (const item of items) {
    const found = visit(item, above);
    if (found !== undefined) {
      found.steps.push(`[${index}]`);
      return found;
    }
    index += 1;
  }
  return undefined;
}

function visitProperties(
  value: Readonly<Record<string, unknown>>,
  above: Set<object>,
): Found | undefined {
  for (const key of Object.keys(value)) {
    const found = visit(value[key], above);
    if (found !== undefined) {
      found.steps.push(`.${key}`);
      return found;
    }
  }
  return undefined;
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  // Objects of another realm (a vm context) have a prototype that is not ours but has no parent either.
  return (
    prototype === Object.prototype ||
    prototype === null ||
    Object.getPrototypeOf(prototype) === null
  );
}

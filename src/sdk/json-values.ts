/**
 * Which values JSON carries without changing them. `JSON.stringify` would silently make `{}` of a Map and `null` of NaN,
 * and the function would compute with that.
 */

/** Where in a value JSON fails, and why. */
export interface JsonObstacle {
  /** Path in the notation of the language, such as `args[0].when`. */
  readonly path: string;
  readonly what: string;
}

/** The first part of a value that JSON would lose or change; undefined when there is none. */
export function findJsonObstacle(value: unknown, path: string): JsonObstacle | undefined {
  return visit(value, path, new Set());
}

function visit(value: unknown, path: string, above: Set<object>): JsonObstacle | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'undefined':
      return undefined;
    case 'number':
      return Number.isFinite(value) ? undefined : { path, what: `${value}` };
    case 'bigint':
      return { path, what: 'a bigint' };
    case 'symbol':
      return { path, what: 'a symbol' };
    case 'function':
      return { path, what: 'a function' };
    case 'object':
      return value === null ? undefined : visitObject(value, path, above);
  }
}

function visitObject(value: object, path: string, above: Set<object>): JsonObstacle | undefined {
  if (above.has(value)) {
    return { path, what: 'a reference to an object around it (a cycle)' };
  }
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    return { path, what: `binary data (${value.constructor.name})` };
  }
  if ('toJSON' in value && typeof value.toJSON === 'function') {
    // Somebody decided how it is written; a Date becomes its ISO text.
    return undefined;
  }
  if (!Array.isArray(value) && !isPlain(value)) {
    return { path, what: `an instance of ${value.constructor.name}` };
  }
  above.add(value);
  const obstacle = Array.isArray(value)
    ? firstOf(value, (item, index) => visit(item, `${path}[${index}]`, above))
    : firstOf(Object.entries(value), ([key, item]) => visit(item, `${path}.${key}`, above));
  above.delete(value);
  return obstacle;
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  // Objects of another realm (a vm context) have a prototype that is not ours but has no parent either.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function firstOf<T>(
  items: readonly T[],
  look: (item: T, index: number) => JsonObstacle | undefined,
): JsonObstacle | undefined {
  for (const [index, item] of items.entries()) {
    const obstacle = look(item, index);
    if (obstacle !== undefined) {
      return obstacle;
    }
  }
  return undefined;
}

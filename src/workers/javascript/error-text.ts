/**
 * Renders what a function threw, for the person who submitted it: the stack without our own frames, the chain of causes, and
 * anything that is not an Error as `inspect` shows it. Never throws, whatever getters an error has.
 */
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';

/** What was thrown, as the wire carries it. */
export interface ThrownValue {
  readonly text: string;
  readonly type: string;
  readonly message: string;
}

const CAUSES_MAX = 8;
const MESSAGE_CHARS_MAX = 4096;

const OWN_DIRECTORY = dirname(fileURLToPath(import.meta.url));
/** Frames between a function and us that tell nothing: how it was compiled, awaited or called. */
const NOISE = /^\s+at .*(?:node:internal\/(?:vm|process)|node:vm:)/;
const CALLER = /^\s+at (?:new Promise \(<anonymous>\)|Reflect\.apply)/;
const MODULE_URL = /data:text\/javascript;name=([^;]*);base64,[A-Za-z0-9+/=]*/g;

/** Describes a thrown value. */
export function describeThrown(thrown: unknown): ThrownValue {
  try {
    return describe(thrown);
  } catch (error) {
    const text = `the thrown value cannot be shown (reading it threw ${typeof error})`;
    return { text, type: 'Error', message: text };
  }
}

function describe(thrown: unknown): ThrownValue {
  if (!isError(thrown)) {
    const shown = inspect(thrown, { depth: 4, maxStringLength: MESSAGE_CHARS_MAX });
    return {
      text: `Uncaught ${shown}\n(a value of type ${typeof thrown} was thrown; throw an Error to get a stack)`,
      type: thrown === null ? 'null' : typeof thrown,
      message: shown.slice(0, MESSAGE_CHARS_MAX),
    };
  }
  const parts: string[] = [];
  let current: unknown = thrown;
  for (let depth = 0; depth < CAUSES_MAX && current !== undefined && current !== null; depth += 1) {
    const label = depth === 0 ? '' : 'Caused by: ';
    if (!isError(current)) {
      parts.push(label + inspect(current, { depth: 4 }));
      break;
    }
    parts.push(label + stackText(current));
    if (current instanceof AggregateError) {
      parts.push(
        ...current.errors
          .slice(0, CAUSES_MAX)
          .map((inner: unknown) => `Contains: ${innerText(inner)}`),
      );
    }
    current = current.cause;
  }
  return {
    text: parts.join('\n'),
    type: thrown.name,
    message: thrown.message.slice(0, MESSAGE_CHARS_MAX),
  };
}

function innerText(thrown: unknown): string {
  return isError(thrown) ? stackText(thrown) : inspect(thrown, { depth: 4 });
}

/** Errors of other realms (vm contexts) are errors too. */
function isError(value: unknown): value is Error {
  return (
    value instanceof Error ||
    (typeof value === 'object' &&
      value !== null &&
      Object.prototype.toString.call(value) === '[object Error]')
  );
}

function stackText(error: Error): string {
  const headline = `${error.name}: ${error.message}`;
  const stack = typeof error.stack === 'string' ? error.stack : headline;
  const lines = stack.split('\n');
  // From our own first frame downwards, nothing is the function's.
  const own = lines.findIndex((line) => line.includes(OWN_DIRECTORY) && /^\s+at /.test(line));
  const kept = (own === -1 ? lines : lines.slice(0, own)).filter((line) => !NOISE.test(line));
  while (CALLER.test(kept.at(-1) ?? '')) {
    kept.pop();
  }
  return kept.join('\n').replaceAll(MODULE_URL, (_url, name: string) => decodeURIComponent(name));
}

/**
 * Packed buffers and serialization identifiers (protocol.md 8.1, 8.2).
 *
 * A serialized buffer is text: a two-character id, a newline, the payload. Packing puts the decimal length before
 * each buffer; **the length counts Unicode code points**, neither bytes nor UTF-16 units.
 */
import { ProtocolError } from '../base/errors.ts';
import { isPairAt } from './surrogates.ts';

/** Identifier of each serialization strategy. `js` and `v8` are ours, the others are Globus Compute's. */
export const SERIALIZERS = {
  DILL_DATA: '00',
  JSON_DATA: '11',
  ALL_DATA: '13',
  V8_DATA: 'v8',
  DILL_CODE: '01',
  PICKLE_CODE: '02',
  DILL_CODE_TEXT_INSPECT: '03',
  DILL_CODE_SOURCE: '04',
  COMBINED_CODE: '10',
  ALL_CODE: '12',
  SOURCE_TEXT_INSPECT: 'st',
  SOURCE_DILL: 'sd',
  JAVASCRIPT_SOURCE: 'js',
} as const;

/** Language that a function is written in. */
export type Language = 'javascript' | 'python';

const PYTHON_CODE_IDS: ReadonlySet<string> = new Set([
  '01',
  '02',
  '03',
  '04',
  '10',
  '12',
  'st',
  'sd',
]);

/** Language of the function behind a code identifier, or undefined when the identifier is not one for code. */
export function languageOf(codeId: string): Language | undefined {
  if (codeId === SERIALIZERS.JAVASCRIPT_SOURCE) {
    return 'javascript';
  }
  return PYTHON_CODE_IDS.has(codeId) ? 'python' : undefined;
}

const SDK_NAMES: Readonly<Record<string, string>> = {
  DillDataBase64: SERIALIZERS.DILL_DATA,
  JSONData: SERIALIZERS.JSON_DATA,
  AllDataStrategies: SERIALIZERS.ALL_DATA,
  DillCode: SERIALIZERS.DILL_CODE,
  DillCodeTextInspect: SERIALIZERS.DILL_CODE_TEXT_INSPECT,
  DillCodeSource: SERIALIZERS.DILL_CODE_SOURCE,
  CombinedCode: SERIALIZERS.COMBINED_CODE,
  AllCodeStrategies: SERIALIZERS.ALL_CODE,
  PureSourceTextInspect: SERIALIZERS.SOURCE_TEXT_INSPECT,
  PureSourceDill: SERIALIZERS.SOURCE_DILL,
};
const OWN_NAMES: Readonly<Record<string, string>> = {
  V8Data: SERIALIZERS.V8_DATA,
  JavaScriptSource: SERIALIZERS.JAVASCRIPT_SOURCE,
};
const NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries({ ...SDK_NAMES, ...OWN_NAMES }).map(([name, id]) => [id, name]),
);
const IDS = new Set<string>(Object.values(SERIALIZERS));
const SDK_MODULE = /^globus_compute_sdk\.serialize\.(?:concretes\.)?/;
/** Every strategy of one kind that the Globus Compute SDK can choose. */
const WILDCARDS: Readonly<Record<string, readonly string[]>> = {
  'globus_compute_sdk.*Code': Object.values(SDK_NAMES).filter((id) => isCode(id)),
  'globus_compute_sdk.*Data': Object.values(SDK_NAMES).filter((id) => !isCode(id)),
};

function isCode(id: string): boolean {
  return languageOf(id) !== undefined;
}

/** Class name of a serializer by its identifier, for people; the identifier itself when it has none. */
export function serializerName(id: string): string {
  return NAMES.get(id) ?? id;
}

/** Identifiers of a list of allowed serializers, or why it is none. */
export type AllowedSerializers = { readonly ids: readonly string[] } | { readonly problem: string };

/**
 * Reads a list of the only serializers that an endpoint accepts (protocol.md 8.4): identifiers, class names, import paths of the
 * SDK, or its wildcards. Like the origin's, it must let through at least one for code and one for data.
 */
export function readAllowedSerializers(list: readonly unknown[]): AllowedSerializers {
  const ids = new Set<string>();
  for (const item of list) {
    if (typeof item === 'string' && Object.hasOwn(WILDCARDS, item)) {
      continue;
    }
    const id = typeof item === 'string' ? idOfName(item) : undefined;
    if (id === undefined) {
      return { problem: `${JSON.stringify(item)} is no serializer` };
    }
    ids.add(id);
  }
  for (const [wildcard, covered] of Object.entries(WILDCARDS)) {
    if (list.includes(wildcard)) {
      const specific = covered.find((id) => ids.has(id));
      if (specific !== undefined) {
        return { problem: `${wildcard} already covers ${serializerName(specific)}` };
      }
      covered.forEach((id) => ids.add(id));
    }
  }
  const codes = [...ids].filter((id) => isCode(id)).length;
  return codes === 0 || codes === ids.size
    ? { problem: 'at least one serializer for code and one for data is needed' }
    : { ids: [...ids] };
}

function idOfName(name: string): string | undefined {
  if (IDS.has(name)) {
    return name;
  }
  const bare = name.replace(SDK_MODULE, '');
  if (Object.hasOwn(SDK_NAMES, bare)) {
    return SDK_NAMES[bare];
  }
  return Object.hasOwn(OWN_NAMES, name) ? OWN_NAMES[name] : undefined;
}

/** The first buffer whose serializer is not among the allowed, in words for who submitted it; undefined when all are. */
export function serializerObstacle(
  buffers: readonly string[],
  allowed: ReadonlySet<string>,
): string | undefined {
  const refused = buffers.findIndex((buffer) => !allowed.has(buffer.slice(0, 2)));
  if (refused === -1) {
    return undefined;
  }
  const id = (buffers[refused] ?? '').slice(0, 2);
  const kind = isCode(id) ? 'Code' : 'Data';
  const names = [...allowed].filter((each) => isCode(each) === isCode(id)).map(serializerName);
  return (
    `${kind} serializer ${serializerName(id)} disabled by current configuration. The current configuration requires the ` +
    `*${isCode(id) ? 'function' : 'arguments'}* to be serialized with one of the allowed ${kind} classes. ` +
    `Allowed serializers: ${names.sort().join(', ')}`
  );
}

/** Number of Unicode code points in a text (Python's `len`). A lone surrogate counts as one. */
export function codePointLength(text: string): number {
  let length = text.length;
  for (let index = plainLength(text); index < text.length - 1; index += 1) {
    if (isPairAt(text, index)) {
      length -= 1;
      index += 1;
    }
  }
  return length;
}

const SURROGATE = /[\ud800-\udfff]/;

/** Length of what stands before the first surrogate. Most texts have none, and a regular expression sees that far sooner than a loop. */
function plainLength(text: string): number {
  const index = text.search(SURROGATE);
  return index === -1 ? text.length : index;
}

/** Packs buffers: for each its length in code points, a newline, the buffer. */
export function packBuffers(buffers: readonly string[]): string {
  return buffers.map((buffer) => `${codePointLength(buffer)}\n${buffer}`).join('');
}

/** Unpacks what {@link packBuffers} made. @throws ProtocolError BUFFER_INVALID. */
export function unpackBuffers(packed: string): string[] {
  const buffers: string[] = [];
  let offset = 0;
  while (offset < packed.length) {
    const newline = packed.indexOf('\n', offset);
    const digits = newline === -1 ? '' : packed.slice(offset, newline);
    if (!/^\d{1,10}$/.test(digits)) {
      throw new ProtocolError(
        'BUFFER_INVALID',
        `packed buffer ${buffers.length + 1}: no length before it`,
      );
    }
    const end = skipCodePoints(packed, newline + 1, Number(digits));
    if (end === -1) {
      throw new ProtocolError(
        'BUFFER_INVALID',
        `packed buffer ${buffers.length + 1}: says ${digits} characters, but the text ends before`,
      );
    }
    buffers.push(packed.slice(newline + 1, end));
    offset = end;
  }
  return buffers;
}

/** UTF-16 offset after `count` code points from `start`, or -1 when the text is shorter. */
function skipCodePoints(text: string, start: number, count: number): number {
  const plain = plainLength(text.slice(start, start + count));
  let offset = start + plain;
  for (let left = count - plain; left > 0; left -= 1) {
    if (offset >= text.length) {
      return -1;
    }
    offset += isPairAt(text, offset) ? 2 : 1;
  }
  return offset;
}

/** A serialized buffer taken apart. */
export interface SerializedBuffer {
  readonly id: string;
  readonly payload: string;
}

/** Splits a serialized buffer into id and payload. @throws ProtocolError BUFFER_INVALID. */
export function splitSerialized(buffer: string): SerializedBuffer {
  if (buffer.length < 3 || buffer[2] !== '\n') {
    throw new ProtocolError(
      'BUFFER_INVALID',
      'a serialized buffer starts with a two-character identifier and a newline',
    );
  }
  return { id: buffer.slice(0, 2), payload: buffer.slice(3) };
}

/** Serializes a value as JSON data (`11`). @throws ProtocolError BUFFER_INVALID when JSON cannot hold the value. */
export function serializeJson(value: unknown): string {
  // undefined has no JSON form; null is what a caller in another language would expect of a function without a result.
  return `${SERIALIZERS.JSON_DATA}\n${JSON.stringify(value ?? null)}`;
}

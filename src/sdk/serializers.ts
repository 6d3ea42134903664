/**
 * Arguments and results as serialized buffers (protocol.md 8): JSON between languages, `v8` (structured clone) between
 * JavaScript and JavaScript. Pickled data cannot be read here, so submissions ask for results in JSON.
 */
import { deserialize, serialize } from 'node:v8';

import { errorText } from '../base/errors.ts';
import {
  SERIALIZERS,
  packBuffers,
  serializeJson,
  splitSerialized,
  unpackBuffers,
} from '../protocol/serialization.ts';
import type { Language } from '../protocol/serialization.ts';
import { SerializationError } from './errors.ts';
import { findJsonObstacle } from './json-values.ts';

/** How arguments travel: `json` works with every language; `v8` keeps Map, Set, Date, bigint and binary data, JavaScript only. */
export type ArgumentFormat = 'json' | 'v8';

/** Import path by which a Globus Compute worker knows its JSON strategy. */
export const JSON_RESULT_SERIALIZER = 'globus_compute_sdk.serialize.concretes.JSONData';

/** The part of a submission that asks for results in a form that can be read here. */
export function resultSerializersFor(
  language: Language | undefined,
  format: ArgumentFormat,
): { result_serializers?: readonly string[] } {
  // A JavaScript worker returns JSON, or v8 when the arguments came so. A function known only by its id may be Python.
  return language === 'javascript' || format === 'v8'
    ? {}
    : { result_serializers: [JSON_RESULT_SERIALIZER] };
}

const PICKLED: ReadonlySet<string> = new Set([SERIALIZERS.DILL_DATA]);

/** Serializes one value. @throws SerializationError when the format cannot hold it. */
export function serializeValue(value: unknown, format: ArgumentFormat, name: string): string {
  if (format === 'v8') {
    try {
      return `${SERIALIZERS.V8_DATA}\n${serialize(value).toString('base64')}`;
    } catch (error) {
      throw new SerializationError(
        `${name} cannot be sent to the function: ${errorText(error)}. Pass plain data, and functions by name.`,
        { cause: error },
      );
    }
  }
  const obstacle = findJsonObstacle(value, name);
  if (obstacle !== undefined) {
    throw new SerializationError(
      `${obstacle.path} cannot be sent to the function: it is ${obstacle.what}, ` +
        (obstacle.isStuck === true
          ? 'which is no data. Send what it stands for.'
          : "which JSON does not carry. Convert it, or, when the function is JavaScript, use { argumentFormat: 'v8' }."),
    );
  }
  return serializeJson(value);
}

/** The payload of a submission: packed positional and keyword arguments. @throws SerializationError. */
export function serializeArguments(
  args: readonly unknown[],
  kwargs: Readonly<Record<string, unknown>>,
  format: ArgumentFormat,
): string {
  // As if they had been left out: JSON would make null of them.
  const last = format === 'json' ? args.findLastIndex((arg) => arg !== undefined) : args.length;
  const given = args.slice(0, last + 1);
  return packBuffers([
    serializeValue(given, format, 'args'),
    serializeValue(kwargs, format, 'kwargs'),
  ]);
}

/** What a payload takes in the JSON of a request, in bytes. */
export function requestBytes(payload: string): number {
  return Buffer.byteLength(JSON.stringify(payload), 'utf8') + 1;
}

/** The value in a successful result. @throws SerializationError. */
export function deserializeResult(buffer: string): unknown {
  const { id, payload } = splitBuffer(buffer);
  switch (id) {
    case SERIALIZERS.JSON_DATA:
      return parseJson(payload);
    case SERIALIZERS.V8_DATA:
      return parseV8(payload);
    case SERIALIZERS.ALL_DATA:
      return deserializeResult(firstReadable(payload));
    default:
      throw unreadable(id);
  }
}

function splitBuffer(buffer: string): { id: string; payload: string } {
  try {
    return splitSerialized(buffer);
  } catch (error) {
    throw new SerializationError(`the result is not serialized data: ${errorText(error)}`, {
      cause: error,
    });
  }
}

function parseJson(payload: string): unknown {
  try {
    return JSON.parse(payload);
  } catch (error) {
    throw new SerializationError(
      `the result says that it is JSON, but is not: ${errorText(error)}. Python writes NaN and Infinity, which JSON does ` +
        'not have: return None or text for them.',
      { cause: error },
    );
  }
}

function parseV8(payload: string): unknown {
  try {
    return deserialize(Buffer.from(payload, 'base64'));
  } catch (error) {
    throw new SerializationError(
      `the result cannot be read: ${errorText(error)}. The endpoint may run a newer Node.js than this program.`,
      { cause: error },
    );
  }
}

/** Of the alternatives of an AllDataStrategies buffer, the one in a form that we read. */
function firstReadable(payload: string): string {
  const alternatives = unpackBuffers(payload);
  const readable = alternatives.find((alternative) => !PICKLED.has(alternative.slice(0, 2)));
  if (readable === undefined) {
    throw unreadable(SERIALIZERS.DILL_DATA);
  }
  return readable;
}

function unreadable(id: string): SerializationError {
  return new SerializationError(
    PICKLED.has(id)
      ? 'the result is pickled Python data, which only Python can read. Submit with ' +
          `result_serializers: ["${JSON_RESULT_SERIALIZER}"] (this SDK does so by itself), and return values that JSON can hold.`
      : `the result has serialization "${id}", which this SDK does not read. Let the function return values that JSON can hold.`,
  );
}

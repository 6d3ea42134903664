/**
 * Arguments and results of JavaScript functions. JSON (`11`) crosses languages; a structured clone (`v8`) is for JavaScript
 * on both ends; what is pickled is for Python alone, and the message says how to send it otherwise.
 */
import v8 from 'node:v8';

import { ProtocolError } from '../../base/errors.ts';
import { jsonString } from '../../protocol/json-string.ts';
import {
  SERIALIZERS,
  packBuffers,
  splitSerialized,
  unpackBuffers,
} from '../../protocol/serialization.ts';

const SEND_JSON =
  'send JSON instead: `Executor(serializer=ComputeSerializer(strategy_data=JSONData()))` in the Python SDK';

/** A value and the identifier that it came under. */
export interface DeserializedValue {
  readonly id: string;
  readonly value: unknown;
}

/** Reads a data buffer. @throws ProtocolError BUFFER_INVALID, SyntaxError. */
export function deserializeData(buffer: string): DeserializedValue {
  const { id, payload } = splitSerialized(buffer);
  switch (id) {
    case SERIALIZERS.JSON_DATA:
      return { id, value: JSON.parse(payload) as unknown };
    case SERIALIZERS.V8_DATA:
      return { id, value: v8.deserialize(Buffer.from(payload, 'base64')) as unknown };
    case SERIALIZERS.ALL_DATA: {
      const json = unpackBuffers(payload).find((part) =>
        part.startsWith(`${SERIALIZERS.JSON_DATA}\n`),
      );
      if (json === undefined) {
        throw new ProtocolError(
          'BUFFER_INVALID',
          `the arguments hold no JSON form, which a JavaScript function needs; ${SEND_JSON}`,
        );
      }
      return { id, value: deserializeData(json).value };
    }
    case SERIALIZERS.DILL_DATA:
      throw new ProtocolError(
        'BUFFER_INVALID',
        `the arguments are pickled (DillDataBase64, 00), which only Python reads; ${SEND_JSON}`,
      );
    default:
      throw new ProtocolError(
        'BUFFER_INVALID',
        `unknown data serialization ${JSON.stringify(id)} of the arguments`,
      );
  }
}

/** Identifiers of the origin's serializers that JavaScript can write, by class name. */
const WRITABLE: Readonly<Record<string, string>> = {
  JSONData: SERIALIZERS.JSON_DATA,
  AllDataStrategies: SERIALIZERS.ALL_DATA,
};

/** Writes a result: as the submitter asked where JavaScript can, as a structured clone where the arguments were one, as JSON otherwise. */
export function serializeResult(
  value: unknown,
  argsId: string,
  resultSerializers: readonly string[] | undefined,
): string {
  const asked = resultSerializers
    ?.map((path) => WRITABLE[path.slice(path.lastIndexOf('.') + 1)])
    .find((id) => id !== undefined);
  if (asked === undefined && argsId === SERIALIZERS.V8_DATA) {
    return `${SERIALIZERS.V8_DATA}\n${v8.serialize(value).toString('base64')}`;
  }
  const json = `${SERIALIZERS.JSON_DATA}\n${jsonText(value)}`;
  return asked === SERIALIZERS.ALL_DATA ? `${SERIALIZERS.ALL_DATA}\n${packBuffers([json])}` : json;
}

function jsonText(value: unknown): string {
  if (value instanceof Map || value instanceof Set) {
    throw new TypeError(
      `the result cannot be serialized: JSON would make {} of a ${value.constructor.name}; return an array or an object`,
    );
  }
  let text: string | undefined;
  try {
    // The declared type hides that functions and symbols have no JSON form.
    text =
      typeof value === 'string'
        ? jsonString(value)
        : (JSON.stringify as (from: unknown) => string | undefined)(value ?? null);
  } catch (error) {
    throw new TypeError(
      `the result cannot be serialized as JSON: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
  if (text === undefined) {
    throw new TypeError(`the result cannot be serialized: JSON has no form for a ${typeof value}`);
  }
  return text;
}

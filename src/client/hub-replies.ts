/**
 * Checks that a successful reply has what its caller is going to use, so that a wrong server is named as such and not
 * met as "undefined" somewhere else.
 */
import { responseInvalid } from '../transport/http/json-client.ts';
import type { JsonReply } from '../transport/http/json-client.ts';

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function valueAt(reply: JsonReply, path: readonly string[]): unknown {
  let value = reply.body;
  for (const key of path) {
    value = isObject(value) ? value[key] : undefined;
  }
  return value;
}

/** The body as an object. @throws ProtocolError RESPONSE_INVALID. */
export function readObject(what: string, reply: JsonReply): Record<string, unknown> {
  if (!isObject(reply.body)) {
    throw responseInvalid(`${what}: the hub did not answer with a JSON object`, reply);
  }
  return reply.body;
}

/** The body as a list. @throws ProtocolError RESPONSE_INVALID. */
export function requireList(what: string, reply: JsonReply): readonly unknown[] {
  if (!Array.isArray(reply.body)) {
    throw responseInvalid(`${what}: the hub did not answer with a JSON list`, reply);
  }
  return reply.body;
}

/** The text at a path of the body. @throws ProtocolError RESPONSE_INVALID. */
export function requireText(what: string, reply: JsonReply, ...path: readonly string[]): string {
  const value = valueAt(reply, path);
  if (typeof value !== 'string') {
    throw responseInvalid(`${what}: the hub's answer has no "${path.join('.')}"`, reply);
  }
  return value;
}

/** The object at a path of the body. @throws ProtocolError RESPONSE_INVALID. */
export function requireObject(
  what: string,
  reply: JsonReply,
  ...path: readonly string[]
): Record<string, unknown> {
  const value = valueAt(reply, path);
  if (!isObject(value)) {
    throw responseInvalid(`${what}: the hub's answer has no "${path.join('.')}"`, reply);
  }
  return value;
}

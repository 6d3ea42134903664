/**
 * Types of options and how each reads a value: from YAML as it was parsed, from the environment and flags as text.
 *
 * A reader returns the value or what it expected instead; it never throws, so that all problems are reported at once.
 */
import type { EnvironmentRules } from '../protocol/environments.ts';
import { readAllowedSerializers } from '../protocol/serialization.ts';
import { CRON_EXPECTATION, readCronExpression } from './cron-expression.ts';
import { ENVIRONMENTS_EXPECTATION, readEnvironmentRules } from './environment-rules.ts';
import { LISTEN_EXPECTATION, isLoopback, readListenAddress } from './listen-address.ts';
import type { Reading } from './reading.ts';

/** A whole number with bounds. */
export interface IntegerType {
  readonly type: 'integer';
  readonly min: number;
  readonly max: number;
}

/** A number of seconds, fractions allowed, kept in milliseconds by its consumers. */
export interface SecondsType {
  readonly type: 'seconds';
  readonly min: number;
  readonly max: number;
}

/** A text of limited length. */
export interface TextType {
  readonly type: 'text';
  readonly lengthMax: number;
}

/** One of some words. */
export interface ChoiceType {
  readonly type: 'choice';
  readonly choices: readonly string[];
}

/** Address of the hub: https, or http on this machine. */
export interface HubUrlType {
  readonly type: 'hub-url';
}

/** A file or directory, as written; resolving is the consumer's. */
export interface PathType {
  readonly type: 'path';
}

/** UUIDs: a YAML list, or separated by commas. */
export interface UuidListType {
  readonly type: 'uuid-list';
}

/** Serializers, by class name, import path, wildcard or identifier: a YAML list, or separated by commas. Read as identifiers. */
export interface SerializerListType {
  readonly type: 'serializer-list';
}

/** Yes or no. */
export interface FlagType {
  readonly type: 'flag';
}

/** Environment variables: a YAML map, `A=1,B=2`, or a JSON object. */
export interface VariablesType {
  readonly type: 'variables';
}

/** A cron expression: five fields, or six with seconds in front. */
export interface CronType {
  readonly type: 'cron';
}

/** Where to listen on this machine: host:port on loopback, or the absolute path of a Unix socket. */
export interface ListenType {
  readonly type: 'listen';
}

/** Execution environments: a YAML map, or a JSON object. */
export interface EnvironmentsType {
  readonly type: 'environments';
}

/** Every type of option. */
export type OptionType =
  | IntegerType
  | SecondsType
  | TextType
  | ChoiceType
  | HubUrlType
  | PathType
  | UuidListType
  | SerializerListType
  | FlagType
  | VariablesType
  | CronType
  | EnvironmentsType
  | ListenType;

/** A value after reading. */
export type OptionValue =
  | boolean
  | number
  | string
  | readonly string[]
  | Readonly<Record<string, string>>
  | EnvironmentRules;

/** A UUID in any of its spellings with hyphens. */
export const UUID_PATTERN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const VARIABLE_NAME_PATTERN = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Reads a raw value, text or parsed YAML, as an option's type. */
export function readOptionValue(type: OptionType, raw: unknown): Reading<OptionValue> {
  switch (type.type) {
    case 'integer':
    case 'seconds':
      return readNumber(type, raw);
    case 'text':
      return readText(type, raw);
    case 'choice':
      return typeof raw === 'string' && type.choices.includes(raw)
        ? { value: raw }
        : { expected: expectation(type) };
    case 'hub-url':
      return readHubUrl(raw);
    case 'path':
      return typeof raw === 'string' && !raw.includes('\0')
        ? { value: raw }
        : { expected: expectation(type) };
    case 'uuid-list':
      return readUuidList(raw);
    case 'serializer-list':
      return readSerializerList(raw);
    case 'flag':
      return readFlag(raw);
    case 'variables':
      return readVariables(raw);
    case 'cron':
      return readCronExpression(raw);
    case 'listen':
      return readListenAddress(raw);
    case 'environments':
      return readEnvironmentRules(raw);
  }
}

/** What a type expects, for messages and documentation. */
export function expectation(type: OptionType): string {
  switch (type.type) {
    case 'integer':
      return `a whole number from ${type.min} to ${type.max}`;
    case 'seconds':
      return `a number of seconds from ${type.min} to ${type.max}`;
    case 'text':
      return `a text of at most ${type.lengthMax} characters without control characters`;
    case 'choice':
      return `one of ${type.choices.join(', ')}`;
    case 'hub-url':
      return 'an https:// URL (http:// only for this machine)';
    case 'path':
      return 'a path';
    case 'uuid-list':
      return 'a list of UUIDs';
    case 'serializer-list':
      return 'a list of serializers, with at least one for code and one for data';
    case 'flag':
      return 'true or false';
    case 'variables':
      return 'a map of environment variable names to texts';
    case 'cron':
      return CRON_EXPECTATION;
    case 'listen':
      return LISTEN_EXPECTATION;
    case 'environments':
      return ENVIRONMENTS_EXPECTATION;
  }
}

function readNumber(type: IntegerType | SecondsType, raw: unknown): Reading<number> {
  // Number('') and Number(' ') are 0, and Number('0x10') is 16: only plain decimals are numbers here.
  const number = typeof raw === 'string' && /^\s*-?\d+(\.\d+)?\s*$/.test(raw) ? Number(raw) : raw;
  const isRight =
    typeof number === 'number' &&
    (type.type === 'seconds' ? Number.isFinite(number) : Number.isSafeInteger(number)) &&
    number >= type.min &&
    number <= type.max;
  return isRight ? { value: number } : { expected: expectation(type) };
}

function readText(type: TextType, raw: unknown): Reading<string> {
  // A display name such as 2024 is a number to YAML and a text to its author.
  const text = typeof raw === 'number' ? String(raw) : raw;
  return typeof text === 'string' && text.length <= type.lengthMax && !hasControlCharacter(text)
    ? { value: text }
    : { expected: expectation(type) };
}

function readHubUrl(raw: unknown): Reading<string> {
  const expected = expectation({ type: 'hub-url' });
  if (typeof raw !== 'string' || !URL.canParse(raw)) {
    return { expected };
  }
  const url = new URL(raw);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    return { expected };
  }
  if (url.username !== '' || url.password !== '') {
    return { expected: `${expected} without a user or password in it` };
  }
  if (url.search !== '' || url.hash !== '') {
    return { expected: `${expected} without a query or fragment` };
  }
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    return {
      expected: 'https://, because plain http would show the client secret to the network',
    };
  }
  return { value: url.href.replace(/\/+$/, '') };
}

function readUuidList(raw: unknown): Reading<readonly string[]> {
  const items: unknown = typeof raw === 'string' ? raw.split(',').map((item) => item.trim()) : raw;
  if (!Array.isArray(items)) {
    return { expected: expectation({ type: 'uuid-list' }) };
  }
  if (items.length === 0) {
    // Neither reading of an empty list (nobody, everybody) is safe to guess.
    return { expected: 'at least one UUID; remove the key to allow all functions' };
  }
  const ids: string[] = [];
  for (const item of items as readonly unknown[]) {
    if (typeof item !== 'string' || !UUID_PATTERN.test(item)) {
      return { expected: `a list of UUIDs; ${quote(item)} is none` };
    }
    ids.push(item.toLowerCase());
  }
  return { value: [...new Set(ids)] };
}

function readSerializerList(raw: unknown): Reading<readonly string[]> {
  const items: unknown = typeof raw === 'string' ? raw.split(',').map((item) => item.trim()) : raw;
  if (!Array.isArray(items)) {
    return { expected: expectation({ type: 'serializer-list' }) };
  }
  const reading = readAllowedSerializers(items);
  return 'ids' in reading
    ? { value: reading.ids }
    : { expected: `${expectation({ type: 'serializer-list' })}; ${reading.problem}` };
}

function readFlag(raw: unknown): Reading<boolean> {
  const flag = raw === 'true' ? true : raw === 'false' ? false : raw;
  return typeof flag === 'boolean' ? { value: flag } : { expected: expectation({ type: 'flag' }) };
}

function readVariables(raw: unknown): Reading<Readonly<Record<string, string>>> {
  const map = typeof raw === 'string' ? parseVariables(raw) : raw;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    return { expected: `${expectation({ type: 'variables' })}, or as text: A=1,B=2` };
  }
  const variables: Record<string, string> = {};
  for (const [name, value] of Object.entries(map as Record<string, unknown>)) {
    if (!VARIABLE_NAME_PATTERN.test(name)) {
      return { expected: `names of letters, digits and underscores; ${quote(name)} is none` };
    }
    if (name.startsWith('OUTPOST_')) {
      return { expected: `names that do not begin with OUTPOST_, which are the agent's own` };
    }
    // OMP_NUM_THREADS: 4 is what people write.
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') {
      return { expected: `a text for ${name}` };
    }
    if (String(value).includes('\0')) {
      return { expected: `a text without a null character for ${name}` };
    }
    variables[name] = String(value);
  }
  return { value: variables };
}

function parseVariables(text: string): unknown {
  if (text.trimStart().startsWith('{')) {
    try {
      return JSON.parse(text) as unknown;
    } catch (error) {
      // Reported by the caller as a wrong value: the text was no JSON.
      return error instanceof SyntaxError ? undefined : undefined;
    }
  }
  const pairs = text.split(',').map((pair) => {
    const end = pair.indexOf('=');
    return end < 1 ? undefined : ([pair.slice(0, end).trim(), pair.slice(end + 1)] as const);
  });
  return pairs.some((pair) => pair === undefined)
    ? undefined
    : Object.fromEntries(pairs.filter((pair) => pair !== undefined));
}

function hasControlCharacter(text: string): boolean {
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  return /[\u0000-\u001F\u007F]/.test(text);
}

function quote(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : `a ${typeof value}`;
}

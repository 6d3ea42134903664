/**
 * The setting `environments`: which execution environments functions may name here, and how they are started. It is checked word by
 * word, since what it says becomes command lines.
 */
import type { EnvironmentLauncher, EnvironmentRules } from '../protocol/environments.ts';
import { ENVIRONMENT_TYPES } from '../protocol/sharing.ts';
import type { Reading } from './reading.ts';

/** What the setting expects, for messages and documentation. */
export const ENVIRONMENTS_EXPECTATION =
  'a map with any of allow, map and options (docs/environments.md), or the same as a JSON object';

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const SECTIONS = ['allow', 'map', 'options'];
const LAUNCHER_KEYS = ['interpreter', 'prefix'];

/** Reads the setting from YAML as it was parsed, or from JSON text. */
export function readEnvironmentRules(raw: unknown): Reading<EnvironmentRules> {
  const given = typeof raw === 'string' ? parsed(raw) : raw;
  if (!isMap(given)) {
    return { expected: ENVIRONMENTS_EXPECTATION };
  }
  const problem =
    unknownKey(given, SECTIONS, 'environments') ??
    allowProblem(given['allow'] ?? []) ??
    mapProblem(given['map'] ?? {}) ??
    optionsProblem(given['options'] ?? {});
  if (problem !== undefined) {
    return { expected: problem };
  }
  const { allow = [], map = {}, options = {} } = given as Partial<EnvironmentRules>;
  return { value: { allow, map: canonical(map), options } };
}

function allowProblem(allow: unknown): string | undefined {
  if (!isTexts(allow)) {
    return 'a list of texts under allow: a type, or type:location with * for any text';
  }
  const wrong = allow.find((rule) => !isType(typeOf(rule)) || rule.endsWith(':'));
  return wrong === undefined
    ? undefined
    : `a type (${ENVIRONMENT_TYPES.join(', ')}), or type:location, under allow; ${JSON.stringify(wrong)} is neither`;
}

function mapProblem(map: unknown): string | undefined {
  if (!isMap(map)) {
    return 'a map from environments to launchers under map';
  }
  for (const [key, launcher] of Object.entries(map)) {
    if (!UUID.test(key) && (!key.includes(':') || !isType(typeOf(key)) || key.endsWith(':'))) {
      return `ids of environments, or type:location, as keys under map; ${JSON.stringify(key)} is neither`;
    }
    const where = `map, ${key}`;
    if (!isMap(launcher)) {
      return `interpreter or prefix, or both, under ${where}`;
    }
    const { interpreter = 'python3', prefix = [] } = launcher;
    const problem =
      unknownKey(launcher, LAUNCHER_KEYS, where) ??
      (isText(interpreter)
        ? undefined
        : `the path of a Python interpreter as interpreter under ${where}`) ??
      (isTexts(prefix) ? undefined : `a list of words as prefix under ${where}`);
    if (problem !== undefined) {
      return problem;
    }
  }
  return undefined;
}

function optionsProblem(options: unknown): string | undefined {
  if (!isMap(options)) {
    return 'a map from types to lists of words under options';
  }
  for (const [type, words] of Object.entries(options)) {
    if (!isType(type) || type === 'venv' || type === 'module') {
      return `types with a launcher (apptainer, singularity, docker, podman, conda) under options; ${JSON.stringify(type)} is none`;
    }
    if (!isTexts(words)) {
      return `a list of words under options, ${type}`;
    }
  }
  return undefined;
}

function unknownKey(
  map: Readonly<Record<string, unknown>>,
  known: readonly string[],
  where: string,
): string | undefined {
  const key = Object.keys(map).find((each) => !known.includes(each));
  return key === undefined
    ? undefined
    : `only ${known.join(', ')} under ${where}; ${JSON.stringify(key)} is none of them`;
}

/** Ids as tasks spell them. */
function canonical(
  map: Readonly<Record<string, EnvironmentLauncher>>,
): Readonly<Record<string, EnvironmentLauncher>> {
  return Object.fromEntries(
    Object.entries(map).map(([key, launcher]) => [
      UUID.test(key) ? key.toLowerCase() : key,
      launcher,
    ]),
  );
}

function typeOf(rule: string): string {
  return rule.split(':', 1)[0] ?? '';
}

function isType(text: string): boolean {
  return ENVIRONMENT_TYPES.some((type) => type === text);
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !value.includes('\0');
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every(isText);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // The caller says what was expected.
    return undefined;
  }
}

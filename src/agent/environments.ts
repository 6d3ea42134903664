/**
 * The execution environment that a task asks for: read from its header, and refused by name before the task is accepted when this
 * endpoint does not run functions in it. A function is never run outside of the environment that it names.
 */
import {
  NO_ENVIRONMENTS,
  environmentTitle,
  launcherOf,
  notAllowedText,
} from '../protocol/environments.ts';
import type { EnvironmentRules } from '../protocol/environments.ts';
import { canonicalUuid } from '../protocol/messages.ts';
import type { Language } from '../protocol/serialization.ts';
import { ENVIRONMENT_TYPES } from '../protocol/sharing.ts';
import type { TaskEnvironment } from '../protocol/sharing.ts';
import type { TaskFailure } from './task-failure.ts';

const LOCATION_CHARS_MAX = 2048;

/** The environment of a task; undefined for none. @throws TypeError or SyntaxError when the header says what is none. */
export function readTaskEnvironment(header: unknown): TaskEnvironment | undefined {
  if (header === undefined || header === null || header === '') {
    return undefined;
  }
  const parsed: unknown = typeof header === 'string' ? JSON.parse(header) : header;
  const { id, type, location } = (parsed ?? {}) as Readonly<Record<string, unknown>>;
  const uuid = typeof id === 'string' ? canonicalUuid(id) : undefined;
  const known = ENVIRONMENT_TYPES.find((each) => each === type);
  if (uuid === undefined || known === undefined || !isLocation(location)) {
    throw new TypeError('outpost_environment names no execution environment');
  }
  return { id: uuid, type: known, location };
}

/** Why a task may not run in its environment here. */
export function environmentObstacle(
  environment: TaskEnvironment,
  language: Language,
  rules: EnvironmentRules = NO_ENVIRONMENTS,
): TaskFailure | undefined {
  const code = 'ENVIRONMENT_NOT_AVAILABLE';
  if (language !== 'python') {
    const title = environmentTitle(environment);
    const message = `JavaScript functions run in no execution environment, and this one names ${title}: register it without one, or as a Python function`;
    return { code, message };
  }
  return launcherOf(rules, environment) === undefined
    ? { code, message: notAllowedText(environment) }
    : undefined;
}

/** It becomes a word of a command line: the hub has checked it, and this agent does not take its word for it. */
function isLocation(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value !== '' &&
    value.length <= LOCATION_CHARS_MAX &&
    // eslint-disable-next-line no-control-regex -- control characters are what is refused
    !/(?:^|\s)-|[\u0000-\u001F\u007F]/.test(value)
  );
}

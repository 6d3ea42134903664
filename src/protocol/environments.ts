/**
 * Which execution environments an endpoint runs functions in, and how: its operator names them, and what is not named is refused. The
 * agent asks before it accepts a task and the worker host before it starts anything, both with this function.
 */
import { ENVIRONMENT_TYPES } from './sharing.ts';
import type { EnvironmentType, TaskEnvironment } from './sharing.ts';

/** How the site starts an interpreter in an environment, instead of the usual way of its type. */
export interface EnvironmentLauncher {
  /** Path or name of the interpreter, as it is called inside. */
  readonly interpreter?: string;
  /** Words that stand before the interpreter's; `{location}`, `{working_dir}` and `{worker_dir}` in them are filled in. */
  readonly prefix?: readonly string[];
}

/** What an operator allows. */
export interface EnvironmentRules {
  /** `type`, or `type:location` with `*` for any text. */
  readonly allow: readonly string[];
  /** By id or `type:location`; whoever stands here is allowed. */
  readonly map: Readonly<Record<string, EnvironmentLauncher>>;
  /** Further words for the launcher of a type (`apptainer exec`, `docker run`, `conda run`). */
  readonly options: Readonly<Partial<Record<EnvironmentType, readonly string[]>>>;
}

/** Nothing is allowed. */
export const NO_ENVIRONMENTS: EnvironmentRules = { allow: [], map: {}, options: {} };

/** How an environment that is allowed is started; undefined when it is not allowed. */
export function launcherOf(
  { allow, map }: EnvironmentRules,
  { id, type, location }: TaskEnvironment,
): EnvironmentLauncher | undefined {
  const named = own(map, id) ?? own(map, `${type}:${location}`);
  if (named !== undefined) {
    return named;
  }
  // A pattern is meant for what lies below it, and `..` leads elsewhere.
  const isPlain = !location.split('/').includes('..');
  return isPlain && allow.some((rule) => matches(rule, type, location)) ? {} : undefined;
}

/** The types that a task may have a chance with, for the hub, which refuses the others. */
export function offeredTypes({ allow, map }: EnvironmentRules): EnvironmentType[] {
  const names = [...allow, ...Object.keys(map)];
  const typed = new Set(names.map((name) => name.split(':', 1)[0]));
  // An id does not tell its type.
  const hasId = Object.keys(map).some((key) => !key.includes(':'));
  return ENVIRONMENT_TYPES.filter((type) => hasId || typed.has(type));
}

/** Why an environment is refused, and what its operator can do. */
export function notAllowedText({ id, type, location }: TaskEnvironment): string {
  return (
    `this endpoint does not run functions in environment ${id} (${type} ${location}): its operator can add ` +
    `"${type}:${location}" to \`allow\` of \`environments\` in the endpoint's config.yaml, or map it to a launcher there, and restart the agent`
  );
}

/** An environment in messages. */
export function environmentTitle({ id, type, location }: TaskEnvironment): string {
  return `environment ${id} (${type} ${location})`;
}

function own<T>(map: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(map, key) ? map[key] : undefined;
}

function matches(rule: string, type: string, location: string): boolean {
  const colon = rule.indexOf(':');
  if (colon === -1) {
    return rule === type;
  }
  const pattern = rule
    .slice(colon + 1)
    .split('*')
    .map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'))
    .join('.*');
  return rule.slice(0, colon) === type && new RegExp(`^${pattern}$`).test(location);
}

/**
 * Execution environments: where a function wants to be run, by a name that its site understands. Registered once and never changed,
 * so that who was let into one knows what it is; shared like functions. The agent of an endpoint decides whether it takes part.
 *
 * A location becomes an argument of a command line at the site: it must not look like an option, nor hold what splits one.
 */
import { randomUUID } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely, Selectable } from 'kysely';

import { ENVIRONMENT_TYPES } from '../../protocol/sharing.ts';
import type { EnvironmentDocument, EnvironmentType } from '../../protocol/sharing.ts';
import type { Caller } from '../auth/caller.ts';
import type { EnvironmentsTable, HubDatabase } from '../db/schema.ts';
import type { AccessControl } from '../groups/access-control.ts';
import { HubError } from '../hub-error.ts';

const LOCATION_CHARS_MAX = 2048;
/** A list is not paged: people have a handful. */
const LISTED_MAX = 1_000;

/** An environment to be registered. */
export interface NewEnvironment {
  readonly type: string;
  readonly location: string;
  readonly name: string;
  readonly description: string | undefined;
  readonly isPublic: boolean;
  readonly sharedWith: readonly string[];
}

// eslint-disable-next-line no-control-regex -- control characters are what is refused
const CONTROL = /[\u0000-\u001F\u007F]/;
const PATH = /^\//;
const WORD = /^\S+$/;
const WORDS = /^\S+( \S+)*$/;

/** What a location looks like, and how to say it. */
const LOCATIONS: Readonly<Record<EnvironmentType, readonly [pattern: RegExp, expected: string]>> = {
  apptainer: [WORD, 'the path of an image or its URI, without spaces (docker://python:3.11)'],
  singularity: [WORD, 'the path of an image or its URI, without spaces (docker://python:3.11)'],
  docker: [WORD, 'the name of an image (python:3.11-slim)'],
  podman: [WORD, 'the name of an image (python:3.11-slim)'],
  venv: [PATH, 'the absolute path of the environment’s directory at the site'],
  conda: [/^(?:\/.*|[^\s/]+)$/, 'the name of an environment, or its absolute path at the site'],
  module: [WORDS, 'names of modules with one space between them (gcc/12 python/3.11)'],
};

/** Why a location is none for this type, or undefined. */
export function locationProblem(type: EnvironmentType, location: string): string | undefined {
  const [pattern, expected] = LOCATIONS[type];
  if (location.length > LOCATION_CHARS_MAX) {
    return `it has more than ${LOCATION_CHARS_MAX} characters`;
  }
  if (/(?:^|\s)-/.test(location)) {
    return 'it looks like an option of a command';
  }
  return CONTROL.test(location) || !pattern.test(location) ? `expected ${expected}` : undefined;
}

/** The table of environments. */
export class EnvironmentRegistry {
  readonly #db: Kysely<HubDatabase>;
  readonly #access: AccessControl;

  constructor(db: Kysely<HubDatabase>, access: AccessControl) {
    this.#db = db;
    this.#access = access;
  }

  /** Registers an environment and returns its id. @throws HubError 404 or 422. */
  async register(caller: Caller, environment: NewEnvironment): Promise<string> {
    // Older SDKs write "Singularity" and "Docker".
    const spelt = environment.type.toLowerCase();
    const type = ENVIRONMENT_TYPES.find((each) => each === spelt);
    if (type === undefined) {
      throw invalid(
        `body/type: ${environment.type.slice(0, 64)} is none of ${ENVIRONMENT_TYPES.join(', ')}`,
      );
    }
    const problem = locationProblem(type, environment.location);
    if (problem !== undefined) {
      throw invalid(`body/location: ${problem}`);
    }
    for (const group of environment.sharedWith) {
      await this.#access.requireMember(caller, group);
    }
    const { id } = await this.#db
      .insertInto('environments')
      .values({
        id: randomUUID(),
        owner_id: caller.id,
        type,
        location: environment.location,
        name: environment.name,
        description: environment.description ?? null,
        public: environment.isPublic,
        shared_with: [...environment.sharedWith],
      })
      .returning('id')
      .executeTakeFirstOrThrow();
    return id;
  }

  /** An environment that the caller may use. @throws HubError 403 or 404. */
  async read(caller: Caller, id: string): Promise<EnvironmentDocument> {
    const row = await this.#row(id);
    const thing = {
      kind: 'environment' as const,
      id,
      ownerId: row.owner_id,
      isPublic: row.public,
      sharedWith: row.shared_with,
    };
    if (!(await this.#access.allows(caller, thing, 'now'))) {
      throw await this.#access.refusal(caller, thing);
    }
    return toDocument(row);
  }

  /** Environments that the caller may use, newest first. */
  async list(caller: Caller): Promise<EnvironmentDocument[]> {
    const groups = [...(await this.#access.memberships.of(caller, 'now'))];
    const rows = await this.#db
      .selectFrom('environments')
      .selectAll()
      .where('deleted_at', 'is', null)
      .where((eb) =>
        eb.or([
          eb('owner_id', '=', caller.id),
          eb('public', '=', true),
          sql<boolean>`shared_with && ${groups}::uuid[]`,
        ]),
      )
      .orderBy('created_at', 'desc')
      .orderBy('id')
      .limit(LISTED_MAX)
      .execute();
    return rows.map(toDocument);
  }

  /** Deletes an environment of the caller's; functions that name it can no longer be submitted. @throws HubError 403 or 404. */
  async delete(caller: Caller, id: string): Promise<void> {
    const row = await this.#row(id);
    if (row.owner_id !== caller.id) {
      throw await this.#access.ownersOnly(caller, {
        kind: 'environment',
        id,
        ownerId: row.owner_id,
      });
    }
    await this.#db
      .updateTable('environments')
      .set({ deleted_at: sql<Date>`now()` })
      .where('id', '=', id)
      .execute();
  }

  async #row(id: string): Promise<Selectable<EnvironmentsTable>> {
    const row = await this.#db
      .selectFrom('environments')
      .selectAll()
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) {
      throw new HubError(
        404,
        'CONTAINER_NOT_FOUND',
        `Environment ${id} could not be found; GET /v1/environments lists those that you may use`,
      );
    }
    return row;
  }
}

function invalid(what: string): HubError {
  return new HubError(422, 'SEMANTICALLY_INVALID', `Request payload failed validation: ${what}`);
}

function toDocument(row: Selectable<EnvironmentsTable>): EnvironmentDocument {
  return {
    environment_id: row.id,
    type: row.type,
    location: row.location,
    name: row.name,
    description: row.description,
    owner: row.owner_id,
    public: row.public,
  };
}

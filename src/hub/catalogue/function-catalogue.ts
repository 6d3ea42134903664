/**
 * Functions: registered once, never changed but in who may use them, found by id on every submission.
 *
 * Code is kept in a cache bounded in bytes; a function that was deleted or unshared through another hub process may be used
 * for as long as an entry lives. Nobody is refused because of an entry: before that, the database is asked.
 */
import { randomUUID } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import { ProtocolError } from '../../base/errors.ts';
import { splitSerialized, unpackBuffers } from '../../protocol/serialization.ts';
import type { TaskEnvironment } from '../../protocol/sharing.ts';
import type { Caller } from '../auth/caller.ts';
import { BoundedCache } from '../bounded-cache.ts';
import type { HubDatabase } from '../db/schema.ts';
import { storableJson } from '../db/storable-json.ts';
import type { AccessControl, Thing } from '../groups/access-control.ts';
import { HubError } from '../hub-error.ts';
import { docOfPackedFunction } from '../search/doc-comment.ts';

const CODE_TTL_MS = 30_000;
const CODE_CACHE_BYTES_MAX = 32 * 1024 * 1024;

/** A function to be registered. */
export interface NewFunction {
  readonly name: string;
  readonly code: string;
  readonly description: string | undefined;
  /** What its text says about itself, for those who search; read from the code when it is readable. */
  readonly doc: string | undefined;
  readonly isPublic: boolean;
  /** Groups of the owner's that may use it. */
  readonly sharedWith: readonly string[];
  /** Whether searches find it. */
  readonly isSearchable: boolean;
  /** Where it is to run. */
  readonly environmentId: string | undefined;
  readonly meta: Readonly<Record<string, unknown>>;
}

/** What a submission needs to know of a function. */
export interface CallableFunction extends Thing {
  readonly kind: 'function';
  readonly code: string;
  readonly environment: TaskEnvironment | undefined;
  /** The environment that it names was deleted. */
  readonly isHomeless: boolean;
}

/** The table of functions. */
export class FunctionCatalogue {
  readonly #db: Kysely<HubDatabase>;
  readonly #codeBytesMax: number;
  readonly #callable: BoundedCache<CallableFunction>;
  readonly #access: AccessControl;

  constructor(db: Kysely<HubDatabase>, clock: Clock, codeBytesMax: number, access: AccessControl) {
    this.#db = db;
    this.#access = access;
    this.#codeBytesMax = codeBytesMax;
    this.#callable = new BoundedCache({
      clock,
      ttlMs: CODE_TTL_MS,
      weightMax: CODE_CACHE_BYTES_MAX,
      // Strings of V8 take one or two bytes a character; 200 is the entry itself.
      weigh: (callable) => 2 * callable.code.length + 200,
    });
  }

  /** Registers a function and returns its id. @throws HubError 413 or 422. */
  async register(ownerId: string, registration: NewFunction): Promise<string> {
    this.#checkCode(registration.code);
    const { id } = await this.#db
      .insertInto('functions')
      .values({
        id: randomUUID(),
        owner_id: ownerId,
        name: registration.name,
        code: registration.code,
        description: registration.description ?? null,
        doc: registration.doc ?? docOfPackedFunction(registration.code) ?? null,
        public: registration.isPublic,
        shared_with: [...registration.sharedWith],
        searchable: registration.isSearchable,
        environment_id: registration.environmentId ?? null,
        meta: storableJson(registration.meta, 'body/meta'),
      })
      .returning('id')
      .executeTakeFirstOrThrow();
    return id;
  }

  /** The document of a function. @throws HubError 403 or 404. */
  async document(caller: Caller, id: string): Promise<Record<string, unknown>> {
    const row = await this.#db
      .selectFrom('functions')
      .select(['id', 'name', 'owner_id', 'description', 'code', 'meta'])
      .select(['public', 'shared_with', 'environment_id'])
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) {
      throw notFound(id);
    }
    const { owner_id: ownerId, public: isPublic, shared_with: sharedWith } = row;
    const sharing = { ownerId, isPublic, sharedWith };
    if (!(await this.#access.allows(caller, sharing, 'now'))) {
      throw await this.#access.refusal(caller, { kind: 'function', id, ...sharing });
    }
    return {
      function_uuid: row.id,
      function_name: row.name,
      ...(row.description === null ? {} : { description: row.description }),
      function_code: row.code,
      metadata: row.meta,
      ...(row.environment_id === null ? {} : { container_uuid: row.environment_id }),
      ...(isPublic ? { public: true } : {}),
      // Whom it is shared with is the owner's business.
      ...(ownerId === caller.id && sharedWith.length > 0 ? { groups: sharedWith } : {}),
    };
  }

  /** Deletes a function of the caller's. @throws HubError 403 or 404. */
  async delete(caller: Caller, id: string): Promise<void> {
    const row = await this.#db
      .selectFrom('functions')
      .select('owner_id')
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) {
      throw notFound(id);
    }
    if (row.owner_id !== caller.id) {
      throw await this.#access.ownersOnly(caller, { kind: 'function', id, ownerId: row.owner_id });
    }
    await this.#db
      .updateTable('functions')
      .set({ deleted_at: sql<Date>`now()` })
      .where('id', '=', id)
      .execute();
    this.forget(id);
  }

  /** Forgets what is remembered about a function, after a change. */
  forget(id: string): void {
    this.#callable.delete(id);
  }

  /** Forgets everything. */
  forgetAll(): void {
    this.#callable.clear();
  }

  /** Functions that the caller may call. @throws HubError 403 or 404. */
  async callable(caller: Caller, ids: readonly string[]): Promise<Map<string, CallableFunction>> {
    const found = new Map<string, CallableFunction>();
    for (const id of ids) {
      const remembered = this.#callable.get(id);
      if (remembered !== undefined && (await this.#access.allows(caller, remembered))) {
        found.set(id, remembered);
      }
    }
    const unknown = ids.filter((id) => !found.has(id));
    const { mark } = this.#callable;
    for (const callable of unknown.length === 0 ? [] : await this.#read(unknown)) {
      if (!(await this.#access.admits(caller, callable))) {
        throw await this.#access.refusal(caller, callable);
      }
      this.#callable.setSince(mark, callable.id, callable);
      found.set(callable.id, callable);
    }
    for (const id of unknown) {
      const callable = found.get(id);
      if (callable === undefined) {
        throw notFound(id);
      }
    }
    for (const { id, isHomeless } of found.values()) {
      if (isHomeless) {
        throw new HubError(
          404,
          'CONTAINER_NOT_FOUND',
          `Function ${id} names an execution environment that was deleted; register the function again, with another one or without`,
        );
      }
    }
    return found;
  }

  async #read(ids: readonly string[]): Promise<CallableFunction[]> {
    const rows = await this.#db
      .selectFrom('functions as f')
      .leftJoin('environments as e', 'e.id', 'f.environment_id')
      .select(['f.id', 'f.owner_id', 'f.public', 'f.shared_with', 'f.code'])
      .select([
        'f.environment_id',
        'e.type',
        'e.location',
        'e.deleted_at as environment_deleted_at',
      ])
      .where('f.id', '=', sql<string>`any(${ids}::uuid[])`)
      .where('f.deleted_at', 'is', null)
      .execute();
    return rows.map((row) => ({
      kind: 'function',
      id: row.id,
      ownerId: row.owner_id,
      isPublic: row.public,
      sharedWith: row.shared_with,
      code: row.code,
      environment:
        row.environment_id === null || row.type === null || row.location === null
          ? undefined
          : { id: row.environment_id, type: row.type, location: row.location },
      isHomeless: row.environment_deleted_at !== null,
    }));
  }

  #checkCode(code: string): void {
    const bytes = Buffer.byteLength(code);
    if (bytes > this.#codeBytesMax) {
      throw new HubError(
        413,
        'FUNCTION_TOO_LARGE',
        `the function has ${bytes} bytes, more than the ${this.#codeBytesMax} allowed (OUTPOST_HUB_FUNCTION_BYTES_MAX); move data out of it and pass it as an argument`,
      );
    }
    try {
      const [buffer, ...others] = unpackBuffers(code);
      if (buffer === undefined || others.length > 0) {
        throw new ProtocolError('BUFFER_INVALID', 'it must hold exactly one packed buffer');
      }
      splitSerialized(buffer);
      if (/\p{Cs}/u.test(code)) {
        throw new ProtocolError(
          'BUFFER_INVALID',
          'it holds half of a surrogate pair, which has no UTF-8 form',
        );
      }
    } catch (error) {
      if (error instanceof ProtocolError) {
        throw new HubError(
          422,
          'SEMANTICALLY_INVALID',
          `Request payload failed validation: body/function_code: ${error.message}`,
        );
      }
      throw error;
    }
  }
}

function notFound(id: string): HubError {
  return new HubError(404, 'FUNCTION_NOT_FOUND', `Function ${id} could not be found`);
}

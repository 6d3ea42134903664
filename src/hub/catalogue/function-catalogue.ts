/**
 * Functions: registered once, never changed, found by id on every submission.
 *
 * Code is kept in a cache bounded in bytes; a function that was deleted through another hub process may be used
 * for as long as an entry lives.
 */
import { randomUUID } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import { ProtocolError } from '../../base/errors.ts';
import { splitSerialized, unpackBuffers } from '../../protocol/serialization.ts';
import { BoundedCache } from '../bounded-cache.ts';
import type { HubDatabase } from '../db/schema.ts';
import { storableJson } from '../db/storable-json.ts';
import { HubError } from '../hub-error.ts';

const CODE_TTL_MS = 30_000;
const CODE_CACHE_BYTES_MAX = 32 * 1024 * 1024;

/** A function to be registered. */
export interface NewFunction {
  readonly name: string;
  readonly code: string;
  readonly description: string | undefined;
  readonly isPublic: boolean;
  readonly meta: Readonly<Record<string, unknown>>;
}

/** What a submission needs to know of a function. */
export interface CallableFunction {
  readonly id: string;
  readonly ownerId: string;
  readonly isPublic: boolean;
  readonly code: string;
}

/** The table of functions. */
export class FunctionCatalogue {
  readonly #db: Kysely<HubDatabase>;
  readonly #codeBytesMax: number;
  readonly #callable: BoundedCache<CallableFunction>;

  constructor(db: Kysely<HubDatabase>, clock: Clock, codeBytesMax: number) {
    this.#db = db;
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
        public: registration.isPublic,
        meta: storableJson(registration.meta, 'body/meta'),
      })
      .returning('id')
      .executeTakeFirstOrThrow();
    return id;
  }

  /** The document of a function. @throws HubError 403 or 404. */
  async document(callerId: string, id: string): Promise<Record<string, unknown>> {
    const row = await this.#db
      .selectFrom('functions')
      .selectAll()
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) {
      throw notFound(id);
    }
    checkAccess(callerId, { id, ownerId: row.owner_id, isPublic: row.public });
    return {
      function_uuid: row.id,
      function_name: row.name,
      ...(row.description === null ? {} : { description: row.description }),
      function_code: row.code,
      metadata: row.meta,
    };
  }

  /** Deletes a function of the caller's. @throws HubError 403 or 404. */
  async delete(callerId: string, id: string): Promise<void> {
    const row = await this.#db
      .selectFrom('functions')
      .select('owner_id')
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) {
      throw notFound(id);
    }
    checkAccess(callerId, { id, ownerId: row.owner_id, isPublic: false });
    await this.#db
      .updateTable('functions')
      .set({ deleted_at: sql<Date>`now()` })
      .where('id', '=', id)
      .execute();
    this.#callable.delete(id);
  }

  /** Functions that the caller may call, all with one query at most. @throws HubError 403 or 404. */
  async callable(callerId: string, ids: readonly string[]): Promise<Map<string, CallableFunction>> {
    const found = new Map<string, CallableFunction>();
    const unknown: string[] = [];
    for (const id of ids) {
      const cached = this.#callable.get(id);
      if (cached === undefined) {
        unknown.push(id);
      } else {
        found.set(id, cached);
      }
    }
    if (unknown.length > 0) {
      const rows = await this.#db
        .selectFrom('functions')
        .select(['id', 'owner_id', 'public', 'code'])
        .where('id', '=', sql<string>`any(${unknown}::uuid[])`)
        .where('deleted_at', 'is', null)
        .execute();
      for (const row of rows) {
        const callable: CallableFunction = {
          id: row.id,
          ownerId: row.owner_id,
          isPublic: row.public,
          code: row.code,
        };
        this.#callable.set(row.id, callable);
        found.set(row.id, callable);
      }
    }
    for (const id of ids) {
      const callable = found.get(id);
      if (callable === undefined) {
        throw notFound(id);
      }
      checkAccess(callerId, callable);
    }
    return found;
  }

  #checkCode(code: string): void {
    const bytes = Buffer.byteLength(code);
    if (bytes > this.#codeBytesMax) {
      throw new HubError(
        413,
        'FUNCTION_TOO_LARGE',
        `the function has ${bytes} bytes, more than the ${this.#codeBytesMax} allowed; move data out of it and pass it as an argument`,
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

function checkAccess(
  callerId: string,
  callable: { id: string; ownerId: string; isPublic: boolean },
): void {
  if (callable.ownerId !== callerId && !callable.isPublic) {
    throw new HubError(
      403,
      'FUNCTION_ACCESS_FORBIDDEN',
      `Unauthorized access to function ${callable.id}: it belongs to somebody else and is not public`,
    );
  }
}

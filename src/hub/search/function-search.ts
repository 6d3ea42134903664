/**
 * Full-text search over the functions that a caller may use: own, shared and public ones. One index has the words and the readers of
 * each function, so that what the caller may not use is not even looked at.
 *
 * Bounded: SEARCH_HITS_MAX matches are ranked at most. Of a query that finds more, the rest is not seen and `total` stays at that number;
 * a function with the very name that was typed is always seen.
 */
import { sql } from 'kysely';
import type { Kysely, RawBuilder } from 'kysely';

import { SEARCH_HITS_MAX } from '../../protocol/sharing.ts';
import type { FoundFunction, FunctionSearchDocument } from '../../protocol/sharing.ts';
import type { Caller } from '../auth/caller.ts';
import type { HubDatabase } from '../db/schema.ts';
import { usernamesOf } from '../groups/group-documents.ts';
import type { Memberships } from '../groups/memberships.ts';
import { searchQueryText } from './search-query.ts';

/** What is asked for. */
export interface FunctionQuery {
  /** As somebody typed it; without a word in it, everything is found, the newest first. */
  readonly q: string;
  readonly offset: number;
  readonly limit: number;
  /** Only the caller's own, and all of them. */
  readonly isOwn: boolean;
}

/** Stands for everybody among the readers of a function. */
const EVERYBODY = '00000000-0000-0000-0000-000000000000';

/** As much of a description as is searched; a page would have no bound otherwise. The function's document has all of it. */
const DESCRIPTION_CHARS_MAX = 10_000;

/** Functions of one name that are seen in any case. */
const NAMESAKES_MAX = 100;

interface Row {
  readonly total: number;
  /** null: the page is empty. */
  readonly id: string | null;
  readonly name: string;
  readonly description: string | null;
  readonly owner_id: string;
  readonly public: boolean;
  readonly environment_id: string | null;
  readonly created_at: Date;
  readonly score: number;
}

/** Searches. */
export class FunctionSearch {
  readonly #db: Kysely<HubDatabase>;
  readonly #memberships: Memberships;

  constructor(db: Kysely<HubDatabase>, memberships: Memberships) {
    this.#db = db;
    this.#memberships = memberships;
  }

  /** One page of what the caller may use and the query describes, the best first. */
  async find(caller: Caller, query: FunctionQuery): Promise<FunctionSearchDocument> {
    const rows = await this.#rows(query, await this.#visible(caller, query));
    const total = rows[0]?.total ?? 0;
    const found = rows.filter((row): row is Row & { id: string } => row.id !== null);
    const authors = await usernamesOf(this.#db, [...new Set(found.map((row) => row.owner_id))]);
    return {
      q: query.q,
      offset: query.offset,
      limit: query.limit,
      count: found.length,
      total,
      has_next_page: query.offset + found.length < total,
      results: found.map((row) => toDocument(row, authors.get(row.owner_id) ?? '')),
    };
  }

  /** Of their own, people see also those that nobody else shall find. */
  async #visible(caller: Caller, { isOwn }: FunctionQuery): Promise<RawBuilder<unknown>> {
    if (isOwn) {
      return sql`owner_id = ${caller.id}::uuid`;
    }
    const readers = [caller.id, EVERYBODY, ...(await this.#memberships.of(caller))];
    return sql`searchable and readers && ${readers}::uuid[]`;
  }

  async #rows(
    { q, offset, limit }: FunctionQuery,
    isVisible: RawBuilder<unknown>,
  ): Promise<readonly Row[]> {
    const text = searchQueryText(q);
    const words = text === undefined ? undefined : wordsQuery(text);
    // The very name that was typed comes before everything else that has its words.
    const score =
      words === undefined
        ? sql`0::real`
        : sql`ts_rank(search, ${words}) + (lower(name) = lower(${q}))::int`;
    const hits = sql`
      select id, created_at, ${score} as score from functions where deleted_at is null and ${isVisible}`;
    const { rows } = await sql<Row>`
      with hits as materialized (
        ${
          words === undefined
            ? sql`${hits} order by created_at desc limit ${SEARCH_HITS_MAX}`
            : sql`(${hits} and lower(name) = lower(${q}) limit ${NAMESAKES_MAX})
                union (${hits} and search @@ ${words} limit ${SEARCH_HITS_MAX})`
        }
      ), page as (
        select * from hits order by score desc, created_at desc, id limit ${limit} offset ${offset}
      )
      select least(total.count, ${SEARCH_HITS_MAX}) as total, f.id, f.name, left(f.description, ${DESCRIPTION_CHARS_MAX}) as description, f.owner_id, f.public, f.environment_id, f.created_at, page.score
      from (select count(*)::int as count from hits) as total
        left join page on true
        left join functions as f on f.id = page.id
      order by page.score desc, f.created_at desc, f.id`.execute(this.#db);
    return rows;
  }
}

/**
 * As English, where stems are compared and words like "the" do not count; or letter by letter, for names, other languages, and
 * queries that have nothing but such words.
 */
function wordsQuery(text: string): RawBuilder<unknown> {
  return sql`(to_tsquery('pg_catalog.english', ${text}) || to_tsquery('pg_catalog.simple', ${text}))`;
}

function toDocument(row: Row & { readonly id: string }, author: string): FoundFunction {
  return {
    function_uuid: row.id,
    function_name: row.name,
    description: row.description,
    owner: row.owner_id,
    author,
    public: row.public,
    container_uuid: row.environment_id,
    created_at: row.created_at.toISOString(),
    score: Number(row.score.toFixed(6)),
  };
}

/** Schemas of the routes that only older SDKs call; see schemas.ts for what holds for all of them. */
import { Type } from '@sinclair/typebox';
import type { Static } from '@sinclair/typebox';

import { open, Uuid } from './schemas.ts';

/** Functions that one endpoint may allow: each submission looks at them. */
export const ALLOWED_FUNCTIONS_MAX = 10_000;
/** Largest page of Globus Search; ours end earlier. */
const NUMBER_DIGITS_MAX = 5;

/** `POST /v2/endpoints/{id}/whitelist`. */
export const WhitelistBody = open({ func: Type.Array(Uuid, { maxItems: ALLOWED_FUNCTIONS_MAX }) });
/** Body of an addition to the allowed functions. */
export type WhitelistBody = Static<typeof WhitelistBody>;

/** Path of one of an endpoint's allowed functions. */
export const WhitelistEntryParams = Type.Object({ id: Uuid, functionId: Uuid });
/** Path of an allowed function. */
export type WhitelistEntryParams = Static<typeof WhitelistEntryParams>;

/** Path of a search index. */
export const IndexParams = Type.Object({ index: Uuid });
/** Path of a search index. */
export type IndexParams = Static<typeof IndexParams>;

function queryNumber(description: string) {
  return Type.Optional(Type.String({ pattern: `^[0-9]{1,${NUMBER_DIGITS_MAX}}$`, description }));
}

const QUERY_CHARS_MAX = 1000;

/** `GET /v1/index/{index}/search`. */
export const IndexSearchQuery = Type.Object({
  q: Type.String({ maxLength: QUERY_CHARS_MAX }),
  offset: queryNumber('How many of the best to skip [0].'),
  limit: queryNumber('How many to return [10].'),
  advanced: Type.Optional(
    Type.String({ description: 'The advanced syntax is not known here: a query is words.' }),
  ),
});
/** Query of a search in an index. */
export type IndexSearchQuery = Static<typeof IndexSearchQuery>;

/** `GET /v1/index/{index}/entry` and `.../subject`. */
export const IndexEntryQuery = Type.Object({ subject: Uuid });
/** Query of one entry of an index. */
export type IndexEntryQuery = Static<typeof IndexEntryQuery>;

const Entry = open({ subject: Uuid, entries: Type.Array(open({ content: open({}) })) });

/** What these routes answer, by name. */
export const LegacyResponses = {
  whitelist: open({
    status: Type.Literal('success'),
    result: Type.Union([Type.Array(Uuid), Uuid]),
  }),
  searchResult: open({
    count: Type.Integer(),
    total: Type.Integer(),
    offset: Type.Integer(),
    has_next_page: Type.Boolean(),
    gmeta: Type.Array(Entry),
  }),
  entry: Entry,
};

/**
 * The search for functions as funcX had it before 1.0.13: its SDK asked Globus Search itself, in one index that funcX kept. The hub has that
 * index under its id, in the shape of Globus Search, so that an unmodified SDK finds it with GLOBUS_SDK_SERVICE_URL_SEARCH set to the hub.
 */
import type { FastifyInstance } from 'fastify';

import { SEARCH_ONLY_SCOPE, SEARCH_SCOPE } from '../../../protocol/oauth.ts';
import { COMPUTE_SCOPE } from '../../../protocol/rest.ts';
import { SEARCH_LIMIT_DEFAULT, SEARCH_LIMIT_MAX } from '../../../protocol/sharing.ts';
import type { FoundFunction } from '../../../protocol/sharing.ts';
import { HubError } from '../../hub-error.ts';
import { callerOf } from '../authentication.ts';
import { requireUuid } from '../identifiers.ts';
import {
  IndexEntryQuery,
  IndexParams,
  IndexSearchQuery,
  LegacyResponses,
} from '../legacy-schemas.ts';
import type { RouteContext } from '../route-context.ts';
import { answers } from '../schemas.ts';
import { requireScope } from './require-scope.ts';

/** The index of functions, as every funcX SDK names it. */
export const FUNCTION_INDEX_ID = '673a4b58-3231-421d-9473-9df1b6fa3a9d';

const SCOPES = [SEARCH_SCOPE, SEARCH_ONLY_SCOPE, COMPUTE_SCOPE] as const;
const config = { access: 'signedIn' } as const;
const tags = ['functions'];

interface IndexRoute {
  Params: IndexParams;
}

/** Adds the routes. */
export function searchIndexRoutes(
  app: FastifyInstance,
  { sharing, functions }: RouteContext,
): void {
  app.get<IndexRoute & { Querystring: IndexSearchQuery }>(
    '/v1/index/:index/search',
    {
      config,
      schema: {
        tags,
        params: IndexParams,
        querystring: IndexSearchQuery,
        response: answers(LegacyResponses.searchResult),
      },
    },
    async (request) => {
      requireFunctionIndex(request.params.index);
      const caller = requireScope(callerOf(request), SCOPES);
      const { q, offset, limit } = request.query;
      const found = await sharing.search.find(caller, {
        q,
        offset: Number(offset ?? 0),
        limit: Math.min(Number(limit ?? SEARCH_LIMIT_DEFAULT), SEARCH_LIMIT_MAX),
        isOwn: false,
      });
      return {
        '@datatype': 'GSearchResult',
        '@version': '2017-09-01',
        count: found.count,
        total: found.total,
        offset: found.offset,
        has_next_page: found.has_next_page,
        facet_results: null,
        gmeta: found.results.map((one) => entry(one.function_uuid, contentOf(one))),
      };
    },
  );
  for (const url of ['/v1/index/:index/entry', '/v1/index/:index/subject']) {
    app.get<IndexRoute & { Querystring: IndexEntryQuery }>(
      url,
      {
        config,
        schema: {
          tags,
          params: IndexParams,
          querystring: IndexEntryQuery,
          response: answers(LegacyResponses.entry),
        },
      },
      async (request) => {
        requireFunctionIndex(request.params.index);
        const caller = requireScope(callerOf(request), SCOPES);
        const id = requireUuid(request.query.subject, 'query/subject');
        const { function_name: name, description } = await functions.document(caller, id);
        return entry(id, { function_name: name, description: description ?? null });
      },
    );
  }
}

function requireFunctionIndex(index: string): void {
  if (requireUuid(index, 'the index id') !== FUNCTION_INDEX_ID) {
    throw new HubError(
      404,
      'ROUTE_NOT_FOUND',
      `there is no search index ${index} here; functions are in ${FUNCTION_INDEX_ID}`,
    );
  }
}

/** Without the code: who may use the function gets it by its id. */
function contentOf(found: FoundFunction): Record<string, unknown> {
  return {
    function_name: found.function_name,
    description: found.description,
    author: found.author,
    public: found.public,
    container_uuid: found.container_uuid,
  };
}

function entry(subject: string, content: Record<string, unknown>): Record<string, unknown> {
  return {
    '@datatype': 'GMetaResult',
    '@version': '2019-08-27',
    subject,
    entries: [{ entry_id: null, matched_principal_sets: [], content }],
  };
}

/** Discovery: the search over functions that the caller may use. */
import type { FastifyInstance } from 'fastify';

import { SEARCH_ONLY_SCOPE, SEARCH_SCOPE } from '../../../protocol/oauth.ts';
import { COMPUTE_SCOPE } from '../../../protocol/rest.ts';
import { SEARCH_LIMIT_DEFAULT, SEARCH_LIMIT_MAX } from '../../../protocol/sharing.ts';
import type { FunctionQuery } from '../../search/function-search.ts';
import { callerOf } from '../authentication.ts';
import type { RouteContext } from '../route-context.ts';
import { answers } from '../schemas.ts';
import { FunctionSearchQuery, SharingResponses } from '../sharing-schemas.ts';
import { requireScope } from './require-scope.ts';

const SCOPES = [COMPUTE_SCOPE, SEARCH_SCOPE, SEARCH_ONLY_SCOPE] as const;

/** Adds the routes. */
export function searchRoutes(app: FastifyInstance, { sharing }: RouteContext): void {
  app.get<{ Querystring: FunctionSearchQuery }>(
    '/v1/functions/search',
    {
      config: { access: 'signedIn' },
      schema: {
        tags: ['functions'],
        querystring: FunctionSearchQuery,
        response: answers(SharingResponses.functionSearch),
      },
    },
    async (request) => {
      const caller = requireScope(callerOf(request), SCOPES);
      return await sharing.search.find(caller, toQuery(request.query));
    },
  );
}

function toQuery({ q, offset, limit, role }: FunctionSearchQuery): FunctionQuery {
  return {
    q: q ?? '',
    offset: Number(offset ?? 0),
    limit: Math.min(Number(limit ?? SEARCH_LIMIT_DEFAULT), SEARCH_LIMIT_MAX),
    isOwn: role === 'owner',
  };
}

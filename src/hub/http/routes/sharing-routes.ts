/**
 * Sharing of functions, endpoints and environments, after their registration: GET shows with whom, POST share and unshare change it.
 *
 * Also what the owner of a shared endpoint may know of the tasks on it: whose they are, of which function and how far, but neither what
 * they were given nor what they returned.
 */
import type { FastifyInstance } from 'fastify';

import type { SharedKind } from '../../../protocol/sharing.ts';
import type { SharingRequest } from '../../groups/sharing.ts';
import { HubError } from '../../hub-error.ts';
import { callerOf } from '../authentication.ts';
import { requireUuid } from '../identifiers.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import { answers, IdParams } from '../schemas.ts';
import { EndpointTasksQuery, SharingBody, SharingResponses } from '../sharing-schemas.ts';

interface IdRoute {
  Params: { id: string };
}

const KINDS: readonly SharedKind[] = ['functions', 'endpoints', 'environments'];
const TASKS_DEFAULT = 100;
const TASKS_MAX = 1_000;

/** Adds the routes. */
export function sharingRoutes(app: FastifyInstance, context: RouteContext): void {
  const { registry } = context.sharing;
  for (const kind of KINDS) {
    const described = {
      tags: [kind],
      params: IdParams,
      response: answers(SharingResponses.sharing),
    };
    const what = `the ${kind.slice(0, -1)} id`;
    app.get<IdRoute>(
      `/v1/${kind}/:id/sharing`,
      { schema: described },
      async (request) => await registry.read(callerOf(request), kind, pathId(request, what)),
    );
    for (const action of ['share', 'unshare'] as const) {
      app.post<IdRoute & { Body: SharingBody }>(
        `/v1/${kind}/:id/${action}`,
        { schema: { ...described, body: SharingBody } },
        async (request) =>
          await registry[action](
            callerOf(request),
            kind,
            pathId(request, what),
            toRequest(request.body),
          ),
      );
    }
  }
  addEndpointTasksRoute(app, context);
}

function toRequest({ group, groups, public: isPublic }: SharingBody): SharingRequest {
  const named = [...(groups ?? []), ...(typeof group === 'string' ? [group] : [])];
  if (named.length === 0 && isPublic !== true) {
    throw new HubError(
      422,
      'SEMANTICALLY_INVALID',
      'Request payload failed validation: body: name groups, or say "public": true',
    );
  }
  return {
    groups: [...new Set(named.map((id) => requireUuid(id, 'body/groups')))],
    isPublic: isPublic === true,
  };
}

function addEndpointTasksRoute(app: FastifyInstance, { endpoints, sharing }: RouteContext): void {
  app.get<IdRoute & { Querystring: EndpointTasksQuery }>(
    '/v1/endpoints/:id/tasks',
    {
      schema: {
        tags: ['endpoints'],
        params: IdParams,
        querystring: EndpointTasksQuery,
        response: answers(SharingResponses.endpointTasks),
      },
    },
    async (request) => {
      const id = pathId(request, 'the endpoint id');
      await endpoints.owned(callerOf(request), id);
      const rows = await sharing.db
        .selectFrom('tasks')
        .select(['id', 'owner_id', 'function_id', 'state'])
        .select(['created_at', 'received_at', 'started_at'])
        .where('endpoint_id', '=', id)
        .where('completed_at', 'is', null)
        .orderBy('created_at')
        .orderBy('id')
        .limit(Math.min(Number(request.query.limit ?? TASKS_DEFAULT), TASKS_MAX))
        .execute();
      return {
        endpoint_id: id,
        tasks: rows.map((row) => ({
          task_id: row.id,
          owner: row.owner_id,
          function_uuid: row.function_id,
          status: row.state,
          created_at: row.created_at.toISOString(),
          received_at: row.received_at?.toISOString() ?? null,
          started_at: row.started_at?.toISOString() ?? null,
        })),
      };
    },
  );
}

/**
 * Routes that SDKs before 2.4 called and later ones do not: an endpoint's allowed functions under their first name, and the service
 * that built container images (docs/protocol.md, "Older SDKs").
 */
import type { FastifyInstance } from 'fastify';

import { HubError } from '../../hub-error.ts';
import { callerOf } from '../authentication.ts';
import { requireUuid } from '../identifiers.ts';
import {
  ALLOWED_FUNCTIONS_MAX,
  LegacyResponses,
  WhitelistBody,
  WhitelistEntryParams,
} from '../legacy-schemas.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import { answers, IdParams } from '../schemas.ts';

interface IdRoute {
  Params: { id: string };
}

const ID = 'the endpoint id';

/** Adds the routes. */
export function legacyRoutes(app: FastifyInstance, context: RouteContext): void {
  addWhitelistRoutes(app, context);
  addContainerBuildRoutes(app);
}

function addWhitelistRoutes(app: FastifyInstance, { endpoints }: RouteContext): void {
  const config = { access: 'endpoint' } as const;
  const described = { tags: ['endpoints'], response: answers(LegacyResponses.whitelist) };
  const url = '/v2/endpoints/:id/whitelist';
  app.get<IdRoute>(url, { config, schema: { ...described, params: IdParams } }, async (request) => {
    const { functions } = await endpoints.allowedFunctions(callerOf(request), pathId(request, ID));
    return { status: 'success', result: functions ?? [] };
  });
  app.post<IdRoute & { Body: WhitelistBody }>(
    url,
    { config, schema: { ...described, params: IdParams, body: WhitelistBody } },
    async (request) => {
      const id = pathId(request, ID);
      const caller = callerOf(request);
      const added = request.body.func.map((spelt) => requireUuid(spelt, 'body/func'));
      const countMax = ALLOWED_FUNCTIONS_MAX;
      const allowed = await endpoints.changeAllowedFunctions(caller, id, { added, countMax });
      return { status: 'success', result: allowed };
    },
  );
  app.delete<{ Params: WhitelistEntryParams }>(
    `${url}/:functionId`,
    { config, schema: { ...described, params: WhitelistEntryParams } },
    async (request) => {
      const id = pathId(request, ID);
      const caller = callerOf(request);
      const removed = requireUuid(request.params.functionId, 'the function id');
      if ((await endpoints.changeAllowedFunctions(caller, id, { removed })) === undefined) {
        throw new HubError(
          404,
          'FUNCTION_NOT_FOUND',
          `Function ${removed} is not among those that endpoint ${id} allows`,
        );
      }
      return { status: 'success', result: removed };
    },
  );
}

/** Said in words, because a missing route would look like a hub that is broken. */
function addContainerBuildRoutes(app: FastifyInstance): void {
  const refuse = (): never => {
    throw new HubError(
      403,
      'CONTAINER_SERVICE_NOT_PERMITTED',
      'this hub builds no container images; build it where the endpoint is and register its location with register_container',
    );
  };
  const schema = { hide: true };
  app.post('/v2/containers/build', { schema }, refuse);
  app.get('/v2/containers/build/:id', { schema }, refuse);
}

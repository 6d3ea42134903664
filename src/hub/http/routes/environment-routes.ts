/**
 * Execution environments: our own routes, and those of older SDKs (`register_container`, `get_container`), which called them containers.
 */
import type { FastifyInstance } from 'fastify';

import type { NewEnvironment } from '../../containers/environment-registry.ts';
import { HubError } from '../../hub-error.ts';
import { callerOf } from '../authentication.ts';
import { requireUuid } from '../identifiers.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import { answers, IdParams, Responses } from '../schemas.ts';
import { ContainerParams, EnvironmentBody, SharingResponses } from '../sharing-schemas.ts';

interface IdRoute {
  Params: { id: string };
}

const tags = ['environments'];
const ID = 'the environment id';
/** The SDK's documented answer to a deletion; nobody reads the number. */
const DELETED = { result: 302 };

/** Adds the routes. */
export function environmentRoutes(app: FastifyInstance, { sharing }: RouteContext): void {
  const { environments } = sharing;
  app.post<{ Body: EnvironmentBody }>(
    '/v1/environments',
    {
      schema: {
        tags,
        body: EnvironmentBody,
        response: answers(SharingResponses.environmentRegistered),
      },
    },
    async (request) => ({
      environment_id: await environments.register(callerOf(request), toEnvironment(request.body)),
    }),
  );
  app.get(
    '/v1/environments',
    { schema: { tags, response: answers(SharingResponses.environments) } },
    async (request) => await environments.list(callerOf(request)),
  );
  app.get<IdRoute>(
    '/v1/environments/:id',
    { schema: { tags, params: IdParams, response: answers(SharingResponses.environment) } },
    async (request) => await environments.read(callerOf(request), pathId(request, ID)),
  );
  app.delete<IdRoute>(
    '/v1/environments/:id',
    { schema: { tags, params: IdParams, response: answers(Responses.deleted) } },
    async (request) => {
      const id = pathId(request, ID);
      await environments.delete(callerOf(request), id);
      sharing.forgetAll();
      return DELETED;
    },
  );
  addContainerRoutes(app, { sharing });
}

function addContainerRoutes(
  app: FastifyInstance,
  { sharing }: Pick<RouteContext, 'sharing'>,
): void {
  const { environments } = sharing;
  app.post<{ Body: EnvironmentBody }>(
    '/v2/containers',
    {
      schema: {
        tags,
        body: EnvironmentBody,
        response: answers(SharingResponses.containerRegistered),
      },
    },
    async (request) => ({
      container_id: await environments.register(callerOf(request), toEnvironment(request.body)),
    }),
  );
  app.get<{ Params: { id: string; type: string } }>(
    '/v2/containers/:id/:type',
    { schema: { tags, params: ContainerParams, response: answers(SharingResponses.container) } },
    async (request) => {
      const id = pathId(request, ID);
      const found = await environments.read(callerOf(request), id);
      const wanted = request.params.type.toLowerCase();
      if (found.type !== wanted) {
        throw new HubError(
          404,
          'CONTAINER_NOT_FOUND',
          `Environment ${id} is of type ${found.type}, not ${wanted.slice(0, 64)}`,
        );
      }
      const { environment_id: uuid, ...rest } = found;
      return { container: { container_uuid: uuid, ...rest } };
    },
  );
}

function toEnvironment(body: EnvironmentBody): NewEnvironment {
  return {
    type: body.type,
    location: body.location,
    name: body.name ?? '',
    description: body.description ?? undefined,
    isPublic: body.public ?? false,
    sharedWith: typeof body.group === 'string' ? [requireUuid(body.group, 'body/group')] : [],
  };
}

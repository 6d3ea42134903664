/** Routes about endpoints (protocol.md 3.3: 10 to 17; 5.1, 5.2). All are open to clients that only run endpoints. */
import type { FastifyInstance, FastifyRequest } from 'fastify';

import type { EndpointRegistered, EndpointRegistration } from '../../../protocol/rest.ts';
import type { EndpointChanges } from '../../catalogue/endpoint-catalogue.ts';
import type { RegistrationTarget } from '../../catalogue/endpoint-registrar.ts';
import { HubError } from '../../hub-error.ts';
import { callerOf } from '../authentication.ts';
import { requireUuid } from '../identifiers.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import {
  answers,
  EndpointBody,
  EndpointBodyV2,
  EndpointsQuery,
  EndpointUpdateBody,
  HandBackBody,
  IdParams,
  ReleaseBody,
  Responses,
} from '../schemas.ts';

interface IdRoute {
  Params: { id: string };
}
type IdRequest = FastifyRequest<IdRoute>;

const config = { access: 'endpoint' } as const;
/** Registering yields credentials at the broker. */
const registering = { ...config, looksTokenUp: true } as const;
const tags = ['endpoints'];
const ID = 'the endpoint id';
/** The SDK's documented answer to a deletion; nobody reads the number. */
const DELETED = { result: 302 };

/** Adds the routes. */
export function endpointRoutes(app: FastifyInstance, context: RouteContext): void {
  addRegistrationRoutes(app, context);
  addReadingRoutes(app, context);
  addEndingRoutes(app, context);
}

function allowedFunctions(body: EndpointUpdateBody): string[] | undefined {
  return body.allowed_functions?.map((id) => requireUuid(id, 'body/allowed_functions'));
}

/** `multi_user` is told beside the metadata; it is kept with it. */
function metadataOf(body: EndpointUpdateBody): Record<string, unknown> | undefined {
  return body.multi_user === true
    ? { ...body.metadata, multi_user: true }
    : (body.metadata ?? undefined);
}

function toRegistration(
  body: EndpointUpdateBody & { endpoint_name: string },
): EndpointRegistration {
  const metadata = metadataOf(body);
  const allowed = allowedFunctions(body);
  return {
    endpoint_name: body.endpoint_name,
    ...(typeof body.display_name === 'string' ? { display_name: body.display_name } : {}),
    ...(metadata === undefined ? {} : { metadata }),
    ...(allowed === undefined ? {} : { allowed_functions: allowed }),
    ...(typeof body.public === 'boolean' ? { public: body.public } : {}),
    ...(body.lease === undefined ? {} : { lease: body.lease }),
  };
}

/**
 * An endpoint that asks for what protects it must not run without; what merely adds to it is answered with a warning.
 *
 * @throws HubError 422.
 */
function unknownWishes(body: EndpointUpdateBody): string[] {
  for (const [field, isAsked] of [
    ['high_assurance', body.high_assurance === true],
    ['authentication_policy', typeof body.authentication_policy === 'string'],
  ] as const) {
    if (isAsked) {
      throw new HubError(
        422,
        'SEMANTICALLY_INVALID',
        `Request payload failed validation: body/${field}: this hub has no high assurance and no authentication policies; register without`,
      );
    }
  }
  return [
    ...(typeof body.subscription_uuid === 'string'
      ? ['subscription_uuid is ignored: a self-hosted hub has no subscriptions']
      : []),
    ...(Array.isArray(body.admins)
      ? ['admins is ignored: only the owner administers an endpoint of this hub']
      : []),
  ];
}

async function register(
  context: RouteContext,
  callerId: string,
  target: RegistrationTarget,
  body: EndpointUpdateBody & { endpoint_name: string },
): Promise<EndpointRegistered> {
  const warnings = unknownWishes(body);
  const registered = await context.registrar.register(callerId, target, toRegistration(body));
  const { blobs } = context;
  return {
    ...registered,
    warnings: [...registered.warnings, ...warnings],
    ...(blobs !== undefined && { result_upload: { inline_bytes_max: blobs.inlineBytesMax } }),
  };
}

function toChanges(body: EndpointUpdateBody): EndpointChanges {
  const metadata = metadataOf(body);
  const allowed = allowedFunctions(body);
  return {
    ...(typeof body.display_name === 'string' ? { displayName: body.display_name } : {}),
    ...(metadata === undefined ? {} : { metadata }),
    ...(allowed === undefined ? {} : { allowedFunctions: allowed }),
    ...(typeof body.public === 'boolean' ? { isPublic: body.public } : {}),
  };
}

function addRegistrationRoutes(app: FastifyInstance, context: RouteContext): void {
  const response = answers(Responses.endpointRegistered);
  app.post<{ Body: EndpointBody }>(
    '/v3/endpoints',
    { config: registering, schema: { tags, body: EndpointBody, response } },
    async (request) => await register(context, callerOf(request).id, { kind: 'new' }, request.body),
  );
  app.post<{ Body: EndpointBodyV2 }>(
    '/v2/endpoints',
    { config: registering, schema: { tags, body: EndpointBodyV2, response } },
    async (request) => {
      const { endpoint_uuid: chosen } = request.body;
      return await register(
        context,
        callerOf(request).id,
        typeof chosen === 'string'
          ? { kind: 'chosen', id: requireUuid(chosen, 'body/endpoint_uuid') }
          : { kind: 'new' },
        request.body,
      );
    },
  );
  app.put<IdRoute & { Body: EndpointUpdateBody }>(
    '/v3/endpoints/:id',
    {
      config: registering,
      schema: {
        tags,
        params: IdParams,
        body: EndpointUpdateBody,
        response: answers(Responses.endpointUpdated),
      },
    },
    async (request) => {
      const id = pathId(request, ID);
      const { body } = request;
      const { endpoint_name: name } = body;
      if (name === undefined) {
        // Without a name this is no endpoint that registers, but somebody who changes a field of it.
        const warnings = unknownWishes(body);
        await context.endpoints.change(callerOf(request), id, toChanges(body));
        return { endpoint_id: id, warnings };
      }
      return await register(
        context,
        callerOf(request).id,
        { kind: 'existing', id },
        { ...body, endpoint_name: name },
      );
    },
  );
}

function addReadingRoutes(app: FastifyInstance, context: RouteContext): void {
  app.get<{ Querystring: EndpointsQuery }>(
    '/v2/endpoints',
    {
      config,
      schema: { tags, querystring: EndpointsQuery, response: answers(Responses.endpoints) },
    },
    async (request) =>
      await context.endpoints.list(callerOf(request), request.query.role ?? 'owner'),
  );
  const schema = { tags, params: IdParams, response: answers(Responses.endpoint) };
  app.get('/v2/endpoints/:id', { config, schema }, async (request: IdRequest) => {
    const id = pathId(request, ID);
    return await context.endpoints.document(callerOf(request), id);
  });
  app.get(
    '/v2/endpoints/:id/status',
    { config, schema: { ...schema, response: answers(Responses.endpointStatus) } },
    async (request: IdRequest) => {
      const id = pathId(request, ID);
      return await context.endpoints.status(callerOf(request), id);
    },
  );
  app.get(
    '/v3/endpoints/:id/allowed_functions',
    { config, schema: { ...schema, response: answers(Responses.allowedFunctions) } },
    async (request: IdRequest) => {
      const id = pathId(request, ID);
      return await context.endpoints.allowedFunctions(callerOf(request), id);
    },
  );
}

function addEndingRoutes(app: FastifyInstance, context: RouteContext): void {
  const schema = { tags, params: IdParams, response: answers(Responses.deleted) };
  const locking = { ...schema, response: answers(Responses.locked) };
  for (const [url, shown] of [
    ['/v3/endpoints/:id/lock', (seconds: number): number => seconds],
    ['/v2/endpoints/:id/lock', (seconds: number): string => new Date(seconds * 1000).toISOString()],
  ] as const) {
    app.post(url, { config, schema: locking }, async (request: IdRequest) => {
      const id = pathId(request, ID);
      const until = await context.registrar.lock(callerOf(request), id);
      return { endpoint_id: id, lock_expiration_timestamp: shown(until) };
    });
  }
  for (const url of ['/v2/endpoints/:id', '/v3/endpoints/:id']) {
    app.delete(url, { config, schema }, async (request: IdRequest) => {
      const id = pathId(request, ID);
      await context.registrar.delete(callerOf(request), id);
      return DELETED;
    });
  }
  app.post<IdRoute & { Body: HandBackBody }>(
    '/v1/endpoints/:id/tasks/hand-back',
    { config, schema: { ...schema, body: HandBackBody, response: answers(Responses.handedBack) } },
    async (request) => {
      const id = pathId(request, ID);
      await context.endpoints.owned(callerOf(request), id);
      const { epoch, task_ids: spelt } = request.body;
      const taskIds = spelt.map((taskId) => requireUuid(taskId, 'body/task_ids'));
      const count = await context.tasks.handBack({ endpointId: id, epoch, taskIds });
      return { endpoint_id: id, handed_back: count };
    },
  );
  app.post<IdRoute & { Body: ReleaseBody }>(
    '/v1/endpoints/:id/lease/release',
    { config, schema: { ...schema, body: ReleaseBody, response: answers(Responses.released) } },
    async (request) => {
      const id = pathId(request, ID);
      const isReleased = await context.registrar.release(callerOf(request), id, request.body.epoch);
      return { endpoint_id: id, released: isReleased };
    },
  );
}

/** Routes about the hub itself: versions, who may call, health, and the OpenAPI document. */
import type { FastifyInstance } from 'fastify';

import type { RouteContext } from '../route-context.ts';
import { answers, Responses, VersionQuery } from '../schemas.ts';

/**
 * Oldest clients that speak the routes of this API (PEP 440); older ones are told to upgrade by their own check. funcX counted its SDK
 * before globus-compute-sdk began with 2.0.
 */
const MIN_SDK_VERSION = '1.0.0';
const MIN_ENDPOINT_VERSION = '3.0.0';

/** Adds the routes. */
export function serviceRoutes(app: FastifyInstance, context: RouteContext): void {
  app.get<{ Querystring: VersionQuery }>(
    '/v2/version',
    {
      config: { access: 'none', rate: 'unlimited' },
      schema: {
        tags: ['service'],
        querystring: VersionQuery,
        response: answers(Responses.version),
      },
    },
    (request, reply) => {
      if (request.query.service === undefined) {
        // A bare JSON string; Fastify would send a string as it is.
        return reply.type('application/json').send(JSON.stringify(context.version));
      }
      return reply.send({
        api: context.version,
        min_sdk_version: MIN_SDK_VERSION,
        min_ep_version: MIN_ENDPOINT_VERSION,
      });
    },
  );
  app.get(
    '/v2/authenticate',
    {
      config: { access: 'endpoint' },
      schema: { tags: ['service'], response: answers(Responses.text) },
    },
    (_request, reply) => reply.type('application/json').send(JSON.stringify('OK')),
  );
  app.get(
    '/v1/health',
    {
      config: { access: 'none', rate: 'unlimited' },
      schema: { tags: ['service'], response: { 200: Responses.health, 503: Responses.health } },
    },
    async (_request, reply) => {
      const { isReady, checks } = await context.readiness();
      return await reply
        .code(isReady ? 200 : 503)
        .send({ status: isReady ? 'ok' : 'unavailable', version: context.version, checks });
    },
  );
  app.get(
    '/openapi.json',
    { config: { access: 'none', rate: 'unlimited' }, schema: { hide: true } },
    () => app.swagger(),
  );
}

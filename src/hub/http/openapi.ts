/**
 * The OpenAPI document: made of the schemas that the routes check with, and of what holds for every route, so that neither can be
 * forgotten: who may call it, and the error body. test/interop/openapi-fuzz.test.ts holds the hub to what the document says.
 */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import type { FastifySchema } from 'fastify';

import { ErrorResponse } from './schemas.ts';

/** What the document says about the hub as a whole. */
export function openApiHead(
  version: string,
  publicUrl: string | undefined,
): NonNullable<FastifyDynamicSwaggerOptions['openapi']> {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Outpost hub',
      version,
      description:
        'Functions, endpoints and tasks, compatible with the Globus Compute web service. Routes under /v1 are our own.',
    },
    ...(publicUrl === undefined ? {} : { servers: [{ url: publicUrl }] }),
    components: {
      securitySchemes: {
        token: {
          type: 'http' as const,
          scheme: 'bearer',
          description: 'An access token of /v2/oauth2/token.',
        },
        client: {
          type: 'http' as const,
          scheme: 'basic',
          description:
            'Id and secret of a client, form-encoded; or client_id and client_secret in the form.',
        },
      },
    },
    security: [{ token: [] }],
  };
}

/** Adds to a route's own description what follows from its place: who may call it, and how it refuses. */
export const describeRoute: NonNullable<FastifyDynamicSwaggerOptions['transform']> = ({
  schema,
  url,
  route,
}) => {
  // Absent for a route without any, whatever the type says.
  const own = schema as (FastifySchema & { response?: Record<string, unknown> }) | undefined;
  return {
    url,
    schema: {
      ...(route.config?.access === 'none' ? { security: [] } : {}),
      ...own,
      response: { '4xx': ErrorResponse, '5xx': ErrorResponse, ...own?.response },
    },
  };
};

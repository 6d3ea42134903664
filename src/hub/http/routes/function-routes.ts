/** Routes about functions (protocol.md 3.3: 2 to 4). */
import type { FastifyInstance, FastifyRequest } from 'fastify';

import { packBuffers, SERIALIZERS } from '../../../protocol/serialization.ts';
import { HubError } from '../../hub-error.ts';
import { callerOf } from '../authentication.ts';
import { requireUuid } from '../identifiers.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import { answers, FunctionBody, IdParams, Responses } from '../schemas.ts';

type IdRequest = FastifyRequest<{ Params: { id: string } }>;

/** The SDK's documented answer to a deletion; nobody reads the number. */
const DELETED = { result: 302 };

/** Code as it is stored. `serialized: false` (Python SDK from 4.19 on) sends a bare source text, which is packed as `st`. */
function packedCode(body: FunctionBody): string {
  return body.serialized === false
    ? packBuffers([
        `${SERIALIZERS.SOURCE_TEXT_INSPECT}\n${body.function_name}:${body.function_code}`,
      ])
    : body.function_code;
}

/** Who asked to share with certain people must not believe that it was done. @throws HubError 404 or 422. */
function requireNoOtherSharing({ group, ha_endpoint_id: endpoint }: FunctionBody): void {
  if (typeof group === 'string') {
    const id = requireUuid(group, 'body/group');
    throw new HubError(
      404,
      'AUTH_GROUP_NOT_FOUND',
      `Group ${id} could not be found: this hub has no groups; register the function with public, or for yourself`,
    );
  }
  if (typeof endpoint === 'string') {
    throw new HubError(
      422,
      'SEMANTICALLY_INVALID',
      'Request payload failed validation: body/ha_endpoint_id: this hub has no high-assurance endpoints',
    );
  }
}

/** Adds the routes. */
export function functionRoutes(app: FastifyInstance, context: RouteContext): void {
  const tags = ['functions'];
  for (const url of ['/v3/functions', '/v2/functions']) {
    app.post<{ Body: FunctionBody }>(
      url,
      { schema: { tags, body: FunctionBody, response: answers(Responses.functionRegistered) } },
      async (request) => {
        const { body } = request;
        requireNoOtherSharing(body);
        const id = await context.functions.register(callerOf(request).id, {
          name: body.function_name,
          code: packedCode(body),
          description: body.description ?? undefined,
          isPublic: body.public ?? false,
          meta: body.meta ?? body.metadata ?? {},
        });
        return { function_uuid: id };
      },
    );
  }
  const schema = { tags, params: IdParams, response: answers(Responses.function) };
  app.get('/v2/functions/:id', { schema }, async (request: IdRequest) => {
    const id = pathId(request, 'the function id');
    return await context.functions.document(callerOf(request).id, id);
  });
  const deletion = { ...schema, response: answers(Responses.deleted) };
  app.delete('/v2/functions/:id', { schema: deletion }, async (request: IdRequest) => {
    const id = pathId(request, 'the function id');
    await context.functions.delete(callerOf(request).id, id);
    return DELETED;
  });
}

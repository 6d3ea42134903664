/** Routes about functions (protocol.md 3.3: 2 to 4). */
import type { FastifyInstance, FastifyRequest } from 'fastify';

import { packBuffers, SERIALIZERS } from '../../../protocol/serialization.ts';
import { callerOf } from '../authentication.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import { answers, FunctionBody, IdParams, Responses } from '../schemas.ts';

type IdRequest = FastifyRequest<{ Params: { id: string } }>;

/** The SDK's documented answer to a deletion; nobody reads the number. */
const DELETED = { result: 302 };

/** Code as it is stored. `serialized: false` (Python SDK from 4.16 on) sends a bare source text, which is packed as `st`. */
function packedCode(body: FunctionBody): string {
  return body.serialized === false
    ? packBuffers([
        `${SERIALIZERS.SOURCE_TEXT_INSPECT}\n${body.function_name}:${body.function_code}`,
      ])
    : body.function_code;
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
  const schema = { tags, params: IdParams, response: answers(Responses.document) };
  app.get('/v2/functions/:id', { schema }, async (request: IdRequest) => {
    const id = pathId(request, 'the function id');
    return await context.functions.document(callerOf(request).id, id);
  });
  app.delete('/v2/functions/:id', { schema }, async (request: IdRequest) => {
    const id = pathId(request, 'the function id');
    await context.functions.delete(callerOf(request).id, id);
    return DELETED;
  });
}

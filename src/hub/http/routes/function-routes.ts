/** Routes about functions (protocol.md 3.3: 2 to 4). */
import type { FastifyInstance, FastifyRequest } from 'fastify';

import { callerOf } from '../authentication.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import { answers, FunctionBody, IdParams, Responses } from '../schemas.ts';

type IdRequest = FastifyRequest<{ Params: { id: string } }>;

/** The SDK's documented answer to a deletion; nobody reads the number. */
const DELETED = { result: 302 };

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
          code: body.function_code,
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

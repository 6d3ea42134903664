/** Routes about functions (protocol.md 3.3: 2 to 4). */
import type { FastifyInstance, FastifyRequest } from 'fastify';

import { packBuffers, SERIALIZERS } from '../../../protocol/serialization.ts';
import type { Caller } from '../../auth/caller.ts';
import type { NewFunction } from '../../catalogue/function-catalogue.ts';
import { auditSharing } from '../../groups/audit.ts';
import { HubError } from '../../hub-error.ts';
import { docCommentOf } from '../../search/doc-comment.ts';
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

/** An endpoint that asks for high assurance must not be taken for one that has it. @throws HubError 422. */
function requireNoHighAssurance({ ha_endpoint_id: endpoint }: FunctionBody): void {
  if (typeof endpoint === 'string') {
    throw new HubError(
      422,
      'SEMANTICALLY_INVALID',
      'Request payload failed validation: body/ha_endpoint_id: this hub has no high-assurance endpoints',
    );
  }
}

/** A registration whose group and environment the caller may name. @throws HubError 400, 403, 404 or 422. */
async function toFunction(
  { sharing }: RouteContext,
  caller: Caller,
  body: FunctionBody,
): Promise<NewFunction> {
  requireNoHighAssurance(body);
  const { group, container_uuid: environment, function_source: source } = body;
  const groupId = typeof group === 'string' ? requireUuid(group, 'body/group') : undefined;
  if (groupId !== undefined) {
    await sharing.access.requireMember(caller, groupId);
  }
  const environmentId =
    typeof environment === 'string' ? requireUuid(environment, 'body/container_uuid') : undefined;
  if (environmentId !== undefined) {
    await sharing.environments.read(caller, environmentId);
  }
  return {
    name: body.function_name,
    code: packedCode(body),
    description: body.description ?? undefined,
    doc: typeof source === 'string' ? docCommentOf(source, 'python') : undefined,
    isPublic: body.public ?? false,
    sharedWith: groupId === undefined ? [] : [groupId],
    isSearchable: body.searchable ?? true,
    environmentId,
    meta: body.meta ?? body.metadata ?? {},
  };
}

/** Adds the routes. */
export function functionRoutes(app: FastifyInstance, context: RouteContext): void {
  const tags = ['functions'];
  for (const url of ['/v3/functions', '/v2/functions']) {
    app.post<{ Body: FunctionBody }>(
      url,
      { schema: { tags, body: FunctionBody, response: answers(Responses.functionRegistered) } },
      async (request) => {
        const caller = callerOf(request);
        const registration = await toFunction(context, caller, request.body);
        const id = await context.functions.register(caller.id, registration);
        const { isPublic, sharedWith } = registration;
        if (isPublic || sharedWith.length > 0) {
          const before = { isPublic: false, sharedWith: [] };
          auditSharing(context.logger, caller, {
            kind: 'function',
            id,
            isPublic,
            sharedWith,
            before,
          });
        }
        return { function_uuid: id };
      },
    );
  }
  const schema = { tags, params: IdParams, response: answers(Responses.function) };
  app.get('/v2/functions/:id', { schema }, async (request: IdRequest) => {
    const id = pathId(request, 'the function id');
    return await context.functions.document(callerOf(request), id);
  });
  const deletion = { ...schema, response: answers(Responses.deleted) };
  app.delete('/v2/functions/:id', { schema: deletion }, async (request: IdRequest) => {
    const id = pathId(request, 'the function id');
    await context.functions.delete(callerOf(request), id);
    return DELETED;
  });
}

/** Routes by which the owner of an endpoint sees who holds it, and tells its agent something. Open to clients that only run endpoints. */
import { Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyRequest } from 'fastify';

import { COMMAND_TEXT_CHARS_MAX, ENDPOINT_COMMANDS } from '../../../protocol/endpoint-commands.ts';
import type { EndpointCommand, EndpointCommandName } from '../../../protocol/endpoint-commands.ts';
import { callerOf } from '../authentication.ts';
import { pathId } from '../route-context.ts';
import type { RouteContext } from '../route-context.ts';
import { answers, IdParams, open, Uuid } from '../schemas.ts';

interface IdRoute {
  Params: { id: string };
}

const config = { access: 'endpoint' } as const;
const tags = ['endpoints'];
const ID = 'the endpoint id';
const EPOCH_MAX = 2 ** 31 - 1;

const CommandBody = open({
  command: Type.Unsafe<EndpointCommandName>({ type: 'string', enum: [...ENDPOINT_COMMANDS] }),
  lease_epoch: Type.Integer({ minimum: 0, maximum: EPOCH_MAX }),
  by: Type.Optional(Type.String({ maxLength: COMMAND_TEXT_CHARS_MAX })),
  reason: Type.Optional(Type.String({ maxLength: COMMAND_TEXT_CHARS_MAX })),
});

const LeaseResponse = open({
  endpoint_id: Uuid,
  lease: Type.String({ description: 'none, held, released or expired' }),
  epoch: Type.Integer(),
  holder: Type.Unsafe<object | null>({ type: 'object', nullable: true }),
  status: Type.String(),
  expires_at: Type.Unsafe<string | null>({ type: 'string', nullable: true }),
  last_heartbeat_at: Type.Unsafe<string | null>({ type: 'string', nullable: true }),
  report: open({}),
});

/** Adds the routes. */
export function commandRoutes(app: FastifyInstance, context: RouteContext): void {
  app.get(
    '/v1/endpoints/:id/lease',
    { config, schema: { tags, params: IdParams, response: answers(LeaseResponse) } },
    async (request: FastifyRequest<IdRoute>) =>
      await context.commands.lease(callerOf(request), pathId(request, ID)),
  );
  app.post<IdRoute & { Body: EndpointCommand }>(
    '/v1/endpoints/:id/commands',
    {
      config,
      schema: {
        tags,
        params: IdParams,
        body: CommandBody,
        response: answers(open({ endpoint_id: Uuid, command_id: Uuid })),
      },
    },
    async (request) => {
      const id = pathId(request, ID);
      const commandId = await context.commands.send(callerOf(request), id, request.body);
      return { endpoint_id: id, command_id: commandId };
    },
  );
}

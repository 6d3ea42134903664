/**
 * Results that are too large for a message, by HTTP: an agent brings one, the owner of the task fetches it. Ours.
 *
 *   PUT /v1/tasks/{id}/result-blob   the JSON of a Result message, streamed
 *   GET /v1/tasks/{id}/result        the JSON of the Result message of a finished task, large or not
 */
import type { Readable } from 'node:stream';

import { Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';

import type { ResultBlobs } from '../../blobs/result-blobs.ts';
import { HubError } from '../../hub-error.ts';
import { callerOf } from '../authentication.ts';
import { pathId } from '../route-context.ts';
import { answers, IdParams } from '../schemas.ts';

interface IdRoute {
  Params: { id: string };
}

const BlobReferenceResponse = Type.Object({ sha256: Type.String(), bytes: Type.Integer() });
const ResultResponse = Type.Object(
  { message_type: Type.String(), data: Type.Object({}, { additionalProperties: true }) },
  { additionalProperties: true },
);

/** Adds the routes. */
export async function resultRoutes(
  app: FastifyInstance,
  { blobs }: { readonly blobs?: ResultBlobs },
): Promise<void> {
  if (blobs === undefined) {
    return;
  }
  const tags = ['tasks'];
  app.get<IdRoute>(
    '/v1/tasks/:id/result',
    { schema: { tags, params: IdParams, response: answers(ResultResponse) } },
    async (request, reply) => {
      const id = pathId(request, 'the task id');
      const result = await blobs.open(callerOf(request).id, id);
      if (result === undefined) {
        throw new HubError(
          404,
          'TASK_NOT_FOUND',
          `Task ${id} could not be found, or has no result`,
        );
      }
      return await reply
        .type('application/json')
        .header('content-length', result.bytes)
        .send(result.content);
    },
  );
  await app.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('application/octet-stream', (_request, payload, parsed) => {
      parsed(null, payload);
    });
    scope.put<IdRoute & { Body: Readable | undefined }>(
      '/v1/tasks/:id/result-blob',
      {
        config: { access: 'endpoint', streamsBody: true },
        schema: {
          tags,
          params: IdParams,
          consumes: ['application/octet-stream'],
          response: answers(BlobReferenceResponse),
        },
      },
      async (request) => {
        const { body } = request;
        if (body === undefined) {
          throw new HubError(
            400,
            'REQUEST_MALFORMED',
            'a result is sent as application/octet-stream',
          );
        }
        const length = request.headers['content-length'];
        try {
          return await blobs.keep(
            callerOf(request).id,
            pathId(request, 'the task id'),
            length === undefined ? undefined : Number(length),
            body,
          );
        } catch (error) {
          // Read to its end, so that the client sees the answer and not a broken connection.
          body.resume();
          throw error;
        }
      },
    );
    done();
  });
}

/**
 * The HTTP server of the hub: routes, error bodies, limits, and the OpenAPI document, from one set of schemas.
 *
 * Every request has an id, which is also in the log and in the response, and nothing that we did not expect reaches
 * the caller but that id.
 */
import { randomUUID } from 'node:crypto';

import swagger from '@fastify/swagger';
import Fastify from 'fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import type { Clock } from '../../base/clock.ts';
import { HubError } from '../hub-error.ts';
import { limitRates } from '../limits/rate-limit.ts';
import { authenticateRoutes } from './authentication.ts';
import { CertificateRenewal } from './certificate-renewal.ts';
import { errorAnswer, errorDocument } from './error-documents.ts';
import { Listeners } from './listeners.ts';
import type { ListenOptions } from './listeners.ts';
import { describeRoute, openApiHead } from './openapi.ts';
import type { RouteContext } from './route-context.ts';
import { commandRoutes } from './routes/command-routes.ts';
import { endpointRoutes } from './routes/endpoint-routes.ts';
import { environmentRoutes } from './routes/environment-routes.ts';
import { functionRoutes } from './routes/function-routes.ts';
import { groupRoutes } from './routes/group-routes.ts';
import { legacyRoutes } from './routes/legacy-routes.ts';
import { oauthRoutes } from './routes/oauth-routes.ts';
import { resultRoutes } from './routes/result-routes.ts';
import { searchIndexRoutes } from './routes/search-index-routes.ts';
import { searchRoutes } from './routes/search-routes.ts';
import { serviceRoutes } from './routes/service-routes.ts';
import { sharingRoutes } from './routes/sharing-routes.ts';
import { taskRoutes } from './routes/task-routes.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The body as it came; kept only when an Idempotency-Key stands for it. */
    bodyText: string | null;
  }
  interface FastifyContextConfig {
    /** The route reads its body as a stream and bounds it itself. */
    streamsBody?: boolean;
  }
}

/** Options of {@link createHttpServer}. */
export interface HttpServerOptions extends RouteContext {
  readonly listen: ListenOptions;
  /** Where callers reach the hub, for the OpenAPI document. Known only after listening when the port is free. */
  readonly publicUrl?: string;
  readonly clock: Clock;
}

/** A server that can be started once. */
export interface HttpServer {
  /** Starts to listen and returns the port. */
  start: () => Promise<number>;
  /** Stops listening; requests that run get a few seconds. */
  stop: () => Promise<void>;
}

/** Builds the server; it listens once started. */
export async function createHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const app = Fastify({
    bodyLimit: options.limits.submissionBytesMax,
    genReqId: () => randomUUID(),
    exposeHeadRoutes: false,
    routerOptions: { ignoreTrailingSlash: true },
    ajv: {
      customOptions: {
        // Nothing is guessed into another type, and nothing that a client sends beyond the schema is refused or dropped.
        ...{ coerceTypes: false, removeAdditional: false, useDefaults: false },
        // Formats describe: an id that is no UUID is refused with a code of its own (identifiers.ts).
        validateFormats: false,
      },
    },
    frameworkErrors: (error, request, reply) => {
      // A reply is thenable, but sending is not something to wait for.
      // eslint-disable-next-line @typescript-eslint/no-floating-promises
      answerError(options, error, request, reply);
    },
  });
  app.setErrorHandler((error, request, reply) => answerError(options, error, request, reply));
  app.setNotFoundHandler((request, reply) => {
    return reply
      .code(404)
      .send(
        errorDocument(404, 'ROUTE_NOT_FOUND', `there is no ${request.method} ${pathOf(request)}`),
      );
  });
  // Response schemas describe; they do not filter.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  parseJsonBodies(app);
  refuseLargeBodies(app, options.limits.submissionBytesMax);
  logRequests(app, options);
  authenticateRoutes(app, options.signIn);
  if (options.limits.rates !== undefined) {
    await limitRates(app, options.limits.rates);
  }
  await app.register(swagger, {
    openapi: openApiHead(options.version, options.publicUrl),
    transform: describeRoute,
  });
  await app.register(async (scope) => {
    serviceRoutes(scope, options);
    functionRoutes(scope, options);
    endpointRoutes(scope, options);
    commandRoutes(scope, options);
    taskRoutes(scope, options);
    await resultRoutes(scope, options);
    groupRoutes(scope, options);
    sharingRoutes(scope, options);
    searchRoutes(scope, options);
    environmentRoutes(scope, options);
    legacyRoutes(scope, options);
    searchIndexRoutes(scope, options);
    await oauthRoutes(scope, options);
  });
  await app.ready();

  let listeners: Listeners | undefined;
  let renewal: CertificateRenewal | undefined;
  return {
    start: async (): Promise<number> => {
      listeners = await Listeners.open((request, response) => {
        app.routing(request, response);
      }, options.listen);
      const { tls: identity } = options.listen;
      if (identity !== undefined) {
        const { clock, logger } = options;
        renewal = new CertificateRenewal({
          identity,
          servers: listeners.tlsServers,
          clock,
          logger,
        });
        renewal.start();
      }
      return listeners.port;
    },
    stop: async (): Promise<void> => {
      renewal?.stop();
      await listeners?.close();
      await app.close();
    },
  };
}

/** Without its query: that of a sign-in page holds codes, which are no business of a log. */
function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? '';
}

function answerError(
  { logger, limits }: HttpServerOptions,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const answer = errorAnswer(error, request.id, limits.submissionBytesMax);
  if (answer.isOurs) {
    logger.error(
      { err: error, requestId: request.id, method: request.method, url: pathOf(request) },
      'request failed',
    );
  }
  if (answer.retryAfterS !== undefined) {
    reply.raw.setHeader('retry-after', answer.retryAfterS);
  }
  return reply
    .code(answer.document.http_status_code)
    .type('application/json')
    .send(answer.document);
}

/** JSON, where an empty body is no body: clients send the content type out of habit. */
function parseJsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.decorateRequest('bodyText', null);
  app.removeContentTypeParser(['application/json', 'text/plain']);
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    const text = body as string;
    if (text === '') {
      done(null, undefined);
      return;
    }
    if (request.headers['idempotency-key'] !== undefined) {
      request.bodyText = text;
    }
    // With a callback there is no promise to wait for.
    // eslint-disable-next-line @typescript-eslint/no-floating-promises
    parse(request, text, done);
  });
}

/**
 * Refuses a body that says that it is too large, and lets the client finish sending it.
 *
 * Fastify would close the connection at once; a client that is still sending then sees a reset instead of the answer,
 * and sends everything again.
 */
function refuseLargeBodies(app: FastifyInstance, bytesMax: number): void {
  app.addHook('preParsing', (request, _reply, payload, done) => {
    const isStreamed = request.routeOptions.config.streamsBody === true;
    if (!isStreamed && Number(request.headers['content-length']) > bytesMax) {
      done(
        new HubError(
          413,
          'TASK_PAYLOAD_TOO_LARGE',
          `the request has ${request.headers['content-length'] ?? ''} bytes, more than the ${bytesMax} allowed (OUTPOST_HUB_SUBMISSION_BYTES_MAX); submit fewer tasks at a time, or pass large data by file`,
        ),
      );
      return;
    }
    done(null, payload);
  });
}

function logRequests(app: FastifyInstance, { logger }: HttpServerOptions): void {
  app.addHook('onRequest', (request, reply, done) => {
    reply.raw.setHeader('x-request-id', request.id);
    done();
  });
  app.addHook('onResponse', (request, reply, done) => {
    logger.debug(
      {
        requestId: request.id,
        method: request.method,
        url: pathOf(request),
        status: reply.statusCode,
        durationMs: Math.round(reply.elapsedTime),
        callerId: request.caller?.id,
      },
      'request',
    );
    done();
  });
}

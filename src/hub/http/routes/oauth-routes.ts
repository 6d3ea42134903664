/**
 * The authorization server as far as clients with a secret need it (protocol.md 2.5, 2.8): the client credentials grant,
 * who am I, revocation and introspection. docs/adr/0001-own-token-endpoint.md says why this is our own.
 */
import formbody from '@fastify/formbody';
import { Type } from '@sinclair/typebox';
import type { TSchema } from '@sinclair/typebox';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { canonicalUuid } from '../../../protocol/messages.ts';
import type { TokenResponse } from '../../../protocol/rest.ts';
import { presentedCredentials } from '../../auth/client-authentication.ts';
import type { Client } from '../../auth/client-registry.ts';
import { OAuthError } from '../../auth/oauth-error.ts';
import { groupScopes } from '../../auth/scopes.ts';
import { callerOf } from '../authentication.ts';
import type { RouteContext } from '../route-context.ts';
import {
  answers,
  ErrorResponse,
  IdentitiesQuery,
  OAuthErrorResponse,
  Responses,
  TokenActionForm,
  TokenForm,
} from '../schemas.ts';

type Form = Readonly<Record<string, unknown>>;
type FormRequest = FastifyRequest<{ Body: Form | undefined }>;

/** Most ids that one question for identities may name. */
const IDENTITIES_MAX = 100;

/** Adds the routes. */
export async function oauthRoutes(app: FastifyInstance, context: RouteContext): Promise<void> {
  await app.register(async (scope) => {
    await scope.register(formbody);
    scope.setErrorHandler(answerOAuthError);
    addTokenRoutes(scope, context);
  });
  addIdentityRoutes(app, context);
}

async function authenticateClient(context: RouteContext, request: FormRequest): Promise<Client> {
  const { id, secret } = presentedCredentials(request.headers.authorization, request.body ?? {});
  const client = await context.clients.authenticate(canonicalUuid(id), secret);
  if (client === undefined) {
    throw new OAuthError('invalid_client', 'the client id is unknown or the secret is wrong');
  }
  return client;
}

function tokenField(request: FormRequest): string {
  const token = request.body?.['token'];
  if (typeof token !== 'string') {
    throw new OAuthError('invalid_request', 'the form field token is missing');
  }
  return token;
}

async function grant(context: RouteContext, request: FormRequest): Promise<TokenResponse> {
  const client = await authenticateClient(context, request);
  const { grant_type: grantType, scope } = request.body ?? {};
  if (grantType !== 'client_credentials') {
    throw new OAuthError(
      'unsupported_grant_type',
      'this hub knows the client_credentials grant only; create a client with `hub client create` and sign in with its secret',
    );
  }
  if (scope !== undefined && typeof scope !== 'string') {
    throw new OAuthError('invalid_request', 'the form field scope was sent more than once');
  }
  const requested = groupScopes(scope ?? '');
  if ('unknown' in requested) {
    throw new OAuthError('invalid_scope', `unknown scope: ${requested.unknown.slice(0, 200)}`);
  }
  return await context.tokens.issue(client.id, requested.groups);
}

function addTokenRoutes(app: FastifyInstance, context: RouteContext): void {
  const config = { access: 'none' } as const;
  const schema = (body: TSchema, success: TSchema) => ({
    tags: ['oauth'],
    consumes: ['application/x-www-form-urlencoded'],
    security: [{ client: [] }, {}],
    body,
    response: {
      ...answers(success),
      '4xx': Type.Union([OAuthErrorResponse, ErrorResponse], {
        description: 'The request failed.',
      }),
    },
  });
  // Refusals have OAuth's shape: the handlers check.
  app.setValidatorCompiler(() => () => true);
  app.post(
    '/v2/oauth2/token',
    { config, schema: schema(TokenForm, Responses.token) },
    async (request: FormRequest, reply) => {
      reply.raw.setHeader('cache-control', 'no-store');
      return await grant(context, request);
    },
  );
  const described = { config, schema: schema(TokenActionForm, Responses.introspection) };
  app.post('/v2/oauth2/token/revoke', described, async (request: FormRequest) => {
    const client = await authenticateClient(context, request);
    await context.tokens.revoke(tokenField(request), client.id);
    return { active: false };
  });
  app.post('/v2/oauth2/token/introspect', described, async (request: FormRequest) => {
    await authenticateClient(context, request);
    const description = await context.tokens.describe(tokenField(request));
    return description === undefined
      ? { active: false }
      : {
          active: true,
          client_id: description.clientId,
          sub: description.clientId,
          username: usernameOf(description.clientId),
          name: description.name,
          scope: description.scope,
          aud: [description.resourceServer],
          token_type: 'Bearer',
          exp: description.expiresAtS,
        };
  });
}

function answerOAuthError(
  error: FastifyError,
  _request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  if (!(error instanceof OAuthError)) {
    // The server's own handler has the answer to everything else.
    throw error;
  }
  if (error.httpStatus === 401) {
    reply.raw.setHeader('www-authenticate', 'Basic realm="outpost", charset="UTF-8"');
  }
  return reply
    .code(error.httpStatus)
    .header('cache-control', 'no-store')
    .send({ error: error.error, error_description: error.message });
}

function usernameOf(id: string): string {
  return `${id}@clients.outpost`;
}

function identityDocument(id: string, name: string): Record<string, unknown> {
  return {
    id,
    username: usernameOf(id),
    name,
    email: null,
    organization: null,
    identity_type: 'login',
    status: 'used',
  };
}

function addIdentityRoutes(app: FastifyInstance, context: RouteContext): void {
  const config = { access: 'signedIn' } as const;
  app.get(
    '/v2/oauth2/userinfo',
    { config, schema: { tags: ['oauth'], response: answers(Responses.userinfo) } },
    (request) => {
      const { id, name } = callerOf(request);
      const claims = { sub: id, preferred_username: usernameOf(id), name, email: null };
      return { ...claims, identity_set: [{ ...claims, username: usernameOf(id) }] };
    },
  );
  app.get<{ Querystring: IdentitiesQuery }>(
    '/v2/api/identities',
    {
      config,
      schema: {
        tags: ['oauth'],
        querystring: IdentitiesQuery,
        response: answers(Responses.identities),
      },
    },
    async (request) => {
      const wanted = [
        ...(request.query.ids?.split(',') ?? []),
        ...(request.query.usernames?.split(',').map((name) => name.split('@', 1)[0] ?? '') ?? []),
      ].flatMap((text) => canonicalUuid(text.trim()) ?? []);
      const clients = await context.clients.find(wanted.slice(0, IDENTITIES_MAX));
      return { identities: clients.map(({ id, name }) => identityDocument(id, name)) };
    },
  );
}

/**
 * The token endpoint and what belongs to it, for clients with a secret and for applications that people sign in with (protocol.md
 * 2.5 to 2.8). docs/adr/0001 and 0002 say why this is our own.
 *
 *   client_credentials   a client, with its secret                  access tokens
 *   authorization_code   an application, with a code and PKCE       access and refresh tokens, id_token
 *   device_code          an application whose person is elsewhere   the same
 *   refresh_token        an application                             one access token and the next refresh token
 */
import formbody from '@fastify/formbody';
import { Type } from '@sinclair/typebox';
import type { TSchema } from '@sinclair/typebox';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { canonicalUuid } from '../../../protocol/messages.ts';
import { DEVICE_GRANT } from '../../../protocol/oauth.ts';
import type { DeviceAuthorization, PersonTokenResponse } from '../../../protocol/oauth.ts';
import type { TokenResponse } from '../../../protocol/rest.ts';
import { requireApp } from '../../auth/apps.ts';
import type { NewLogin } from '../../auth/authorization-codes.ts';
import { presentedCredentials } from '../../auth/client-authentication.ts';
import type { Client } from '../../auth/client-registry.ts';
import { OAuthError } from '../../auth/oauth-error.ts';
import { grantedScopes } from '../../auth/person-logins.ts';
import { publicOrigin } from '../public-origin.ts';
import type { RouteContext } from '../route-context.ts';
import {
  answers,
  DeviceForm,
  ErrorResponse,
  OAuthErrorResponse,
  Responses,
  TokenActionForm,
  TokenForm,
} from '../schemas.ts';
import { identityRoutes } from './identity-routes.ts';
import { DEVICE_PAGE_PATH, signInPages } from './sign-in-pages.ts';

type Form = Readonly<Record<string, unknown>>;
type FormRequest = FastifyRequest<{ Body: Form | undefined }>;

/** Adds the routes. */
export async function oauthRoutes(app: FastifyInstance, context: RouteContext): Promise<void> {
  await app.register(async (scope) => {
    await scope.register(formbody);
    scope.setErrorHandler(answerOAuthError);
    addTokenRoutes(scope, context);
  });
  identityRoutes(app, context);
  await signInPages(app, context);
}

async function authenticateClient(context: RouteContext, request: FormRequest): Promise<Client> {
  const { id, secret } = presentedCredentials(request.headers.authorization, request.body ?? {});
  const client = await context.clients.authenticate(canonicalUuid(id), secret);
  if (client === undefined) {
    throw new OAuthError('invalid_client', 'the client id is unknown or the secret is wrong');
  }
  return client;
}

/** The id of whoever asks: a client that proves it, or an application, which cannot. */
async function requesterId(context: RouteContext, request: FormRequest): Promise<string> {
  const { client_id: clientId, client_secret: secret } = request.body ?? {};
  const isApp =
    request.headers.authorization === undefined && secret === undefined && clientId !== undefined;
  return isApp ? requireApp(clientId).id : (await authenticateClient(context, request)).id;
}

function field(request: FormRequest, name: string): string {
  const value = request.body?.[name];
  if (typeof value !== 'string') {
    throw new OAuthError('invalid_request', `the form field ${name} is missing or was sent twice`);
  }
  return value;
}

function scopeField(request: FormRequest): string {
  return request.body?.['scope'] === undefined ? '' : field(request, 'scope');
}

async function grant(
  context: RouteContext,
  request: FormRequest,
): Promise<TokenResponse | PersonTokenResponse> {
  const { signIn } = context;
  const grantType = request.body?.['grant_type'];
  switch (grantType) {
    case 'client_credentials': {
      const client = await authenticateClient(context, request);
      const groups = grantedScopes(scopeField(request));
      const [first, ...others] = await context.tokens.issue({ clientId: client.id }, groups);
      return { ...first, other_tokens: others };
    }
    case 'authorization_code': {
      const appId = requireApp(request.body?.['client_id']).id;
      const login = await signIn.codes.exchange({
        appId,
        code: field(request, 'code'),
        redirectUri: field(request, 'redirect_uri'),
        codeVerifier: field(request, 'code_verifier'),
      });
      return await withIdToken(context, request, appId, login);
    }
    case DEVICE_GRANT: {
      const appId = requireApp(request.body?.['client_id']).id;
      const login = await signIn.devices.exchange(field(request, 'device_code'), appId);
      return await withIdToken(context, request, appId, login);
    }
    case 'refresh_token': {
      const appId = requireApp(request.body?.['client_id']).id;
      return await signIn.logins.refresh(field(request, 'refresh_token'), appId);
    }
    default:
      // Who asks comes first: strangers are told no more.
      await requesterId(context, request);
      throw new OAuthError(
        'unsupported_grant_type',
        `this hub knows the grants client_credentials, authorization_code, refresh_token and ${DEVICE_GRANT}`,
      );
  }
}

/** Says who signed in to an application that asked for `openid`. */
async function withIdToken(
  { signIn }: RouteContext,
  request: FastifyRequest,
  appId: string,
  { tokens, personId, nonce }: NewLogin,
): Promise<PersonTokenResponse> {
  const scopes = [tokens, ...tokens.other_tokens].flatMap(({ scope }) => scope.split(' '));
  const person = scopes.includes('openid') ? await signIn.people.find(personId) : undefined;
  if (person === undefined) {
    return tokens;
  }
  const issuer = publicOrigin(signIn.publicUrl, request);
  return {
    ...tokens,
    id_token: await signIn.idTokens.sign({ issuer, person, appId, nonce }),
  };
}

async function authorizeDevice(
  { signIn }: RouteContext,
  request: FormRequest,
): Promise<DeviceAuthorization> {
  const app = requireApp(request.body?.['client_id']);
  const scope = scopeField(request);
  const scopes = grantedScopes(scope).flatMap((group) => group.scopes);
  const asked = await signIn.devices.ask(app.id, scopes.join(' '));
  const page = publicOrigin(signIn.publicUrl, request) + DEVICE_PAGE_PATH;
  return {
    device_code: asked.deviceCode,
    user_code: asked.userCode,
    verification_uri: page,
    verification_uri_complete: `${page}?user_code=${asked.userCode}`,
    expires_in: asked.expiresInS,
    interval: asked.intervalS,
  };
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
  app.post(
    '/v2/oauth2/device_authorization',
    {
      config: { ...config, rate: 'device-codes' },
      schema: schema(DeviceForm, Responses.deviceAuthorization),
    },
    async (request: FormRequest, reply) => {
      reply.raw.setHeader('cache-control', 'no-store');
      return await authorizeDevice(context, request);
    },
  );
  const described = { config, schema: schema(TokenActionForm, Responses.introspection) };
  app.post('/v2/oauth2/token/revoke', described, async (request: FormRequest) => {
    const requester = await requesterId(context, request);
    const token = field(request, 'token');
    await context.tokens.revoke(token, requester);
    await context.signIn.logins.revoke(token, requester);
    return { active: false };
  });
  app.post('/v2/oauth2/token/introspect', described, async (request: FormRequest) => {
    await authenticateClient(context, request);
    const description = await context.tokens.describe(field(request, 'token'));
    if (description === undefined) {
      return { active: false };
    }
    const { caller } = description;
    return {
      active: true,
      client_id: description.clientId,
      sub: caller.id,
      username: caller.username,
      name: caller.name,
      email: caller.email,
      scope: Array.from(caller.scopes).join(' '),
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

/** Who somebody is, and how to check a statement of who signed in (protocol.md 2.7, 2.8). */
import type { FastifyInstance } from 'fastify';

import { DEVICE_GRANT, GROUPS_SCOPE, VIEW_GROUPS_SCOPE } from '../../../protocol/oauth.ts';
import { COMPUTE_SCOPE } from '../../../protocol/rest.ts';
import { ID_TOKEN_ALGORITHM } from '../../auth/id-tokens.ts';
import type { Identity } from '../../auth/identities.ts';
import { ALL_SCOPES } from '../../auth/scopes.ts';
import { HubError } from '../../hub-error.ts';
import { callerOf } from '../authentication.ts';
import { publicOrigin } from '../public-origin.ts';
import type { RouteContext } from '../route-context.ts';
import { answers, IdentitiesQuery, Responses } from '../schemas.ts';
import { requireScope } from './require-scope.ts';

/** Most ids or usernames that one question for identities may name. */
const IDENTITIES_MAX = 100;

/** Tokens that may look others up: those about identities, groups, or Compute, which shares with people. */
const DIRECTORY_SCOPES = [
  'urn:globus:auth:scope:auth.globus.org:view_identities',
  'urn:globus:auth:scope:auth.globus.org:view_identity_set',
  'urn:globus:auth:scope:auth.globus.org:manage_projects',
  'openid',
  'profile',
  'email',
  GROUPS_SCOPE,
  VIEW_GROUPS_SCOPE,
  COMPUTE_SCOPE,
] as const;

/** Adds the routes. */
export function identityRoutes(app: FastifyInstance, { signIn }: RouteContext): void {
  const open = { access: 'none' } as const;
  const config = { access: 'signedIn' } as const;
  app.get(
    '/.well-known/openid-configuration',
    { config: open, schema: { tags: ['oauth'], response: answers(Responses.discovery) } },
    (request) => {
      const issuer = publicOrigin(signIn.publicUrl, request);
      return {
        issuer,
        authorization_endpoint: `${issuer}/v2/oauth2/authorize`,
        token_endpoint: `${issuer}/v2/oauth2/token`,
        device_authorization_endpoint: `${issuer}/v2/oauth2/device_authorization`,
        revocation_endpoint: `${issuer}/v2/oauth2/token/revoke`,
        introspection_endpoint: `${issuer}/v2/oauth2/token/introspect`,
        userinfo_endpoint: `${issuer}/v2/oauth2/userinfo`,
        jwks_uri: `${issuer}/jwk.json`,
        scopes_supported: [...ALL_SCOPES],
        response_types_supported: ['code'],
        grant_types_supported: [
          'authorization_code',
          'refresh_token',
          'client_credentials',
          DEVICE_GRANT,
        ],
        code_challenge_methods_supported: ['S256'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: [ID_TOKEN_ALGORITHM],
        token_endpoint_auth_methods_supported: [
          'client_secret_basic',
          'client_secret_post',
          'none',
        ],
        claims_supported: ['sub', 'preferred_username', 'name', 'email'],
      };
    },
  );
  app.get(
    '/jwk.json',
    { config: open, schema: { tags: ['oauth'], response: answers(Responses.keySet) } },
    async (_request, reply) => {
      return await reply
        .header('cache-control', 'public, max-age=3600')
        .send(await signIn.idTokens.keySet());
    },
  );
  app.get(
    '/v2/oauth2/userinfo',
    { config, schema: { tags: ['oauth'], response: answers(Responses.userinfo) } },
    (request) => {
      const { id, username, name, email } = callerOf(request);
      const claims = { sub: id, preferred_username: username, name, email };
      return { ...claims, identity_set: [{ ...claims, username }] };
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
      const wanted = [request.query.ids, request.query.usernames].flatMap(
        (list) => list?.split(',').map((text) => text.trim()) ?? [],
      );
      requireScope(callerOf(request), DIRECTORY_SCOPES);
      if (wanted.length > IDENTITIES_MAX) {
        throw new HubError(
          422,
          'SEMANTICALLY_INVALID',
          `Request payload failed validation: ${wanted.length} ids and usernames, and ${IDENTITIES_MAX} is the most; ask for fewer at a time`,
        );
      }
      const found = await signIn.identities.find(wanted);
      return { identities: found.map(identityDocument) };
    },
  );
}

function identityDocument({
  id,
  username,
  name,
  email,
  issuer,
}: Identity): Record<string, unknown> {
  return {
    id,
    username,
    name,
    email,
    organization: null,
    identity_type: 'login',
    identity_provider: issuer,
    status: 'used',
  };
}

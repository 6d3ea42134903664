/**
 * Who calls: every route says what it needs, and a hook in front of it checks.
 *
 *   none      anybody
 *   signedIn  any live token
 *   endpoint  a Compute token of any client or person
 *   compute   a Compute token of a person, or of a client that is not limited to running endpoints
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { InvariantError } from '../../base/errors.ts';
import { COMPUTE_SCOPE } from '../../protocol/rest.ts';
import type { Caller } from '../auth/caller.ts';
import type { SignIn } from '../auth/sign-in.ts';
import { HubError } from '../hub-error.ts';

/** Seconds after which an issuer that could not be asked may be asked again. */
const RETRY_AFTER_S = 5;

/** What a route needs of its caller. */
export type RouteAccess = 'none' | 'signedIn' | 'endpoint' | 'compute';

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: RouteAccess;
    /** The token is looked up, whatever is remembered of it: the route hands out what outlives the token. */
    looksTokenUp?: boolean;
  }
  interface FastifyRequest {
    caller: Caller | null;
  }
}

/** The caller of a route that needs one. */
export function callerOf(request: FastifyRequest): Caller {
  if (request.caller === null) {
    throw new InvariantError('a route that needs a caller was reached without one');
  }
  return request.caller;
}

function unauthenticated(reply: FastifyReply, challenge: string, detail: string): HubError {
  reply.raw.setHeader('www-authenticate', challenge);
  return new HubError(401, 'USER_UNAUTHENTICATED', detail);
}

async function authenticate(
  signIn: Pick<SignIn, 'callerOf'>,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Caller> {
  const token = /^bearer +([\x21-\x7e]+)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (token === undefined) {
    throw unauthenticated(
      reply,
      'Bearer realm="outpost"',
      'this route needs an access token in the Authorization header',
    );
  }
  const freshness = request.routeOptions.config.looksTokenUp === true ? 'now' : 'remembered';
  const caller = await signIn.callerOf(token, freshness).catch((error: unknown) => {
    if (error instanceof HubError && error.httpStatus === 503) {
      reply.raw.setHeader('retry-after', RETRY_AFTER_S);
    }
    throw error;
  });
  if (caller === undefined) {
    throw unauthenticated(
      reply,
      'Bearer realm="outpost", error="invalid_token"',
      'the access token is unknown, revoked or expired; get a new one',
    );
  }
  return caller;
}

function checkAllowed(caller: Caller, access: RouteAccess): void {
  if (access === 'signedIn') {
    return;
  }
  if (!caller.scopes.has(COMPUTE_SCOPE)) {
    throw new HubError(
      403,
      'INSUFFICIENT_AUTH_SCOPE',
      `the access token lacks the scope ${COMPUTE_SCOPE}`,
    );
  }
  if (caller.endpointOnly && access !== 'endpoint') {
    throw new HubError(
      403,
      'INSUFFICIENT_AUTH_SCOPE',
      `client ${caller.name} may only run endpoints; use a client that was created without --endpoint-only`,
    );
  }
}

/** Puts the check in front of every route. A route that says nothing needs a full Compute token. */
export function authenticateRoutes(app: FastifyInstance, signIn: Pick<SignIn, 'callerOf'>): void {
  app.decorateRequest('caller', null);
  app.addHook('onRequest', async (request, reply) => {
    const access = request.routeOptions.config.access ?? 'compute';
    if (access === 'none' || request.is404) {
      return;
    }
    const caller = await authenticate(signIn, request, reply);
    checkAllowed(caller, access);
    // One request, one hook: nothing else writes here.
    // eslint-disable-next-line require-atomic-updates
    request.caller = caller;
  });
}

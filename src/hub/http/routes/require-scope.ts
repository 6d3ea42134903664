/** Scopes of routes that serve more than one resource server. */
import type { Caller } from '../../auth/caller.ts';
import { HubError } from '../../hub-error.ts';

/** The caller, when the token has one of the scopes and its client is not limited to running endpoints. @throws HubError 403. */
export function requireScope(caller: Caller, scopes: readonly [string, ...string[]]): Caller {
  if (caller.endpointOnly) {
    throw new HubError(
      403,
      'INSUFFICIENT_AUTH_SCOPE',
      `client ${caller.name} may only run endpoints; use a client that was created without --endpoint-only`,
    );
  }
  if (!scopes.some((scope) => caller.scopes.has(scope))) {
    throw new HubError(
      403,
      'INSUFFICIENT_AUTH_SCOPE',
      `the access token lacks the scope ${scopes[0]}`,
    );
  }
  return caller;
}

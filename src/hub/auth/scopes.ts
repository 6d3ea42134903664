/**
 * Scopes and the resource servers they belong to (protocol.md 2.4).
 *
 * A token is for one resource server. A grant whose scopes belong to several yields several tokens, the first one
 * at the top level of the response: that is the shape which the Globus SDK parses, and it is not OAuth's.
 */
import {
  AUTH_RESOURCE_SERVER,
  COMPUTE_RESOURCE_SERVER,
  COMPUTE_SCOPE,
} from '../../protocol/rest.ts';

const RESOURCE_SERVER_OF: ReadonlyMap<string, string> = new Map([
  [COMPUTE_SCOPE, COMPUTE_RESOURCE_SERVER],
  ['openid', AUTH_RESOURCE_SERVER],
  ['profile', AUTH_RESOURCE_SERVER],
  ['email', AUTH_RESOURCE_SERVER],
  ['urn:globus:auth:scope:auth.globus.org:manage_projects', AUTH_RESOURCE_SERVER],
  ['urn:globus:auth:scope:auth.globus.org:view_identities', AUTH_RESOURCE_SERVER],
]);

/** Scopes that one token will carry. */
export interface ScopeGroup {
  readonly resourceServer: string;
  readonly scopes: readonly string[];
}

/** Either the groups of what was asked for, in the order of asking, or the first scope that is unknown. */
export type RequestedScopes =
  { readonly groups: readonly [ScopeGroup, ...ScopeGroup[]] } | { readonly unknown: string };

/** Takes a scope parameter apart; clients send the same scope more than once. An empty one asks for everything of Compute. */
export function groupScopes(parameter: string): RequestedScopes {
  const wanted = new Set(parameter.split(' ').filter((scope) => scope !== ''));
  const groups = new Map<string, string[]>();
  for (const scope of wanted.size === 0 ? [COMPUTE_SCOPE] : wanted) {
    const resourceServer = RESOURCE_SERVER_OF.get(scope);
    if (resourceServer === undefined) {
      return { unknown: scope };
    }
    const group = groups.get(resourceServer);
    if (group === undefined) {
      groups.set(resourceServer, [scope]);
    } else {
      group.push(scope);
    }
  }
  const [first, ...others] = Array.from(groups, ([resourceServer, scopes]) => ({
    resourceServer,
    scopes,
  }));
  return first === undefined ? { unknown: '' } : { groups: [first, ...others] };
}

/**
 * Scopes and the resource servers they belong to (protocol.md 2.4).
 *
 * A token is for one resource server. A grant whose scopes belong to several yields several tokens, the first one
 * at the top level of the response: that is the shape which the Globus SDK parses, and it is not OAuth's.
 */
import {
  GROUPS_RESOURCE_SERVER,
  GROUPS_SCOPE,
  SEARCH_ONLY_SCOPE,
  SEARCH_RESOURCE_SERVER,
  SEARCH_SCOPE,
  VIEW_GROUPS_SCOPE,
} from '../../protocol/oauth.ts';
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
  ['urn:globus:auth:scope:auth.globus.org:view_identity_set', AUTH_RESOURCE_SERVER],
  [GROUPS_SCOPE, GROUPS_RESOURCE_SERVER],
  [VIEW_GROUPS_SCOPE, GROUPS_RESOURCE_SERVER],
  [SEARCH_SCOPE, SEARCH_RESOURCE_SERVER],
  [SEARCH_ONLY_SCOPE, SEARCH_RESOURCE_SERVER],
]);

/** Every scope that this hub grants. */
export const ALL_SCOPES: ReadonlySet<string> = new Set(RESOURCE_SERVER_OF.keys());

/** What a consent page says that a resource server's tokens are for. */
const PURPOSE_OF: ReadonlyMap<string, string> = new Map([
  [COMPUTE_RESOURCE_SERVER, 'register and run functions and endpoints in your name'],
  [AUTH_RESOURCE_SERVER, 'know your name and e-mail address'],
  [GROUPS_RESOURCE_SERVER, 'see and manage the groups you belong to'],
  [SEARCH_RESOURCE_SERVER, 'search among the functions that you may use'],
]);

/** In words, what tokens for these groups of scopes allow. */
export function purposesOf(groups: readonly ScopeGroup[]): string[] {
  return groups.map(({ resourceServer }) => PURPOSE_OF.get(resourceServer) ?? resourceServer);
}

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

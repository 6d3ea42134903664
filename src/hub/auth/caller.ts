/** Who makes a request. */

/** The identity behind an access token. */
export interface Caller {
  /** The identity: of a client its client id, of a person the id of the row in `people`. */
  readonly id: string;
  /** A program or service account with a secret, or a human being. */
  readonly kind: 'client' | 'person';
  /** For people to read. */
  readonly name: string;
  /** Unique at this hub: `ada` (of the hub's own), `ada@uni.example` (of another issuer), `<id>@clients.outpost` (a client). */
  readonly username: string;
  readonly email: string | null;
  /** The issuer that vouches for the caller; null when that is the hub itself. */
  readonly issuer: string | null;
  /** Names of groups that the issuer put into this token, in its own spelling; empty for whom the hub itself signs in. */
  readonly groupsFromClaim: readonly string[];
  /** May run endpoints and nothing else. */
  readonly endpointOnly: boolean;
  /** Scopes of the token. */
  readonly scopes: ReadonlySet<string>;
  /** Names the token without being it (its SHA-256): the key of whatever is remembered per token, so that a new login starts afresh. */
  readonly tokenKey: string;
}

/** The username of a client, which has none of its own. */
export function clientUsername(clientId: string): string {
  return `${clientId}@clients.outpost`;
}

/** Whether a token may be judged by what a process remembers of it, or is looked up: before anything is handed out that outlives it. */
export type TokenFreshness = 'remembered' | 'now';

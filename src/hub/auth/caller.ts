/** Who makes a request. */

/** The identity behind an access token. */
export interface Caller {
  /** Identity and client id: the same UUID. */
  readonly id: string;
  readonly name: string;
  /** May run endpoints and nothing else. */
  readonly endpointOnly: boolean;
  /** Scopes of the token. */
  readonly scopes: ReadonlySet<string>;
}

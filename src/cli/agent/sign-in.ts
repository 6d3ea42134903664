/**
 * Who an endpoint or a command signs in as: its client credentials, and where there are none the person whose login is kept for its hub.
 *
 * An agent stays who it was at its start: when somebody else signs in on this machine, its endpoint must not become theirs.
 */
import { AuthError } from '../../base/errors.ts';
import { findCredentials } from '../../config/credentials.ts';
import type { CredentialSources, Credentials } from '../../config/credentials.ts';
import { COMPUTE_SCOPE } from '../../protocol/rest.ts';
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';
import { clientTokens } from './hub-place.ts';
import type { HubPlace, TokenRequest } from './hub-place.ts';

interface SignedIn {
  /** Where the credentials or the login come from, for people. */
  readonly source: string;
  readonly warnings: readonly string[];
  /** Tokens at a hub. */
  readonly tokens: (hub: HubPlace, request?: TokenRequest) => TokenSource;
}

/** A client, with its secret. */
export interface ClientSignIn extends SignedIn {
  readonly kind: 'client';
  readonly credentials: Credentials;
}

/** A person who ran `agent login`. */
export interface PersonSignIn extends SignedIn {
  readonly kind: 'person';
  readonly identityId: string;
  readonly username: string;
}

/** One of the two. */
export type SignIn = ClientSignIn | PersonSignIn;

/**
 * Finds out; `hub` is asked only when there are no credentials, and may wait for the settings.
 *
 * @throws ConfigError when what there is cannot be used, AuthError CREDENTIALS_MISSING when there is nothing.
 */
export async function findSignIn(
  hub: () => HubPlace | Promise<HubPlace>,
  sources: CredentialSources,
): Promise<SignIn> {
  try {
    return clientSignIn(await findCredentials(sources));
  } catch (error) {
    if (!(error instanceof AuthError) || error.code !== 'CREDENTIALS_MISSING') {
      throw error;
    }
    const place = await hub();
    const person = await findPerson(place, sources);
    if (person === undefined) {
      throw new AuthError(
        'CREDENTIALS_MISSING',
        `${error.message}. To sign in at ${place.hubUrl} as yourself: agent login`,
        { cause: error },
      );
    }
    return person;
  }
}

/** Signs in with credentials that were found. */
export function clientSignIn(credentials: Credentials): ClientSignIn {
  return {
    kind: 'client',
    credentials,
    source: credentials.source,
    warnings: credentials.warnings,
    tokens: (hub, request) => clientTokens(hub, credentials, request),
  };
}

/** The person whose login is kept for a hub. @throws ConfigError when the logins cannot be read. */
export async function findPerson(
  hub: HubPlace,
  { environment }: Pick<CredentialSources, 'environment'>,
): Promise<PersonSignIn | undefined> {
  // Not loaded where there are credentials: the time to start counts.
  const { loginPlace } = await import('./login-place.ts');
  const { person, file } = loginPlace({ hub }, environment);
  const login = await person.current();
  if (login === undefined) {
    return undefined;
  }
  const { id, username } = login.identity;
  return {
    kind: 'person',
    identityId: id,
    username,
    source: `login of ${username} in ${file.path}`,
    warnings: [],
    tokens: (place, { scope = COMPUTE_SCOPE, ...limits } = {}) =>
      loginPlace({ hub: place, limits, identityId: id }, environment).person.authorizer(scope),
  };
}

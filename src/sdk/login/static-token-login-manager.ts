/** Tokens that a program got elsewhere, such as a portal from its own login: served as they are, never renewed. */
import { AuthError } from '../../base/errors.ts';
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';
import type { LoginManager, LoginOptions } from './login-manager.ts';

/** Serves the tokens it was given, by scope. */
// eslint-disable-next-line @typescript-eslint/naming-convention -- the name under which the guide knows it
export class StaticTokenLoginManager implements LoginManager {
  readonly #tokens: ReadonlyMap<string, string>;

  /** `tokens`: the access token for each scope, such as `{ [COMPUTE_SCOPE]: token }`. */
  constructor(tokens: Readonly<Record<string, string>>) {
    this.#tokens = new Map(Object.entries(tokens));
  }

  /** Nothing to do. @throws AuthError TOKEN_REJECTED when it is to sign in anew, which it cannot. */
  async ensureLoggedIn({ force = false }: LoginOptions = {}): Promise<void> {
    await Promise.resolve();
    if (force) {
      throw new AuthError(
        'TOKEN_REJECTED',
        'a StaticTokenLoginManager cannot sign in anew (forceLogin): it has the tokens that it was given. Make one with new tokens.',
      );
    }
  }

  /** Nothing to do: whoever got the tokens revokes them. */
  async logout(): Promise<void> {
    await Promise.resolve();
  }

  /** The token for a scope. Its `accessToken` throws AuthError SCOPE_MISSING without one, TOKEN_REJECTED when the hub refused it. */
  getAuthorizer(scope: string): TokenSource {
    return {
      accessToken: async ({ refresh = false } = {}) => {
        const token = await Promise.resolve(this.#tokens.get(scope));
        if (token === undefined) {
          throw new AuthError(
            'SCOPE_MISSING',
            `this StaticTokenLoginManager has no token for the scope ${scope}. Pass one to its constructor: { ${JSON.stringify(scope)}: token }.`,
          );
        }
        if (refresh) {
          throw new AuthError(
            'TOKEN_REJECTED',
            `the hub refused the token that the StaticTokenLoginManager has for the scope ${scope} (401): it is unknown there, expired or revoked. Get a new one and make a new client with it.`,
          );
        }
        return token;
      },
    };
  }
}

/**
 * How a client is signed in: the protocol of login managers (S63 to S66 of the guide), in TypeScript.
 *
 *   guide (Python)                        here
 *   ensure_logged_in()                    ensureLoggedIn({ force })
 *   logout()                              logout()
 *   get_web_client(base_url)              getAuthorizer(COMPUTE_SCOPE)
 *   get_auth_client()                     getAuthorizer('openid')
 *   get_search_client()                   getAuthorizer(SEARCH_SCOPE)
 *
 * A login manager signs in when it must, keeps tokens and hands them out for each scope. A program that has tokens of its own
 * gives them to a {@link StaticTokenLoginManager}, or implements these three methods.
 */
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';

/** What `ensureLoggedIn` may be asked for. */
export interface LoginOptions {
  /** Sign in anew although there are tokens; the hub then looks everything up afresh. @defaultValue false */
  readonly force?: boolean;
  readonly signal?: AbortSignal;
}

/** Signs a client in and serves its tokens. */
// The name under which the guide knows it.
// eslint-disable-next-line @typescript-eslint/naming-convention
export interface LoginManager {
  /** Returns once there are tokens for every scope that the client uses. @throws AuthError when nobody can be signed in. */
  ensureLoggedIn: (options?: LoginOptions) => Promise<void>;
  /** Revokes what was signed in and forgets it; fine when nothing was. */
  logout: () => Promise<void>;
  /** Tokens for a scope, renewed as needed. Makes no request before it is asked for one. */
  getAuthorizer: (scope: string) => TokenSource;
}

/**
 * The login of one client: its login manager is asked to sign in before the first request, and again after a logout; then it
 * serves the tokens.
 */
import { raceAbort } from '../base/abort.ts';
import { COMPUTE_SCOPE } from '../protocol/rest.ts';
import type { AccessTokenOptions, TokenSource } from '../transport/oauth/client-credentials.ts';
import type { LoginManager, LoginOptions } from './login/index.ts';

/** Signs a client in, at the first use. */
export class SignIn implements TokenSource {
  readonly #login: LoginManager;
  #tokens: TokenSource;
  #isForced: boolean;
  #signedIn: Promise<void> | undefined;

  /** With `isForced`, tokens that are there already are not used. */
  constructor(login: LoginManager, isForced: boolean) {
    this.#login = login;
    this.#tokens = login.getAuthorizer(COMPUTE_SCOPE);
    this.#isForced = isForced;
  }

  async accessToken(options: AccessTokenOptions = {}): Promise<string> {
    // One login for all who need it; a signal ends only the waiting.
    await raceAbort(this.#signedIn ?? this.ensure({ force: this.#isForced }), options.signal);
    return await this.#tokens.accessToken(options);
  }

  /** Signs in now. A login that failed is tried again at the next use. */
  async ensure(options: LoginOptions): Promise<void> {
    const signedIn = this.#login.ensureLoggedIn(options);
    this.#signedIn = signedIn;
    try {
      await signedIn;
      this.#isForced = false;
    } catch (error) {
      this.#signedIn = undefined;
      throw error;
    }
  }

  /** Signs out. */
  async end(): Promise<void> {
    this.#signedIn = undefined;
    await this.#login.logout();
    this.#tokens = this.#login.getAuthorizer(COMPUTE_SCOPE);
  }
}

/** A login manager for a program that brings a source of tokens. */
export function loginOfTokens(tokens: TokenSource): LoginManager {
  return {
    ensureLoggedIn: async ({ force = false, signal } = {}) => {
      if (force) {
        await tokens.accessToken({ refresh: true, ...(signal === undefined ? {} : { signal }) });
      }
    },
    // Whoever made the source ends it.
    logout: async () => {
      await Promise.resolve();
    },
    getAuthorizer: () => tokens,
  };
}

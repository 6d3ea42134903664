/**
 * Tokens of a person, from the file in which logins are kept.
 *
 *   age of the token   0 ───────── half life ───────── expiry
 *   accessToken()      as kept     renewed; when the   renewed; a
 *                                  hub is away, the    failure is
 *                                  old one             the caller's
 *
 * A refresh token is good once, and several processes share the file: whoever renews holds its lock, looks first whether somebody
 * else has just done it, and writes the new one down before it is used. Whoever wants a token looks at the file: a login that was ended
 * or begun by another process counts at once.
 */
import { raceAbort } from '../../base/abort.ts';
import type { Clock } from '../../base/clock.ts';
import { AuthError, ComputeError, invariant } from '../../base/errors.ts';
import type { PersonTokenResponse } from '../../protocol/oauth.ts';
import type { AccessTokenOptions, TokenSource } from '../../transport/oauth/client-credentials.ts';
import type { PersonGrants } from '../../transport/oauth/person-grants.ts';
import type { LoginFile, StoredLogin, StoredToken } from './login-file.ts';

/** A token this close to its end may be refused on arrival. */
const EXPIRY_MARGIN_MS = 5_000;

/** Parts of a {@link PersonLogin}. */
export interface PersonLoginOptions {
  readonly file: LoginFile;
  readonly grants: PersonGrants;
  readonly clock: Clock;
  /** Whose login it has to be: who acts for somebody does not go on as somebody else. Default anybody's. */
  readonly identityId?: string;
}

/** The login of a person at one hub. */
export class PersonLogin {
  readonly #options: PersonLoginOptions;
  readonly #renewals = new Map<string, Promise<StoredToken>>();

  constructor(options: PersonLoginOptions) {
    this.#options = options;
  }

  /** Who is signed in. */
  async current(): Promise<StoredLogin | undefined> {
    return await this.#options.file.read(this.#hubUrl);
  }

  /**
   * Keeps a new login in place of the one before, and ends that one at the hub: nobody has its tokens any more who should.
   * Returns why it could not be ended there, which takes nothing away from the new one.
   */
  async keep(login: StoredLogin): Promise<ComputeError | undefined> {
    const replaced = await this.#replace(login);
    try {
      await this.#endAtHub(replaced);
      return undefined;
    } catch (error) {
      if (error instanceof ComputeError) {
        return error;
      }
      throw error;
    }
  }

  /** Ends the login at the hub and forgets it here, also when the hub cannot be asked; false when nobody was signed in. */
  async end(): Promise<boolean> {
    const ended = await this.#replace(undefined);
    await this.#endAtHub(ended);
    return ended !== undefined;
  }

  /** Tokens for a scope. Its `accessToken` throws AuthError CREDENTIALS_MISSING, SCOPE_MISSING or TOKEN_REJECTED. */
  authorizer(scope: string): TokenSource {
    let last: StoredToken | undefined;
    return {
      accessToken: async (options) => {
        last = await this.#usable(scope, options ?? {});
        return last.accessToken;
      },
      expiresAt: () => last?.expiresAtMs,
    };
  }

  get #hubUrl(): string {
    return this.#options.grants.hubUrl;
  }

  /** Puts a login, or none, in the place of what is kept, and returns that. */
  async #replace(login: StoredLogin | undefined): Promise<StoredLogin | undefined> {
    let before: StoredLogin | undefined;
    await this.#options.file.update(this.#hubUrl, async (kept) => {
      before = kept;
      return await Promise.resolve(login);
    });
    return before;
  }

  async #endAtHub(login: StoredLogin | undefined): Promise<void> {
    const [token] = login?.tokens ?? [];
    if (token !== undefined) {
      // One refresh token stands for the login and all of its tokens.
      await this.#options.grants.revoke(token.refreshToken);
    }
  }

  async #usable(
    scope: string,
    { refresh = false, signal }: AccessTokenOptions,
  ): Promise<StoredToken> {
    signal?.throwIfAborted();
    const token = this.#tokenFor(await this.current(), scope);
    const nowMs = this.#options.clock.now();
    if (!refresh && nowMs < (token.issuedAtMs + token.expiresAtMs) / 2) {
      return token;
    }
    try {
      return await raceAbort(this.#renewed(scope, token), signal);
    } catch (error) {
      const isUsable = nowMs < token.expiresAtMs - EXPIRY_MARGIN_MS;
      // The hub is away, or the file cannot be written: there is time for both to pass.
      if (!refresh && isUsable && !(error instanceof AuthError)) {
        return token;
      }
      throw error;
    }
  }

  /** One renewal of a token at a time; whoever needs it meanwhile waits for the same. */
  async #renewed(scope: string, spent: StoredToken): Promise<StoredToken> {
    let renewal = this.#renewals.get(spent.accessToken);
    if (renewal === undefined) {
      renewal = this.#renew(scope, spent).finally(() => {
        this.#renewals.delete(spent.accessToken);
      });
      this.#renewals.set(spent.accessToken, renewal);
    }
    return await renewal;
  }

  async #renew(scope: string, spent: StoredToken): Promise<StoredToken> {
    const { file, grants, clock } = this.#options;
    let refusal: unknown;
    const login = await file.update(this.#hubUrl, async (stored) => {
      const token = this.#tokenFor(stored, scope);
      if (stored === undefined || token.accessToken !== spent.accessToken) {
        // Somebody else has renewed it, or signed in anew.
        return stored;
      }
      try {
        const [next] = storedTokens(await grants.refresh(token.refreshToken), clock.now());
        invariant(next !== undefined, 'a renewal without a token');
        return { ...stored, tokens: stored.tokens.map((kept) => (kept === token ? next : kept)) };
      } catch (error) {
        if (!(error instanceof AuthError) || error.details['error'] !== 'invalid_grant') {
          throw error;
        }
        // The login is over: nobody is to try this refresh token again.
        refusal = error;
        return undefined;
      }
    });
    if (refusal !== undefined) {
      throw new AuthError(
        'TOKEN_REJECTED',
        `Your login at ${this.#hubUrl} has ended: ${(refusal as AuthError).message} Sign in again with: agent login`,
        { cause: refusal },
      );
    }
    return this.#tokenFor(login, scope);
  }

  #tokenFor(login: StoredLogin | undefined, scope: string): StoredToken {
    if (login === undefined) {
      throw notSignedIn(this.#hubUrl);
    }
    const { identityId } = this.#options;
    if (identityId !== undefined && login.identity.id !== identityId) {
      throw new AuthError(
        'TOKEN_REJECTED',
        `${this.#options.file.path} now has the login of ${login.identity.username} (${login.identity.id}) at ${this.#hubUrl}, and this program began as ${identityId}. ` +
          'Sign in as that person again with `agent login`, or restart it to change who it is.',
      );
    }
    const token = login.tokens.find((kept) => kept.scope.split(' ').includes(scope));
    if (token === undefined) {
      throw new AuthError(
        'SCOPE_MISSING',
        `Your login at ${this.#hubUrl} does not cover the scope ${scope}. Sign in again with: agent login`,
      );
    }
    return token;
  }
}

/** Nobody is signed in, and nobody is there to be asked. */
export function notSignedIn(hubUrl: string): AuthError {
  return new AuthError(
    'CREDENTIALS_MISSING',
    `You are not signed in at ${hubUrl}. As a person: run \`agent login\` on a terminal of this machine. ` +
      'As a program: set OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET; `hub client create` makes a pair.',
  );
}

/** The tokens of a grant as they are kept. */
export function storedTokens(response: PersonTokenResponse, nowMs: number): StoredToken[] {
  return [response, ...response.other_tokens].map((token) => ({
    scope: token.scope,
    accessToken: token.access_token,
    refreshToken: token.refresh_token,
    issuedAtMs: nowMs,
    expiresAtMs: nowMs + token.expires_in * 1000,
  }));
}

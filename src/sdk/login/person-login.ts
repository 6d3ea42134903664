/**
 * Tokens of a person, from the file in which logins are kept.
 *
 *   age of the token   0 ───────── half life ───────── expiry
 *   accessToken()      as kept     renewed; when the   renewed; a
 *                                  hub is away, the    failure is
 *                                  old one             the caller's
 *
 * A refresh token is good once, and several processes share the file: whoever renews holds its lock, looks first whether somebody
 * else has just done it, and writes the new one down before it is used.
 */
import { raceAbort } from '../../base/abort.ts';
import type { Clock } from '../../base/clock.ts';
import { AuthError, UnavailableError, invariant } from '../../base/errors.ts';
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
}

/** The login of a person at one hub. */
export class PersonLogin {
  readonly #options: PersonLoginOptions;
  #held: StoredLogin | undefined;
  readonly #renewals = new Map<string, Promise<StoredToken>>();

  constructor(options: PersonLoginOptions) {
    this.#options = options;
  }

  /** Who is signed in. */
  async current(): Promise<StoredLogin | undefined> {
    this.#held = await this.#options.file.read(this.#hubUrl);
    return this.#held;
  }

  /** Keeps a new login in place of the one before. */
  async keep(login: StoredLogin): Promise<void> {
    this.#held = await this.#options.file.update(
      this.#hubUrl,
      async () => await Promise.resolve(login),
    );
  }

  /** Ends the login at the hub and forgets it here, also when the hub cannot be asked; false when nobody was signed in. */
  async end(): Promise<boolean> {
    const { file, grants } = this.#options;
    let ended: StoredLogin | undefined;
    await file.update(this.#hubUrl, async (login) => {
      ended = login;
      await Promise.resolve();
      return undefined;
    });
    this.#held = undefined;
    const [token] = ended?.tokens ?? [];
    if (token !== undefined) {
      // One refresh token stands for the login and all of its tokens.
      await grants.revoke(token.refreshToken);
    }
    return ended !== undefined;
  }

  /** Tokens for a scope. Its `accessToken` throws AuthError CREDENTIALS_MISSING, SCOPE_MISSING or TOKEN_REJECTED. */
  authorizer(scope: string): TokenSource {
    return {
      accessToken: async (options) => (await this.#usable(scope, options ?? {})).accessToken,
    };
  }

  get #hubUrl(): string {
    return this.#options.grants.hubUrl;
  }

  async #usable(
    scope: string,
    { refresh = false, signal }: AccessTokenOptions,
  ): Promise<StoredToken> {
    signal?.throwIfAborted();
    const login = this.#held ?? (await this.current());
    const token = this.#tokenFor(login, scope);
    const nowMs = this.#options.clock.now();
    if (!refresh && nowMs < (token.issuedAtMs + token.expiresAtMs) / 2) {
      return token;
    }
    try {
      return await raceAbort(this.#renewed(scope, token), signal);
    } catch (error) {
      const isUsable = nowMs < token.expiresAtMs - EXPIRY_MARGIN_MS;
      if (!refresh && isUsable && error instanceof UnavailableError) {
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
        if (!(error instanceof AuthError)) {
          throw error;
        }
        // The login is over: nobody is to try this refresh token again.
        refusal = error;
        return undefined;
      }
    });
    this.#held = login;
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

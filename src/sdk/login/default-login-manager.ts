/**
 * How a client is signed in when the program does not say. The first that there is:
 *
 *   1 client credentials   given by the program, else OUTPOST_, GLOBUS_COMPUTE_ or FUNCX_SDK_CLIENT_ID/SECRET
 *   2 a login that is kept in $OUTPOST_HOME/logins.json, from `agent login` or an earlier program
 *   3 a person at this terminal, who is shown an address and a code
 *
 * Without a terminal the third fails at once: a job that waits for somebody to type would wait for ever.
 */
import { systemClock } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import { AuthError } from '../../base/errors.ts';
import { GROUPS_SCOPE, OUTPOST_APP_ID, SEARCH_SCOPE } from '../../protocol/oauth.ts';
import type { DeviceAuthorization, PersonTokenResponse } from '../../protocol/oauth.ts';
import { COMPUTE_SCOPE } from '../../protocol/rest.ts';
import { clientCredentialsTokenSource } from '../../transport/oauth/client-credentials.ts';
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';
import { PersonGrants } from '../../transport/oauth/person-grants.ts';
import {
  authoritiesFrom,
  credentialsFrom,
  hubUrlFrom,
  processEnvironment,
} from '../environment.ts';
import type { Credentials, Environment } from '../environment.ts';
import { signInOnDevice } from './device-login.ts';
import { LoginFile, loginFilePath } from './login-file.ts';
import type { StoredLogin } from './login-file.ts';
import type { LoginManager, LoginOptions } from './login-manager.ts';
import { PersonLogin, notSignedIn, storedTokens } from './person-login.ts';

/** What a person is asked to agree to: all that a client of ours does (S13). The first one is the token of every call. */
export const LOGIN_SCOPES = [
  COMPUTE_SCOPE,
  'openid',
  'email',
  'profile',
  GROUPS_SCOPE,
  SEARCH_SCOPE,
].join(' ');

/** Settings of a {@link DefaultLoginManager}; what is absent comes from the environment. */
export interface DefaultLoginOptions {
  /** Default OUTPOST_HUB_URL, else http://localhost:5000. */
  readonly hubUrl?: string;
  /** With `clientSecret`. */
  readonly clientId?: string;
  readonly clientSecret?: string;
  /** Default the token endpoint of the hub. */
  readonly tokenEndpoint?: string;
  /** Variables to take defaults from. Default those of the process. */
  readonly environment?: Environment;
  /** Whether somebody sits there who can be asked. Default whether stdin and stderr are a terminal. */
  readonly interactive?: boolean;
  /** Shows the person where to sign in. Default a text on stderr. */
  readonly show?: (device: DeviceAuthorization) => void;
  /** Authorities that are trusted beside the system's (PEM). Default what the file OUTPOST_CA_FILE holds. */
  readonly ca?: string;
  /** Default the platform's. */
  readonly fetch?: typeof fetch;
  readonly timeoutMs?: number;
  readonly retries?: number;
  readonly userAgent?: string;
  readonly clock?: Clock;
}

/** Signs in with what there is: client credentials, a kept login, or the person at the terminal. */
// eslint-disable-next-line @typescript-eslint/naming-convention -- the name under which the guide knows it
export class DefaultLoginManager implements LoginManager {
  readonly #options: DefaultLoginOptions;
  readonly #environment: Environment;
  readonly #clock: Clock;
  readonly #clientSources = new Map<string, TokenSource>();
  #person: PersonLogin | undefined;
  #signingIn: Promise<void> | undefined;

  constructor(options: DefaultLoginOptions = {}) {
    this.#options = options;
    this.#environment = options.environment ?? processEnvironment();
    this.#clock = options.clock ?? systemClock;
  }

  /** Where it signs in. */
  get hubUrl(): string {
    return (this.#options.hubUrl ?? hubUrlFrom(this.#environment)).replace(/\/+$/, '');
  }

  /** @throws AuthError CREDENTIALS_MISSING when there is nothing to sign in with and nobody to ask; ConfigError. */
  async ensureLoggedIn({ force = false, signal }: LoginOptions = {}): Promise<void> {
    const options = signal === undefined ? {} : { signal };
    if (this.#credentials() !== undefined) {
      const scopes = force ? [...this.#clientSources.keys()] : [];
      for (const scope of new Set([COMPUTE_SCOPE, ...scopes])) {
        await this.#clientSource(scope).accessToken({ ...options, refresh: force });
      }
      return;
    }
    if (force || (await this.#personLogin().current()) === undefined) {
      await this.#signIn(signal);
    }
  }

  /** Ends the login that is kept and forgets it; of client credentials, the tokens that are held. */
  async logout(): Promise<void> {
    this.#clientSources.clear();
    if (this.#credentials() === undefined) {
      await this.#personLogin().end();
    }
  }

  /** Tokens for a scope; whoever is not signed in yet is when the first one is asked for. */
  getAuthorizer(scope: string): TokenSource {
    return {
      accessToken: async (options = {}) => {
        if (this.#credentials() !== undefined) {
          return await this.#clientSource(scope).accessToken(options);
        }
        const person = this.#personLogin().authorizer(scope);
        try {
          return await person.accessToken(options);
        } catch (error) {
          if (!(error instanceof AuthError) || error.code !== 'CREDENTIALS_MISSING') {
            throw error;
          }
          await this.#signIn(options.signal);
          return await person.accessToken(
            options.signal === undefined ? {} : { signal: options.signal },
          );
        }
      },
    };
  }

  /** Undefined when there are none; half a pair is an error, not a reason to sign in as somebody else. */
  #credentials(): Credentials | undefined {
    try {
      return credentialsFrom(this.#environment, this.#options);
    } catch (error) {
      if (error instanceof AuthError && error.code === 'CREDENTIALS_MISSING') {
        return undefined;
      }
      throw error;
    }
  }

  #clientSource(scope: string): TokenSource {
    let source = this.#clientSources.get(scope);
    if (source === undefined) {
      const { clientId, clientSecret } = credentialsFrom(this.#environment, this.#options);
      source = clientCredentialsTokenSource({
        ...this.#http(),
        tokenEndpoint: this.#options.tokenEndpoint ?? `${this.hubUrl}/v2/oauth2/token`,
        clientId,
        clientSecret: () => clientSecret,
        scope,
      });
      this.#clientSources.set(scope, source);
    }
    return source;
  }

  #personLogin(): PersonLogin {
    this.#person ??= new PersonLogin({
      file: new LoginFile(loginFilePath(this.#environment), this.#clock),
      grants: this.#grants(),
      clock: this.#clock,
    });
    return this.#person;
  }

  #grants(): PersonGrants {
    return new PersonGrants({ ...this.#http(), hubUrl: this.hubUrl, appId: OUTPOST_APP_ID });
  }

  /** Asks the person at the terminal, once for all who need it. */
  async #signIn(signal: AbortSignal | undefined): Promise<void> {
    const isTerminal = process.stdin.isTTY && process.stderr.isTTY;
    if (!(this.#options.interactive ?? isTerminal)) {
      throw notSignedIn(this.hubUrl);
    }
    this.#signingIn ??= this.#ask(signal).finally(() => {
      this.#signingIn = undefined;
    });
    await this.#signingIn;
  }

  async #ask(signal: AbortSignal | undefined): Promise<void> {
    const tokens = await signInOnDevice({
      grants: this.#grants(),
      scope: LOGIN_SCOPES,
      clock: this.#clock,
      show: this.#options.show ?? showOnStderr,
      ...(signal === undefined ? {} : { signal }),
    });
    const stillAlive = await this.#personLogin().keep(loginOf(tokens, this.#clock.now()));
    if (stillAlive !== undefined) {
      process.emitWarning(
        `You are signed in; the login before could not be ended at the hub: ${stillAlive.message}`,
        { code: stillAlive.code },
      );
    }
  }

  #http() {
    const { timeoutMs, retries, fetch, userAgent } = this.#options;
    const ca = this.#options.ca ?? authoritiesFrom(this.#environment);
    return {
      clock: this.#clock,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(retries === undefined ? {} : { retries }),
      ...(fetch === undefined ? {} : { fetch }),
      ...(userAgent === undefined ? {} : { userAgent }),
      ...(ca === undefined ? {} : { ca }),
    };
  }
}

/** A login as it is kept, from what the hub granted. */
export function loginOf(tokens: PersonTokenResponse, nowMs: number): StoredLogin {
  return {
    appId: OUTPOST_APP_ID,
    identity: identityOf(tokens.id_token),
    tokens: storedTokens(tokens, nowMs),
  };
}

/** Read without looking at the signature: it came from the hub itself, over the connection that the tokens came over. */
function identityOf(idToken: string | undefined): StoredLogin['identity'] {
  const payload = Buffer.from(idToken?.split('.')[1] ?? '', 'base64url').toString('utf8');
  const claims = (payload === '' ? {} : JSON.parse(payload)) as Readonly<Record<string, unknown>>;
  const text = (claim: unknown): string => (typeof claim === 'string' ? claim : '');
  return {
    id: text(claims['sub']),
    username: text(claims['preferred_username']),
    name: text(claims['name']),
  };
}

function showOnStderr(device: DeviceAuthorization): void {
  process.stderr.write(
    `To sign in, open ${device.verification_uri} in any browser and type the code ${device.user_code}\n` +
      `(or open ${device.verification_uri_complete}). Waiting …\n`,
  );
}

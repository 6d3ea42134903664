/** The hub as one client reaches it: address, login, and the REST API twice, throttled and not. */
import type { Clock } from '../base/clock.ts';
import { HubClient } from '../client/hub-client.ts';
import type { ClientOptions } from './client-options.ts';
import { authoritiesFrom, credentialsFrom, hubUrlFrom, processEnvironment } from './environment.ts';
import { DefaultLoginManager } from './login/index.ts';
import type { DefaultLoginOptions, LoginManager } from './login/index.ts';
import { SignIn, loginOfTokens } from './sign-in.ts';
import { Throttle, requireWithinBodyBound } from './throttle.ts';

/** How requests of the SDK name their sender. */
export const USER_AGENT = 'outpost-sdk';

/** Ways to one hub. */
export interface HubConnection {
  readonly signIn: SignIn;
  readonly hub: HubClient;
  /** The same for a person's single calls: it waits its turn while `isThrottled`. */
  readonly throttled: HubClient;
}

/** Makes the ways to a hub; no request is made. @throws ConfigError when half of the credentials is given. */
export function connectHub(
  options: ClientOptions,
  clock: Clock,
  isThrottled: () => boolean,
): HubConnection {
  const environment = options.environment ?? processEnvironment();
  const hubUrl = (options.hubUrl ?? hubUrlFrom(environment)).replace(/\/+$/, '');
  const ca = options.ca ?? authoritiesFrom(environment);
  const http = {
    hubUrl,
    clock,
    userAgent: USER_AGENT,
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    ...(options.retries === undefined ? {} : { retries: options.retries }),
    ...(ca === undefined ? {} : { ca }),
    ...(options.fetch === undefined ? {} : { fetch: options.fetch }),
  };
  const signIn = new SignIn(
    loginFrom(options, { ...http, environment }),
    options.forceLogin ?? false,
  );
  const throttle = new Throttle(clock);
  return {
    signIn,
    hub: new HubClient({ ...http, tokens: signIn }),
    throttled: new HubClient({
      ...http,
      tokens: signIn,
      onBodyBytes: (of, bytes) => {
        if (isThrottled()) {
          requireWithinBodyBound(of, bytes);
        }
      },
      beforeRequest: async (signal) => {
        if (isThrottled()) {
          await throttle.pass(signal);
        }
      },
    }),
  };
}

function loginFrom(options: ClientOptions, common: DefaultLoginOptions): LoginManager {
  const { loginManager, tokens, clientId, clientSecret, tokenEndpoint } = options;
  if (loginManager !== undefined) {
    return loginManager;
  }
  if (tokens !== undefined) {
    return loginOfTokens(tokens);
  }
  if (clientId !== undefined || clientSecret !== undefined) {
    // Half a pair is told where it is given.
    credentialsFrom(common.environment ?? {}, options);
  }
  return new DefaultLoginManager({
    ...common,
    ...(clientId === undefined ? {} : { clientId }),
    ...(clientSecret === undefined ? {} : { clientSecret }),
    ...(tokenEndpoint === undefined ? {} : { tokenEndpoint }),
  });
}

/** Talking to the hub as an endpoint or a command signs in there. */
import { AuthError, ProtocolError } from '../../base/errors.ts';
import { HubClient } from '../../client/hub-client.ts';
import { JsonHttpClient } from '../../transport/http/json-client.ts';
import type { JsonReply } from '../../transport/http/json-client.ts';
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';
import { COMMAND_LIMITS, userAgent } from './hub-place.ts';
import type { CommandLimits, HubPlace } from './hub-place.ts';
import type { SignIn } from './sign-in.ts';

/** A client for one command. */
export function commandHubClient(
  hub: HubPlace,
  signIn: SignIn,
  limits: CommandLimits = COMMAND_LIMITS,
  tokens: TokenSource = signIn.tokens(hub, limits),
): HubClient {
  return new HubClient({
    hubUrl: hub.hubUrl,
    tokens,
    userAgent: userAgent(),
    ...(hub.ca !== undefined && { ca: hub.ca }),
    ...limits,
  });
}

/** Plain requests to the hub for one command. */
export function commandHttp({ hubUrl, ca }: HubPlace, limits: CommandLimits): JsonHttpClient {
  return new JsonHttpClient({
    baseUrl: hubUrl,
    setting: 'hub_url',
    serverName: 'the hub',
    userAgent: userAgent(),
    ...(ca !== undefined && { ca }),
    ...limits,
  });
}

/** Who the hub says we are. */
export interface UserInfo {
  readonly identityId: string;
  readonly username: string | undefined;
  readonly name: string | undefined;
  readonly email: string | undefined;
}

/** Userinfo belongs to the other resource server: a token for Compute is not meant for it. */
const USER_INFO_SCOPE = 'openid';

/** Tokens with which one asks who one is. */
export function userInfoTokens(hub: HubPlace, signIn: SignIn): TokenSource {
  return signIn.tokens(hub, { ...COMMAND_LIMITS, scope: USER_INFO_SCOPE });
}

/** Asks the hub whose tokens these are (protocol.md 2.8). */
export async function userInfo(hub: HubPlace, tokens: TokenSource): Promise<UserInfo> {
  const http = commandHttp(hub, COMMAND_LIMITS);
  const ask = async (refresh: boolean): Promise<JsonReply> =>
    await http.request({
      method: 'GET',
      path: '/v2/oauth2/userinfo',
      headers: { authorization: `Bearer ${await tokens.accessToken({ refresh })}` },
      idempotent: true,
    });
  let reply = await ask(false);
  if (reply.status === 401) {
    // A token that was kept may have been revoked since.
    reply = await ask(true);
  }
  if (reply.status === 401 || reply.status === 403) {
    throw new AuthError(
      'TOKEN_REJECTED',
      `The hub at ${hub.hubUrl} granted a token and then refused it (${reply.status}). Is something between you and the hub taking the Authorization header away?`,
    );
  }
  const claims =
    typeof reply.body === 'object' && reply.body !== null
      ? (reply.body as Readonly<Record<string, unknown>>)
      : {};
  const { sub } = claims;
  if (reply.status !== 200 || typeof sub !== 'string') {
    throw new ProtocolError(
      'RESPONSE_INVALID',
      `${hub.hubUrl}/v2/oauth2/userinfo answered ${reply.status} and does not say who you are. Check that hub_url is the address of a hub.`,
    );
  }
  return {
    identityId: sub,
    username: textOf(claims['preferred_username']),
    name: textOf(claims['name']),
    email: textOf(claims['email']),
  };
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

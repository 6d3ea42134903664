/**
 * The grants by which an application signs a person in, as the hub answers them: one token for each resource server, a refresh
 * token with each (protocol.md 2.6; RFC 8628). Applications have an id and no secret.
 */
import { AuthError, ProtocolError } from '../../base/errors.ts';
import { DEVICE_GRANT } from '../../protocol/oauth.ts';
import type { DeviceAuthorization, PersonTokenResponse } from '../../protocol/oauth.ts';
import { HttpTransport } from '../http/http-transport.ts';
import type { HttpTransportOptions } from '../http/http-transport.ts';
import { parseServerUrl } from '../http/secure-url.ts';
import { refusalIn, sendForm } from './token-request.ts';
import type { TokenReply } from './token-request.ts';

/** Settings of {@link PersonGrants}. */
export interface PersonGrantsOptions extends Omit<HttpTransportOptions, 'serverName'> {
  readonly hubUrl: string;
  /** The application that asks. */
  readonly appId: string;
}

/** How a device stands that asked whether it was let in. */
export type DevicePoll =
  | { readonly state: 'pending' }
  | { readonly state: 'slow-down' }
  | { readonly state: 'granted'; readonly tokens: PersonTokenResponse };

/** Asks a hub for the tokens of a person. Every method throws UnavailableError when the hub cannot be asked. */
export class PersonGrants {
  readonly hubUrl: string;
  readonly #appId: string;
  readonly #transport: HttpTransport;

  /** @throws ConfigError when the URL is plain http to another machine. */
  constructor(options: PersonGrantsOptions) {
    this.hubUrl = parseServerUrl(options.hubUrl, 'the URL of the hub').href.replace(/\/+$/, '');
    this.#appId = options.appId;
    this.#transport = new HttpTransport({ ...options, serverName: 'the hub' });
  }

  /** A code for a person to type in. @throws AuthError SCOPE_MISSING, TOKEN_REJECTED. */
  async authorizeDevice(scope: string, signal?: AbortSignal): Promise<DeviceAuthorization> {
    const reply = await this.#post('device_authorization', { scope }, { idempotent: true, signal });
    const { device_code: code, user_code: userCode, verification_uri: page } = reply.body;
    const isComplete = [code, userCode, page].every((value) => typeof value === 'string');
    if (reply.status !== 200 || !isComplete) {
      throw this.#refusal(reply);
    }
    return reply.body as unknown as DeviceAuthorization;
  }

  /** Whether a device was let in. @throws AuthError TOKEN_REJECTED when it was refused or nobody came in time. */
  async pollDevice(deviceCode: string, signal?: AbortSignal): Promise<DevicePoll> {
    const fields = { grant_type: DEVICE_GRANT, device_code: deviceCode };
    const reply = await this.#post('token', fields, { idempotent: false, signal });
    switch (reply.body['error']) {
      case 'authorization_pending':
        return { state: 'pending' };
      case 'slow_down':
        return { state: 'slow-down' };
      default:
        return { state: 'granted', tokens: this.#tokens(reply) };
    }
  }

  /** The next token. A hub takes the same refresh token again for half a minute, so that a lost answer costs nothing. @throws AuthError TOKEN_REJECTED. */
  async refresh(refreshToken: string): Promise<PersonTokenResponse> {
    const fields = { grant_type: 'refresh_token', refresh_token: refreshToken };
    return this.#tokens(await this.#post('token', fields, { idempotent: true }));
  }

  /** Ends the login that a refresh token belongs to. */
  async revoke(refreshToken: string): Promise<void> {
    const reply = await this.#post('token/revoke', { token: refreshToken }, { idempotent: true });
    if (reply.status < 200 || reply.status > 299) {
      throw this.#refusal(reply);
    }
  }

  async #post(
    path: string,
    fields: Readonly<Record<string, string>>,
    {
      idempotent,
      signal,
    }: { readonly idempotent: boolean; readonly signal?: AbortSignal | undefined },
  ): Promise<TokenReply> {
    return await sendForm(this.#transport, {
      url: new URL(`${this.hubUrl}/v2/oauth2/${path}`),
      fields: { ...fields, client_id: this.#appId },
      idempotent,
      signal,
      server: `the hub at ${this.hubUrl}`,
    });
  }

  #tokens(reply: TokenReply): PersonTokenResponse {
    const { body } = reply;
    if (reply.status !== 200) {
      throw this.#refusal(reply);
    }
    const others = Array.isArray(body['other_tokens']) ? body['other_tokens'] : [undefined];
    for (const token of [body, ...(others as readonly unknown[])]) {
      const { access_token: access, refresh_token: refresh, scope } = Object(token) as typeof body;
      if (![access, refresh, scope].every((value) => typeof value === 'string')) {
        throw this.#invalid(reply);
      }
    }
    return body as unknown as PersonTokenResponse;
  }

  #refusal(reply: TokenReply): AuthError | ProtocolError {
    const { error } = reply.body;
    const why = refusalIn(reply);
    if (why === undefined) {
      return this.#invalid(reply);
    }
    return new AuthError(
      error === 'invalid_scope' ? 'SCOPE_MISSING' : 'TOKEN_REJECTED',
      `the hub at ${this.hubUrl} does not sign you in (${why}).`,
      { details: { error } },
    );
  }

  #invalid(reply: TokenReply): ProtocolError {
    return new ProtocolError(
      'RESPONSE_INVALID',
      `${this.hubUrl} answered ${reply.status} to a request for tokens, and not as a hub does that people can sign in at. Check the URL, and that the hub is not older than this program.`,
      { details: { status: reply.status } },
    );
  }
}

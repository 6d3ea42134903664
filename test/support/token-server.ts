/** A hub as far as a person's tokens go, in the test's hand: device codes, refresh tokens that are good once, revocation. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text as readAll } from 'node:stream/consumers';

import { DEVICE_GRANT, SEARCH_SCOPE } from '../../src/protocol/oauth.ts';
import { COMPUTE_SCOPE } from '../../src/protocol/rest.ts';

type Form = Readonly<Record<string, string>>;
interface Reply {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** A running token server. */
export class TokenServer {
  /** Forms that were sent, by path below `/v2/oauth2/`. */
  readonly requests: { readonly path: string; readonly form: Form }[] = [];
  /** What the next polls of a device are told; then it is let in. */
  pollErrors: string[] = [];
  /** Answer with this status in place of everything. */
  brokenStatus: number | undefined;
  /** Answer with 503 at these paths. */
  readonly brokenPaths = new Set<string>();
  /** Refuse renewals with this error. */
  refusal: string | undefined;
  lifetimeS = 1000;
  readonly #server: Server;
  readonly #live = new Map<string, string>();
  #count = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<TokenServer> {
    const server = createServer();
    const tokens = new TokenServer(server);
    server.on('request', (request, response) => {
      readAll(request)
        .then((text) => {
          const form = Object.fromEntries(new URLSearchParams(text));
          const path = (request.url ?? '').replace('/v2/oauth2/', '');
          tokens.requests.push({ path, form });
          const { status, body } =
            tokens.brokenStatus === undefined && !tokens.brokenPaths.has(path)
              ? tokens.#answer(path, form)
              : { status: tokens.brokenStatus ?? 503, body: {} };
          response.writeHead(status, { 'content-type': 'application/json' });
          response.end(JSON.stringify(body));
        })
        .catch((error: unknown) => {
          response.destroy(error as Error);
        });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return tokens;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How many grants of a type were asked for. */
  grants(type: string): number {
    return this.requests.filter(({ form }) => form['grant_type'] === type).length;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  /** Ends the login: no refresh token is good any more. */
  endLogin(): void {
    this.#live.clear();
  }

  #answer(path: string, form: Form): Reply {
    switch (path) {
      case 'device_authorization':
        return {
          status: 200,
          body: {
            device_code: 'device',
            user_code: 'BCDF-GHJK',
            verification_uri: `${this.url}/device`,
            verification_uri_complete: `${this.url}/device?user_code=BCDF-GHJK`,
            expires_in: 600,
            interval: 0.01,
          },
        };
      case 'token/revoke':
        this.#live.delete(form['token'] ?? '');
        return { status: 200, body: { active: false } };
      case 'token':
        return this.#token(form);
      default:
        return { status: 404, body: {} };
    }
  }

  #token(form: Form): Reply {
    const { grant_type: grantType, refresh_token: refresh = '' } = form;
    if (grantType === 'client_credentials') {
      return { status: 200, body: { ...this.#issue(form['scope'] ?? ''), other_tokens: [] } };
    }
    if (grantType === 'refresh_token' && this.refusal !== undefined) {
      return refused(this.refusal, 'by the test');
    }
    if (grantType === 'refresh_token') {
      const scope = this.#live.get(refresh);
      if (scope === undefined) {
        return refused('invalid_grant', 'the refresh token was used before');
      }
      this.#live.delete(refresh);
      return { status: 200, body: { ...this.#issue(scope), other_tokens: [] } };
    }
    const error = grantType === DEVICE_GRANT ? this.pollErrors.shift() : 'unsupported_grant_type';
    if (error !== undefined) {
      return refused(error, error);
    }
    const claims = { sub: 'ada-id', preferred_username: 'ada', name: 'Ada' };
    return {
      status: 200,
      body: {
        ...this.#issue(COMPUTE_SCOPE),
        id_token: `x.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.x`,
        other_tokens: [this.#issue('openid email'), this.#issue(SEARCH_SCOPE)],
      },
    };
  }

  #issue(scope: string): Record<string, unknown> {
    this.#count += 1;
    this.#live.set(`refresh-${this.#count}`, scope);
    return {
      access_token: `access-${this.#count}`,
      refresh_token: `refresh-${this.#count}`,
      scope,
      resource_server: 'test',
      expires_in: this.lifetimeS,
      token_type: 'Bearer',
    };
  }
}

function refused(error: string, description: string): Reply {
  return { status: 400, body: { error, error_description: description } };
}

/** An issuer of OpenID Connect that a test holds in its hand: discovery, a key set whose keys it rotates, and tokens. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { SignJWT, exportJWK, generateKeyPair } from 'jose';
import type { CryptoKey, JWK } from 'jose';

interface SigningKey {
  readonly kid: string;
  readonly privateKey: CryptoKey;
  readonly publicJwk: JWK;
}

/** What a token says; what is absent is as the hub wants it. */
export interface TokenClaims {
  readonly subject: string;
  readonly audience?: string;
  readonly issuer?: string;
  readonly expiresInS?: number;
  readonly claims?: Readonly<Record<string, unknown>>;
}

/** A running issuer. */
export class OidcIssuer {
  /** Requests for the key set so far. */
  keyRequests = 0;
  readonly #server: Server;
  #keys: SigningKey[] = [];
  #names = 0;
  #brokenStatus: number | undefined;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<OidcIssuer> {
    const server = createServer();
    const issuer = new OidcIssuer(server);
    server.on('request', (request, response) => {
      const body = issuer.#document(request.url ?? '');
      const status = issuer.#brokenStatus ?? (body === undefined ? 404 : 200);
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body ?? {}));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    await issuer.rotateKeys();
    return issuer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  /** Answers everything with this status from now on; undefined mends it. */
  breakDown(status: number | undefined): void {
    this.#brokenStatus = status;
  }

  /** Signs with a new key from now on, and forgets the old ones. */
  async rotateKeys(): Promise<void> {
    this.#names += 1;
    const kid = `key-${this.#names}`;
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
    const publicJwk = { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' };
    this.#keys = [{ kid, privateKey, publicJwk }];
  }

  /** A signed token. */
  async token({ subject, audience, issuer, expiresInS, claims }: TokenClaims): Promise<string> {
    const [key] = this.#keys;
    if (key === undefined) {
      throw new Error('the issuer has no key');
    }
    const nowS = Math.floor(Date.now() / 1000);
    return await new SignJWT({ ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: key.kid })
      .setIssuer(issuer ?? this.url)
      .setSubject(subject)
      .setAudience(audience ?? 'outpost')
      .setIssuedAt(nowS)
      .setExpirationTime(nowS + (expiresInS ?? 300))
      .sign(key.privateKey);
  }

  #document(path: string): unknown {
    switch (path) {
      case '/.well-known/openid-configuration':
        return { issuer: this.url, jwks_uri: `${this.url}/keys` };
      case '/keys':
        this.keyRequests += 1;
        return { keys: this.#keys.map(({ publicJwk }) => publicJwk) };
      default:
        return undefined;
    }
  }
}

/** A proxy in front of the hub that passes everything on and keeps the secrets that went by, for a test that looks for them. */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** An answer in the place of the hub's, once. */
export interface Interruption {
  readonly path: string;
  readonly status: number;
  /** The answer repeats what was asked, with its headers, as a careless server does. */
  readonly echo: true;
}

/** Headers that belong to one connection. */
const HOP_HEADERS = ['host', 'connection', 'content-length', 'transfer-encoding', 'keep-alive'];

/** Listens on a port of this machine. */
export class RecordingProxy {
  readonly #hubUrl: string;
  readonly #server: Server;
  readonly #interruptions: Interruption[] = [];
  /** Passwords of the broker, access tokens, authorization headers. */
  readonly secrets = new Set<string>();
  /** Answers that were interrupted. */
  interruptedCount = 0;

  private constructor(hubUrl: string) {
    this.#hubUrl = hubUrl;
    this.#server = createServer((request, response) => {
      this.#pass(request, response).catch((error: unknown) => {
        response.writeHead(502).end(String(error));
      });
    });
  }

  static async start(hubUrl: string): Promise<RecordingProxy> {
    const proxy = new RecordingProxy(hubUrl);
    await new Promise<void>((resolve) => {
      proxy.#server.listen(0, '127.0.0.1', resolve);
    });
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Answers the next request of a path itself. */
  interrupt(interruption: Interruption): void {
    this.#interruptions.push(interruption);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
    });
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET', url = '/', headers } = request;
    const sent = await buffer(request);
    if (headers.authorization !== undefined) {
      this.secrets.add(headers.authorization.replace(/^\S+ /, ''));
    }
    const index = this.#interruptions.findIndex(({ path }) => url.startsWith(path));
    const [interruption] = index === -1 ? [] : this.#interruptions.splice(index, 1);
    if (interruption !== undefined) {
      this.interruptedCount += 1;
      const echo = `no: ${JSON.stringify({ headers, body: sent.toString() })}`;
      response.writeHead(interruption.status, { 'content-type': 'application/json' });
      response.end(
        JSON.stringify({
          error: 'server_error',
          error_description: echo,
          detail: echo,
          reason: echo,
        }),
      );
      return;
    }
    const kept = Object.entries(headers).filter(([name]) => !HOP_HEADERS.includes(name));
    const answer = await fetch(`${this.#hubUrl}${url}`, {
      method,
      headers: Object.fromEntries(kept) as Record<string, string>,
      redirect: 'manual',
      ...(sent.length > 0 && { body: sent }),
    });
    const text = await answer.text();
    this.#keepSecrets(text);
    response.writeHead(answer.status, {
      'content-type': answer.headers.get('content-type') ?? 'text/plain',
    });
    response.end(text);
  }

  #keepSecrets(text: string): void {
    for (const { groups } of text.matchAll(/"(?:access|refresh|id)_token":\s*"(?<token>[^"]+)"/g)) {
      this.secrets.add(groups?.['token'] ?? '');
    }
    for (const { groups } of text.matchAll(/amqps?:\/\/[^:"]*:(?<password>[^@"]+)@/g)) {
      const password = groups?.['password'] ?? '';
      this.secrets.add(password);
      this.secrets.add(decodeURIComponent(password));
    }
  }
}

/** HTTP as clients of the hub speak it, with servers that do what servers and the networks before them do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { createServer as createSocketServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

import { ProtocolError, UnavailableError } from '../../src/base/errors.ts';
import { requireWithinBodyBound } from '../../src/sdk/throttle.ts';
import { CONNECT_TIMEOUT, overSockets } from '../../src/transport/http/exchange.ts';
import { HttpTransport } from '../../src/transport/http/http-transport.ts';
import type { HttpReply, HttpTransportOptions } from '../../src/transport/http/http-transport.ts';
import { eventually } from '../support/eventually.ts';

describe('HTTP transport', () => {
  const servers: Server[] = [];
  const sockets = new Set<Socket>();
  /** Whether requests go over sockets, or over the fetch of the platform, as one that knows a proxy would. */
  const ways: readonly [name: string, options: Partial<HttpTransportOptions>][] = [
    ['sockets', {}],
    ['a fetch of the caller', { fetch }],
  ];

  afterEach(async () => {
    for (const socket of sockets) {
      socket.destroy();
    }
    await Promise.all(
      servers.splice(0).map(async (server) => {
        server.close();
        await once(server, 'close');
      }),
    );
  });

  async function listen(server: Server): Promise<URL> {
    servers.push(server);
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/thing?a=%20b`);
  }

  async function serve(listener: RequestListener): Promise<URL> {
    return await listen(createServer(listener));
  }

  async function echo(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
    }
    const { method, url, headers } = request;
    response.setHeader('x-answer', 'yes');
    response.end(JSON.stringify({ method, url, headers, body: Buffer.concat(chunks).toString() }));
  }

  for (const [way, options] of ways) {
    const send = async (
      url: URL,
      request: { method?: string; body?: string | Uint8Array; idempotent?: boolean } = {},
      more: Partial<HttpTransportOptions> = {},
    ): Promise<HttpReply> => {
      const transport = new HttpTransport({ serverName: 'the hub', ...options, ...more });
      return await transport.send({ method: 'GET', idempotent: false, ...request, url });
    };

    describe(`over ${way}`, () => {
      it('carries method, path, headers, texts and bytes there, and the answer back', async () => {
        const url = await serve((request, response) => void echo(request, response));
        for (const [method, body, length] of [
          ['GET', undefined, undefined],
          ['POST', undefined, '0'],
          ['POST', 'grüße', '7'],
          ['PUT', Buffer.from('grüße'), '7'],
          ['DELETE', 'grüße', '7'],
        ] as const) {
          const reply = await send(
            url,
            { method, ...(body !== undefined && { body }) },
            { userAgent: 'me/1' },
          );
          assert.deepEqual([reply.status, reply.attempts], [200, 1]);
          assert.equal(reply.headers.get('X-Answer'), 'yes');
          assert.equal(reply.headers.get('x-absent'), null);
          const seen = JSON.parse(reply.text) as Record<string, unknown>;
          const headers = seen['headers'] as Record<string, string>;
          assert.deepEqual(
            [seen['method'], seen['url'], seen['body']],
            [method, '/thing?a=%20b', body === undefined ? '' : 'grüße'],
          );
          assert.deepEqual(
            [headers['accept'], headers['user-agent'], headers['content-length']],
            ['application/json', 'me/1', length],
          );
        }
      });

      it('follows no redirect: it would carry the credentials along', async () => {
        let asked = 0;
        const url = await serve((_request, response) => {
          asked += 1;
          response.writeHead(307, { location: '/elsewhere' }).end();
        });
        assert.equal((await send(url)).status, 307);
        assert.equal(asked, 1);
      });

      it('says where nothing listens, and tries again even what is not idempotent', async () => {
        const url = await serve(() => undefined);
        await Promise.all(
          servers.splice(0).map(async (server) => {
            server.close();
            await once(server, 'close');
          }),
        );
        await assert.rejects(send(url, { method: 'POST', body: 'x' }, { retries: 1 }), (error) => {
          assert.ok(error instanceof UnavailableError);
          assert.equal(error.code, 'HUB_UNREACHABLE');
          assert.match(error.message, /\(attempt 2\): .*ECONNREFUSED.*Nothing listens there/);
          return true;
        });
      });

      it('does not send again what the server may have acted on', async () => {
        for (const breakOff of [
          (response: ServerResponse) => response.destroy(),
          (response: ServerResponse) => {
            response.writeHead(200, { 'content-length': 1000 });
            response.write('half');
            setImmediate(() => response.destroy());
          },
        ]) {
          let asked = 0;
          const url = await serve((_request, response) => {
            asked += 1;
            breakOff(response);
          });
          await assert.rejects(send(url, { method: 'POST', body: 'x' }), {
            code: 'HUB_UNREACHABLE',
          });
          assert.equal(asked, 1);
        }
      });

      it('gives up a reply that stops in the middle', async () => {
        const url = await serve((_request, response) => {
          response.writeHead(200, { 'content-length': 1000 });
          response.write('half');
        });
        await assert.rejects(send(url, {}, { timeoutMs: 200 }), { code: 'TIMED_OUT' });
        await eventually(() => {
          assert.equal(sockets.size, 0);
        });
      });

      it('ends with the reason of the signal, and lets the connection go', async () => {
        let hasArrived: () => void = () => undefined;
        const arrived = new Promise<void>((resolve) => {
          hasArrived = resolve;
        });
        const url = await serve(() => {
          hasArrived();
        });
        const abort = new AbortController();
        const transport = new HttpTransport({ serverName: 'the hub', ...options });
        const { signal } = abort;
        const sent = transport.send({ method: 'GET', url, idempotent: true, signal });
        await arrived;
        abort.abort(new Error('enough'));
        await assert.rejects(sent, /^Error: enough$/);
        await eventually(() => {
          assert.equal(sockets.size, 0);
        });
      });

      it('keeps to a bound on bodies, sent or received, and waits for no rest', async () => {
        let asked = 0;
        let answer = (response: ServerResponse): unknown => response.end();
        const url = await serve((request, response) => {
          asked += 1;
          request.resume();
          request.once('end', () => void answer(response));
        });
        const bounded = { onBodyBytes: requireWithinBodyBound };
        const isTooLarge = (error: unknown): boolean =>
          error instanceof ProtocolError &&
          error.code === 'PAYLOAD_TOO_LARGE' &&
          error.message.includes('throttlingEnabled');
        const large = 'x'.repeat(5_000_001);
        await assert.rejects(send(url, { method: 'POST', body: large }, bounded), isTooLarge);
        assert.equal(asked, 0);
        // A length that is told is believed; the body never comes.
        answer = (response) => {
          response.writeHead(200, { 'content-length': 5_000_001 });
          response.write('begun');
        };
        await assert.rejects(send(url, {}, bounded), isTooLarge);
        answer = (response) => {
          response.write(large.slice(1));
          setImmediate(() => response.write('x'));
        };
        await assert.rejects(send(url, {}, bounded), isTooLarge);
        await eventually(() => {
          assert.equal(sockets.size, 0);
        });
        answer = (response) => response.end(large.slice(1));
        assert.equal((await send(url, {}, bounded)).text.length, 5_000_000);
        // Without a length, in parts.
        answer = (response) => {
          response.writeHead(201);
          response.write(large.slice(2));
          return response.end('x');
        };
        const inParts = await send(url, {}, bounded);
        assert.deepEqual([inParts.status, inParts.text.length], [201, 5_000_000]);
        answer = (response) => response.end(large);
        assert.equal((await send(url, { method: 'POST', body: large })).text, large);
      });
    });
  }

  it('uses one connection for one request after the other', async () => {
    const url = await serve((request, response) => void echo(request, response));
    const transport = new HttpTransport({ serverName: 'the hub' });
    for (let index = 0; index < 3; index += 1) {
      await transport.send({ method: 'POST', url, body: 'x', idempotent: false });
    }
    assert.equal(sockets.size, 1);
  });

  it('sends no more once there is an answer', async () => {
    let count = 0;
    const server = createSocketServer((socket) => {
      socket.once('data', () => {
        socket.pause();
        socket.write('HTTP/1.1 413 Too Large\r\ncontent-length: 6\r\n\r\nenough');
      });
      socket.on('data', (chunk) => {
        count += chunk.length;
      });
      // What was on its way when the client left is cut off.
      socket.on('error', () => undefined);
    });
    const url = await listen(server);
    const transport = new HttpTransport({ serverName: 'the hub' });
    const body = Buffer.alloc(50_000_000);
    const reply = await transport.send({ method: 'POST', url, body, idempotent: false });
    assert.deepEqual([reply.status, reply.text], [413, 'enough']);
    for (const socket of sockets) {
      socket.resume();
    }
    await eventually(() => {
      assert.equal(sockets.size, 0);
    });
    assert.ok(count < body.length, `${count} bytes came`);
  });

  it('gives up a TLS handshake that does not end, before anything was sent', async () => {
    const port = (await listen(createSocketServer((socket) => socket.resume()))).port;
    const { signal } = new AbortController();
    const exchange = overSockets(undefined, 100);
    const url = new URL(`https://127.0.0.1:${port}/`);
    await assert.rejects(exchange(url, { method: 'POST', headers: {}, body: 'x', signal }), {
      code: CONNECT_TIMEOUT,
    });
    await eventually(() => {
      assert.equal(sockets.size, 0);
    });
  });
});

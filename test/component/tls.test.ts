/** Certificates: whom we believe, what we say when we do not, and the tunnel to a hub elsewhere. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { connect as connectPlain } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { fileURLToPath } from 'node:url';

import { readAuthorityFile } from '../../src/base/authority-file.ts';
import { systemClock } from '../../src/base/clock.ts';
import { UnavailableError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { CertificateRenewal } from '../../src/hub/http/certificate-renewal.ts';
import { Listeners } from '../../src/hub/http/listeners.ts';
import { Tunnel } from '../../src/hub/tunnel/tunnel.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import { HttpTransport } from '../../src/transport/http/http-transport.ts';
import { TestAuthority } from '../support/certificates.ts';
import type { CertificateFiles } from '../support/certificates.ts';
import { eventually } from '../support/eventually.ts';
import { runProgram } from '../support/stack.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const HUB_COMMAND = fileURLToPath(new URL('../../src/cli/hub.js', import.meta.url));

describe('certificates', () => {
  let directory: string;
  let authority: TestAuthority;
  let other: TestAuthority;
  let local: CertificateFiles;
  let expired: CertificateFiles;
  let elsewhere: CertificateFiles;
  let ca: string;
  const servers: Server[] = [];

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-tls-'));
    authority = new TestAuthority(directory, 'Test Authority');
    other = new TestAuthority(directory, 'Other Authority');
    local = authority.issue('local', 'DNS:localhost,IP:127.0.0.1');
    expired = authority.issue('expired', 'IP:127.0.0.1', { expired: true });
    elsewhere = authority.issue('elsewhere', 'DNS:hub.example.org');
    ca = readFileSync(authority.cert, 'utf8');
  });

  afterEach(async () => {
    await Promise.all(
      servers.splice(0).map(async (server) => {
        await close(server);
      }),
    );
  });

  after(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  async function listen(server: Server): Promise<number> {
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  async function serve(files: CertificateFiles, handler: Handler = answer): Promise<number> {
    const identity = { cert: readFileSync(files.cert), key: readFileSync(files.key) };
    return await listen(createServer(identity, handler));
  }

  function answer(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      response.setHeader('content-type', 'application/json');
      response.setHeader('set-cookie', ['a=1', 'b=2']);
      response.end(
        JSON.stringify({
          method: request.method,
          url: request.url,
          host: request.headers.host,
          authorization: request.headers.authorization,
          body: Buffer.concat(chunks).toString('utf8'),
        }),
      );
    });
  }

  async function refusal(port: number, trusted: string | undefined): Promise<UnavailableError> {
    const transport = new HttpTransport({
      serverName: 'the hub',
      ...(trusted === undefined ? {} : { ca: trusted }),
    });
    const url = new URL(`https://127.0.0.1:${port}/`);
    try {
      await transport.send({ method: 'GET', url, idempotent: true });
    } catch (error) {
      assert.ok(error instanceof UnavailableError);
      return error;
    }
    return assert.fail('the certificate was accepted');
  }

  describe('a file with authorities', () => {
    it('is taken without what else is in it', () => {
      const path = join(directory, 'bundle.pem');
      writeFileSync(path, `Some words\n${ca}\n${readFileSync(authority.key, 'utf8')}`);
      const reading = readAuthorityFile(path);
      assert.ok('pem' in reading);
      assert.ok(!reading.pem.includes('PRIVATE'));
      assert.equal(reading.pem.trim(), ca.trim());
    });

    it('is refused with what is wrong with it', () => {
      const expectation = (path: string): string => {
        const reading = readAuthorityFile(path);
        return 'expected' in reading ? reading.expected : assert.fail(`${path} was taken`);
      };
      const garbled = join(directory, 'garbled.pem');
      writeFileSync(garbled, ca.replace(/\n[A-Za-z0-9+/]{20}/, '\nAAAAAAAAAAAAAAAAAAAA'));
      assert.match(expectation(join(directory, 'absent.pem')), /no such file/);
      assert.match(expectation(authority.key), /certificates as PEM/);
      assert.match(expectation(garbled), /number 1 is none/);
      assert.match(expectation(expired.cert), /"CN=expired" expired on Feb {2}1 00:00:00 2020/);
      assert.match(expectation(directory), /can be read/);
    });

    it('may hold some that are out of date', () => {
      const path = join(directory, 'mixed.pem');
      writeFileSync(path, `${readFileSync(expired.cert, 'utf8')}${ca}`);
      assert.ok('pem' in readAuthorityFile(path));
    });
  });

  describe('of a server', () => {
    it('are accepted when a trusted authority signed them', async () => {
      const port = await serve(local);
      const transport = new HttpTransport({ serverName: 'the hub', ca });
      const url = new URL(`https://127.0.0.1:${port}/x?y=1`);
      for (const body of ['grüße', Buffer.from('grüße')]) {
        const reply = await transport.send({ method: 'POST', url, body, idempotent: false });
        assert.equal(reply.status, 200);
        assert.equal(reply.headers.get('Content-Type'), 'application/json');
        const echo = JSON.parse(reply.text) as Record<string, unknown>;
        assert.deepEqual([echo['method'], echo['url'], echo['body']], ['POST', '/x?y=1', 'grüße']);
      }
    });

    it('are refused with the name of who signed them and what to set', async () => {
      const port = await serve(local);
      for (const trusted of [undefined, readFileSync(other.cert, 'utf8')]) {
        const error = await refusal(port, trusted);
        assert.equal(error.code, 'CERTIFICATE_REFUSED');
        assert.match(error.message, new RegExp(`the hub at 127\\.0\\.0\\.1:${port}`));
        assert.match(error.message, /"CN=local" is signed by "CN=Test Authority"/);
        assert.match(error.message, /Set OUTPOST_CA_FILE \(ca_file of an agent\)/);
      }
    });

    it('are refused once they have expired, with the date', async () => {
      const error = await refusal(await serve(expired), ca);
      assert.equal(error.code, 'CERTIFICATE_REFUSED');
      assert.match(error.message, /"CN=expired" expired on Feb {2}1 00:00:00 2020 GMT/);
    });

    it('are refused for another name, with the names that they have', async () => {
      const error = await refusal(await serve(elsewhere), ca);
      assert.match(
        error.message,
        /"CN=elsewhere" is for DNS:hub\.example\.org, not for 127\.0\.0\.1/,
      );
    });

    it('are refused alike by AMQP', async () => {
      const port = await serve(local);
      const url = `amqps://u:p@127.0.0.1:${port}/`;
      const dial = dialAmqp({ url, connectionName: 'test', ca: readFileSync(other.cert, 'utf8') });
      await assert.rejects(dial, (error) => {
        assert.ok(error instanceof UnavailableError);
        assert.equal(error.code, 'CERTIFICATE_REFUSED');
        assert.match(error.message, /the broker at .* signed by "CN=Test Authority"/);
        return true;
      });
    });

    it('are missed where none are shown', async () => {
      const port = await listen(createHttpServer(answer));
      const error = await refusal(port, ca);
      assert.equal(error.code, 'HUB_UNREACHABLE');
      assert.match(error.message, /speaks no TLS/);
    });
  });

  it('are taken over when their files are renewed', async () => {
    const read = (files: CertificateFiles): { cert: string; key: string } => ({
      cert: readFileSync(files.cert, 'utf8'),
      key: readFileSync(files.key, 'utf8'),
    });
    let files: () => { cert: string; key: string } = () => read(local);
    const identity = { ...files(), reload: () => files() };
    const listeners = await Listeners.open(answer, { host: '127.0.0.1', port: 0, tls: identity });
    const renewal = new CertificateRenewal({
      identity,
      servers: listeners.tlsServers,
      logger: silentLogger,
      clock: systemClock,
      everyMs: 20,
    });
    renewal.start();
    const subject = async (): Promise<string> =>
      await new Promise((resolve, reject) => {
        const socket = connect({ host: '127.0.0.1', port: listeners.port, ca }, () => {
          resolve(socket.getPeerX509Certificate()?.subject ?? '');
          socket.destroy();
        });
        socket.once('error', reject);
      });
    try {
      assert.equal(await subject(), 'CN=local');
      // Files are replaced one after the other: a certificate with the key of another is not taken over.
      files = () => ({ ...read(authority.issue('renewed', 'IP:127.0.0.1')), key: read(local).key });
      files = () =>
        read({ cert: join(directory, 'renewed.pem'), key: join(directory, 'renewed.key') });
      authority.issue('renewed', 'IP:127.0.0.1');
      await eventually(async () => {
        assert.equal(await subject(), 'CN=renewed');
      });
    } finally {
      renewal.stop();
      await listeners.close();
    }
  });

  describe('the tunnel', () => {
    const problems: string[] = [];
    let tunnel: Tunnel | undefined;

    afterEach(async () => {
      const open = tunnel;
      tunnel = undefined;
      problems.length = 0;
      await open?.stop();
    });

    async function open(hubUrl: string, trusted: string = ca): Promise<string> {
      tunnel = new Tunnel({
        hubUrl,
        port: 0,
        ca: trusted,
        onProblem: (message) => problems.push(message),
      });
      return `http://127.0.0.1:${await tunnel.start()}`;
    }

    it('passes method, path, headers and body on, and the answer back', async () => {
      const port = await serve(local);
      const url = await open(`https://localhost:${port}/base/`);
      const body = 'x'.repeat(3_000_000);
      const response = await fetch(`${url}/v3/things?a=%20b`, {
        method: 'PUT',
        body,
        headers: { authorization: 'Bearer secret' },
      });
      assert.deepEqual(response.headers.getSetCookie(), ['a=1', 'b=2']);
      assert.deepEqual(await response.json(), {
        method: 'PUT',
        url: '/base/v3/things?a=%20b',
        host: `localhost:${port}`,
        authorization: 'Bearer secret',
        body,
      });
    });

    it('answers for a hub that is away, as the hub would', async () => {
      const port = await serve(local);
      const url = await open(`https://127.0.0.1:${port}`);
      await Promise.all(
        servers.splice(0).map(async (server) => {
          await close(server);
        }),
      );
      const response = await fetch(`${url}/v2/version`, {
        method: 'POST',
        body: 'x'.repeat(100_000),
      });
      assert.equal(response.status, 502);
      const document = (await response.json()) as Record<string, unknown>;
      assert.equal(document['code'], 'HUB_UNREACHABLE');
      assert.match(
        String(document['reason']),
        /cannot reach the hub at .*ECONNREFUSED.*Check that it runs/,
      );
      assert.equal(problems.length, 1);
    });

    it('answers with the reason when the certificate of the hub is refused', async () => {
      const port = await serve(local);
      const url = await open(`https://127.0.0.1:${port}`, readFileSync(other.cert, 'utf8'));
      const response = await fetch(`${url}/v2/version`);
      assert.equal(response.status, 502);
      const document = (await response.json()) as Record<string, unknown>;
      assert.equal(document['code'], 'CERTIFICATE_REFUSED');
      assert.match(String(document['reason']), /signed by "CN=Test Authority"/);
    });

    it('breaks off an answer that the hub broke off', async () => {
      const port = await serve(local, (_request, response) => {
        response.writeHead(200, { 'content-length': 1000 });
        response.write('half');
        setImmediate(() => response.destroy());
      });
      const url = await open(`https://127.0.0.1:${port}`);
      await assert.rejects(async () => await (await fetch(`${url}/x`)).text());
    });

    it('gives up a request whose client has gone', async () => {
      let isGone = false;
      const port = await serve(local, (_request, response) => {
        response.once('close', () => {
          isGone = true;
        });
        response.write('begun');
      });
      const url = await open(`https://127.0.0.1:${port}`);
      const abort = new AbortController();
      const response = await fetch(`${url}/x`, { signal: abort.signal });
      assert.equal(response.status, 200);
      abort.abort();
      await eventually(() => {
        assert.ok(isGone);
      });
    });

    it('refuses plain http to another machine', async () => {
      await assert.rejects(open('http://hub.example.org'), /plain http/);
    });

    it('carries AMQP to the broker that the hub names, and to no other', async () => {
      const greetings: string[] = [];
      const broker = createTlsEcho(local, greetings);
      const brokerPort = await listen(broker);
      let named = `amqps://user:p%40ss@127.0.0.1:${brokerPort}/v%2Fhost`;
      const hub = await serve(local, (_request, response) => {
        response.end(JSON.stringify({ queue_prefix: 'p', connection_url: named }));
      });
      const url = await open(`https://127.0.0.1:${hub}`);
      const ask = async (): Promise<string> => {
        const response = await fetch(`${url}/v2/get_amqp_result_connection_url`);
        const document = (await response.json()) as Record<string, string>;
        assert.equal(document['queue_prefix'], 'p');
        return document['connection_url'] ?? '';
      };
      const given = new URL(await ask());
      assert.equal(given.protocol, 'amqp:');
      assert.equal(given.hostname, '127.0.0.1');
      assert.notEqual(given.port, String(brokerPort));
      assert.deepEqual(
        [given.username, given.password, given.pathname],
        ['user', 'p%40ss', '/v%2Fhost'],
      );
      assert.equal(await ask(), given.href, 'one port a broker');
      assert.equal(await roundTrip(Number(given.port)), 'AMQP');
      assert.deepEqual(greetings, ['AMQP']);
      // A broker without TLS is the program's own to dial.
      named = 'amqp://user:x@127.0.0.1:5672/';
      assert.equal(await ask(), named);
    });

    it('says once that the broker cannot be reached, also while the hub answers', async () => {
      const gone = createTlsEcho(local, []);
      const brokerPort = await listen(gone);
      await close(gone);
      const hub = await serve(local, (_request, response) => {
        response.end(JSON.stringify({ connection_url: `amqps://user:x@127.0.0.1:${brokerPort}/` }));
      });
      const url = await open(`https://127.0.0.1:${hub}`);
      for (let round = 0; round < 2; round += 1) {
        const response = await fetch(`${url}/v2/get_amqp_result_connection_url`);
        const { connection_url: given } = (await response.json()) as { connection_url: string };
        const socket = connectPlain(Number(new URL(given).port), '127.0.0.1');
        socket.on('error', () => undefined);
        socket.resume();
        await once(socket, 'close');
      }
      await fetch(`${url}/v2/get_amqp_result_connection_url`);
      assert.equal(problems.length, 1, problems.join('\n'));
      assert.match(problems[0] ?? '', /results cannot be had from the broker/);
    });

    it('leaves nothing behind when it is stopped', async () => {
      const port = await serve(local);
      const url = await open(`https://127.0.0.1:${port}`);
      assert.equal((await fetch(`${url}/x`)).status, 200);
      const stopped = tunnel;
      await stopped?.stop();
      await assert.rejects(fetch(`${url}/x`));
    });

    it('says as a command why it does not start', async () => {
      const port = await serve(local);
      const run = async (...args: string[]): Promise<{ code: number | null; text: string }> => {
        const environment = { PATH: process.env['PATH'], HOME: directory };
        const { code, stdout, stderr } = await runProgram(
          process.execPath,
          [HUB_COMMAND, 'tunnel', ...args],
          { env: environment, limitMs: 60_000 },
        );
        return { code, text: stdout + stderr };
      };
      const hub = `https://127.0.0.1:${port}`;
      const [untrusted, missing, plain] = await Promise.all([
        run(hub, '--port', '0'),
        run(hub, '--ca', join(directory, 'absent.pem')),
        run('http://hub.example.org'),
      ]);
      assert.equal(untrusted.code, 75);
      assert.match(untrusted.text, /signed by "CN=Test Authority".*Set OUTPOST_CA_FILE/);
      assert.equal(missing.code, 78);
      assert.match(
        missing.text,
        /--ca \(command line\) = .*absent\.pem: expected there is no such file/,
      );
      assert.equal(plain.code, 78);
      assert.match(plain.text, /plain http/);
    });
  });
});

async function close(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  await closed;
}

/** A broker as far as this goes: says back what it is told. */
function createTlsEcho(files: CertificateFiles, greetings: string[]): Server {
  const server = createServer({ cert: readFileSync(files.cert), key: readFileSync(files.key) });
  server.removeAllListeners('secureConnection');
  server.on('secureConnection', (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      greetings.push(chunk.toString('latin1'));
      socket.write(chunk);
    });
  });
  return server;
}

async function roundTrip(port: number): Promise<string> {
  const { connect: connectTcp } = await import('node:net');
  return await new Promise((resolve, reject) => {
    const socket = connectTcp(port, '127.0.0.1', () => {
      socket.write('AMQP');
    });
    socket.once('error', reject);
    socket.once('data', (chunk) => {
      resolve(chunk.toString('latin1'));
      socket.destroy();
    });
  });
}

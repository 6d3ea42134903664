/** A small S3 server over HTTP for one bucket: objects in memory, and no request without a right signature (AWS Signature 4). */
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** The key that it accepts. */
export interface BucketKey {
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface BucketServer {
  readonly url: string;
  readonly objects: ReadonlyMap<string, Buffer>;
  /** Whether it answers 503 to everything from now on. */
  refuse: (isRefusing: boolean) => void;
  stop: () => Promise<void>;
}

function sha256(data: Buffer | string): string {
  return createHash('sha256').update(data).digest('hex');
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

/** Signature 4, from the request as it came. */
function isSigned(request: IncomingMessage, body: Buffer, key: BucketKey): boolean {
  const pattern =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/;
  const match = pattern.exec(request.headers.authorization ?? '');
  const [, id, day = '', region = '', names = '', signature] = match ?? [];
  const contentHash = String(request.headers['x-amz-content-sha256']);
  if (id !== key.accessKeyId || region !== key.region || contentHash !== sha256(body)) {
    return false;
  }
  const headers = names
    .split(';')
    .map((name) => `${name}:${String(request.headers[name] ?? '').trim()}\n`)
    .join('');
  const [path = '', query = ''] = (request.url ?? '').split('?');
  const canonical = [request.method, path, query, headers, names, contentHash].join('\n');
  const date = String(request.headers['x-amz-date']);
  const scope = `${day}/${region}/s3/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', date, scope, sha256(canonical)].join('\n');
  const signingKey = [day, region, 's3', 'aws4_request'].reduce<Buffer | string>(
    hmac,
    `AWS4${key.secretAccessKey}`,
  );
  return hmac(signingKey, toSign).toString('hex') === signature && names.includes('host');
}

/** Starts it on a free port. */
export async function startBucketServer(key: BucketKey): Promise<BucketServer> {
  const objects = new Map<string, Buffer>();
  let isRefusing = false;
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
    }
    const body = Buffer.concat(chunks);
    const path = request.url ?? '';
    const found = objects.get(path);
    if (isRefusing) {
      response.writeHead(503).end('<Error><Code>SlowDown</Code></Error>');
    } else if (!isSigned(request, body, key)) {
      response.writeHead(403).end('<Error><Code>SignatureDoesNotMatch</Code></Error>');
    } else if (request.method === 'PUT') {
      objects.set(path, body);
      response.writeHead(200).end();
    } else if (request.method === 'DELETE') {
      objects.delete(path);
      response.writeHead(204).end();
    } else if (found === undefined) {
      response.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>');
    } else {
      response.writeHead(200, { 'content-length': found.length }).end(found);
    }
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => {
      response.destroy();
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    refuse: (wanted): void => {
      isRefusing = wanted;
    },
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    stop: async (): Promise<void> => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

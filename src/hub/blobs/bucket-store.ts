/**
 * Blobs as objects of a bucket, by the S3 protocol: PUT, GET and DELETE of one object, signed (AWS Signature 4).
 *
 * The checksum of the content is signed with a PUT, so that a server takes exactly what came in. What the server refuses is an
 * UnavailableError: who uploads tries again, and the log has the server's own words.
 */
import { createReadStream } from 'node:fs';
import { request as httpRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { AwsV4Signer } from 'aws4fetch';

import { UnavailableError, errorText } from '../../base/errors.ts';
import { trustOptions } from '../../transport/tls/trust.ts';
import type { BlobStore, IncomingBlob } from './blob-store.ts';

/** A bucket and the key to it. */
export interface Bucket {
  /** With the bucket's name in host or path, and a prefix if any; without a slash at the end. */
  readonly url: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** SHA-256 of nothing. */
const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
/** Without a byte in either direction for so long, a connection is given up. */
const IDLE_TIMEOUT_MS = 30_000;
const REASON_CHARS_MAX = 300;

/** Keeps blobs in a bucket. */
export class BucketStore implements BlobStore {
  readonly #bucket: Bucket;
  readonly #ca: string | undefined;

  /** `ca`: authorities that are trusted beside the system's (PEM). */
  constructor(bucket: Bucket, ca?: string) {
    this.#bucket = bucket;
    this.#ca = ca;
  }

  async put(blob: IncomingBlob): Promise<void> {
    const response = await this.#send('PUT', blob.key, blob);
    await this.#requireSuccess(response, 'PUT');
  }

  async open(key: string): Promise<Readable | undefined> {
    const response = await this.#send('GET', key);
    if (response.statusCode === 404) {
      response.resume();
      return undefined;
    }
    if (response.statusCode !== 200) {
      await this.#requireSuccess(response, 'GET');
    }
    return response;
  }

  async delete(key: string): Promise<void> {
    const response = await this.#send('DELETE', key);
    if (response.statusCode === 404) {
      response.resume();
      return;
    }
    await this.#requireSuccess(response, 'DELETE');
  }

  async #send(
    method: 'PUT' | 'GET' | 'DELETE',
    key: string,
    blob?: IncomingBlob,
  ): Promise<IncomingMessage> {
    const { url, ...keys } = this.#bucket;
    const signer = new AwsV4Signer({
      method,
      url: `${url}/${key.slice(0, 2)}/${key}`,
      headers: {
        'x-amz-content-sha256': blob?.sha256 ?? EMPTY_SHA256,
        ...(blob !== undefined && { 'content-type': 'application/json' }),
      },
      service: 's3',
      ...keys,
    });
    const signed = await signer.sign();
    const send = signed.url.protocol === 'https:' ? httpsRequest : httpRequest;
    const outgoing = send(signed.url, {
      method,
      headers: {
        ...Object.fromEntries(signed.headers),
        ...(blob !== undefined && { 'content-length': String(blob.bytes) }),
      },
      timeout: IDLE_TIMEOUT_MS,
      ...trustOptions(this.#ca),
    });
    outgoing.on('timeout', () => {
      outgoing.destroy(this.#unreachable(method, `nothing came for ${IDLE_TIMEOUT_MS / 1000} s`));
    });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once('response', resolve).once('error', reject);
    });
    try {
      if (blob === undefined) {
        outgoing.end();
        return await answered;
      }
      // A server that refuses may answer before it has everything: its answer counts, not the broken pipe.
      const [response] = await Promise.all([
        answered,
        pipeline(createReadStream(blob.path), outgoing).catch(async () => {
          await answered;
        }),
      ]);
      return response;
    } catch (error) {
      throw error instanceof UnavailableError ? error : this.#unreachable(method, errorText(error));
    }
  }

  async #requireSuccess(response: IncomingMessage, method: string): Promise<void> {
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) {
      text = (text + String(chunk)).slice(0, REASON_CHARS_MAX);
    }
    const { statusCode = 0 } = response;
    if (statusCode < 200 || statusCode > 299) {
      throw this.#unreachable(method, `it answered ${statusCode} ${text}`);
    }
  }

  #unreachable(method: string, reason: string): UnavailableError {
    return new UnavailableError(
      'BLOB_STORE_UNREACHABLE',
      `${method} at the bucket ${this.#bucket.url} failed: ${reason}. Check OUTPOST_HUB_BLOBS_S3_URL and the key to it.`,
    );
  }
}

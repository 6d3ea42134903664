/** Where blobs lie: a directory (directory-store.ts) or a bucket (bucket-store.ts). */
import type { Readable } from 'node:stream';

/** A blob that has come in and lies in a file. */
export interface IncomingBlob {
  /** Lower-case hexadecimal digits, a dot and a UUID. */
  readonly key: string;
  /** The file; it may be moved away. */
  readonly path: string;
  readonly bytes: number;
  /** Of its content, hexadecimal. */
  readonly sha256: string;
}

/** Keeps blobs under keys. */
export interface BlobStore {
  /** Takes a blob; when this resolves, it survives a crash. May be repeated. */
  put: (blob: IncomingBlob) => Promise<void>;
  /** The content, undefined when there is none. */
  open: (key: string) => Promise<Readable | undefined>;
  /** Deletes; fine when there is none. */
  delete: (key: string) => Promise<void>;
}

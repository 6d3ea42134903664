/** Puts the keeping of large results together from its settings. */
import { join } from 'node:path';

import type { Kysely } from 'kysely';

import type { Logger } from '../../base/logger.ts';
import type { HubDatabase } from '../db/schema.ts';
import { BucketStore } from './bucket-store.ts';
import type { Bucket } from './bucket-store.ts';
import { DirectoryStore } from './directory-store.ts';
import { ResultBlobs } from './result-blobs.ts';

/** Where large results go. */
export interface BlobSettings {
  /** Absolute. With a bucket, only what comes in lies here, for a moment. */
  readonly directory: string;
  readonly bucket?: Bucket | undefined;
  readonly inlineBytesMax: number;
  readonly resultBytesMax: number;
  readonly totalBytesMax: number;
}

/** What it works with. */
export interface BlobParts {
  readonly db: Kysely<HubDatabase>;
  readonly logger: Logger;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
}

/** Makes it, and its directory. */
export async function createBlobs(settings: BlobSettings, parts: BlobParts): Promise<ResultBlobs> {
  const { directory, bucket, ...bounds } = settings;
  const { ca, ...rest } = parts;
  const blobs = new ResultBlobs({
    ...bounds,
    ...rest,
    store: bucket === undefined ? new DirectoryStore(directory) : new BucketStore(bucket, ca),
    incomingDir: join(directory, 'incoming'),
  });
  await blobs.start();
  return blobs;
}

/** The variables of a hub that bound rates and sizes, and say where large results go. docs/limits.md explains them. */
import { join, resolve } from 'node:path';

import { RESULT_INLINE_BYTES_MAX, TASK_PACKED_BYTES_MAX } from '../protocol/limits.ts';
import type { Variable, VariableReader } from './variable-reader.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** What a broker carries in one message, less what stands around a result. */
const MESSAGE_BYTES_MAX = 15 * MIB;
const HTTP_SCHEMES = ['http:', 'https:'];

/** Every such variable. */
export const LIMIT_VARIABLES = {
  taskBytesMax: {
    name: 'OUTPOST_HUB_TASK_BYTES_MAX',
    summary: 'Largest task, function and arguments together, in bytes',
    defaultText: String(TASK_PACKED_BYTES_MAX),
  },
  rateLimit: {
    name: 'OUTPOST_HUB_RATE_LIMIT',
    summary: 'Requests of one identity in a window, at one hub process; 0: no limit',
    defaultText: '1000',
  },
  rateLimitAddress: {
    name: 'OUTPOST_HUB_RATE_LIMIT_ADDRESS',
    summary:
      'Requests of one address in a window to routes for anybody, such as those that give tokens; 0: no limit',
    defaultText: '300',
  },
  rateWindowS: {
    name: 'OUTPOST_HUB_RATE_WINDOW_S',
    summary: 'Length of that window, in seconds',
    defaultText: '10',
  },
  resultInlineBytesMax: {
    name: 'OUTPOST_HUB_RESULT_INLINE_BYTES_MAX',
    summary:
      'Largest result that travels as a message, in bytes; a larger one goes to the blob store',
    defaultText: String(RESULT_INLINE_BYTES_MAX),
  },
  resultBytesMax: {
    name: 'OUTPOST_HUB_RESULT_BYTES_MAX',
    summary: 'Largest result in the blob store, in bytes',
    defaultText: String(256 * MIB),
  },
  blobsBytesMax: {
    name: 'OUTPOST_HUB_BLOBS_BYTES_MAX',
    summary: 'Most that the blob store holds, in bytes',
    defaultText: String(10 * GIB),
  },
  blobsDir: {
    name: 'OUTPOST_HUB_BLOBS_DIR',
    summary: 'Directory of the blob store; the same one for every hub process',
    defaultText: '$OUTPOST_HOME/.hub/blobs',
  },
  blobsS3Url: {
    name: 'OUTPOST_HUB_BLOBS_S3_URL',
    summary:
      'A bucket that takes the place of that directory: https://server/bucket or https://bucket.server, with a prefix if you like',
  },
  blobsS3Region: {
    name: 'OUTPOST_HUB_BLOBS_S3_REGION',
    summary: 'Its region',
    defaultText: 'us-east-1',
  },
  blobsS3AccessKeyId: {
    name: 'OUTPOST_HUB_BLOBS_S3_ACCESS_KEY_ID',
    summary: 'Id of the key to it',
  },
  blobsS3SecretAccessKey: {
    name: 'OUTPOST_HUB_BLOBS_S3_SECRET_ACCESS_KEY',
    summary: 'The key to it',
  },
} as const satisfies Record<string, Variable>;

/** A bucket and the key to it. */
export interface BucketConfig {
  /** Without a slash at the end. */
  readonly url: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** Where large results go, and how large they may be. */
export interface BlobConfig {
  readonly directory: string;
  /** Takes the place of the directory. */
  readonly bucket: BucketConfig | undefined;
  readonly inlineBytesMax: number;
  readonly resultBytesMax: number;
  readonly totalBytesMax: number;
}

/** Reads the bounds of rates and of tasks. */
export function readRequestLimits(reader: VariableReader): {
  readonly taskBytesMax: number;
  readonly rates: {
    readonly requestsMax: number;
    readonly addressRequestsMax: number;
    readonly windowMs: number;
  };
} {
  const variables = LIMIT_VARIABLES;
  return {
    taskBytesMax:
      reader.integer(variables.taskBytesMax, 1024, TASK_PACKED_BYTES_MAX) ?? TASK_PACKED_BYTES_MAX,
    rates: {
      requestsMax: reader.integer(variables.rateLimit, 0, 1_000_000) ?? 1000,
      addressRequestsMax: reader.integer(variables.rateLimitAddress, 0, 1_000_000) ?? 300,
      windowMs: (reader.integer(variables.rateWindowS, 1, 3600) ?? 10) * 1000,
    },
  };
}

/** Reads where large results go. */
export function readBlobConfig(reader: VariableReader, home: string): BlobConfig {
  const variables = LIMIT_VARIABLES;
  return {
    directory: resolve(reader.text(variables.blobsDir) ?? join(home, '.hub', 'blobs')),
    bucket: readBucket(reader),
    inlineBytesMax:
      reader.integer(variables.resultInlineBytesMax, 1024, MESSAGE_BYTES_MAX) ??
      RESULT_INLINE_BYTES_MAX,
    resultBytesMax: reader.integer(variables.resultBytesMax, 1024, GIB) ?? 256 * MIB,
    totalBytesMax:
      reader.integer(variables.blobsBytesMax, MIB, Number.MAX_SAFE_INTEGER) ?? 10 * GIB,
  };
}

function readBucket(reader: VariableReader): BucketConfig | undefined {
  const { blobsS3Url, blobsS3Region, blobsS3AccessKeyId, blobsS3SecretAccessKey } = LIMIT_VARIABLES;
  const url = reader.url(blobsS3Url, HTTP_SCHEMES);
  if (url === undefined) {
    return undefined;
  }
  const key = [blobsS3AccessKeyId, blobsS3SecretAccessKey].map((variable) => {
    const value = reader.text(variable);
    if (value === undefined) {
      reader.refuse(variable, undefined, `to be set too: ${blobsS3Url.name} needs a key`);
    }
    return value ?? '';
  });
  return {
    url: url.replace(/\/+$/, ''),
    region: reader.text(blobsS3Region) ?? 'us-east-1',
    accessKeyId: key[0] ?? '',
    secretAccessKey: key[1] ?? '',
  };
}

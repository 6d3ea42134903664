/** Reads the captured output that travels beside a result as a header. Whatever is not as expected is left out. */
import { TASK_OUTPUT_HEADER } from '../../protocol/amqp-headers.ts';
import { OUTPUT_BYTES_MAX } from '../../protocol/limits.ts';
import type { BlobReference } from '../../protocol/rest.ts';
import { jsonbText } from './jsonb.ts';

/** Two streams, each character escaped at worst as six; a longer header is not one of ours. */
const HEADER_CHARS_MAX = 2 * 6 * OUTPUT_BYTES_MAX + 1024;

/** JSON text of the output for the database, or null when there is none. */
export function taskOutputText(headers: Readonly<Record<string, unknown>>): string | null {
  const text = headers[TASK_OUTPUT_HEADER];
  if (typeof text !== 'string' || text.length > HEADER_CHARS_MAX) {
    return null;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The output is a courtesy: a result is not refused because of it.
    return null;
  }
  if (typeof value !== 'object' || value === null) {
    return null;
  }
  const { stdout, stderr, truncated, blob } = value as Record<string, unknown>;
  const output = {
    ...(typeof stdout === 'string' && { stdout }),
    ...(typeof stderr === 'string' && { stderr }),
    ...(typeof truncated === 'boolean' && { truncated }),
    ...(isBlobReference(blob) && { blob: { sha256: blob.sha256, bytes: blob.bytes } }),
  };
  return Object.keys(output).length === 0 ? null : jsonbText(output);
}

function isBlobReference(value: unknown): value is BlobReference {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const { sha256, bytes } = value as Record<string, unknown>;
  return typeof sha256 === 'string' && /^[0-9a-f]{64}$/.test(sha256) && Number.isSafeInteger(bytes);
}

/**
 * Secrets of clients and passwords of people at rest: scrypt with its parameters in the text, so that they can be raised later without
 * invalidating what is stored.
 *
 *   scrypt$<N>$<r>$<p>$<salt, base64url>$<hash, base64url>
 */
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import type { ScryptOptions } from 'node:crypto';

import { InvariantError } from '../../base/errors.ts';

const COST = { cost: 16_384, blockSize: 8, parallelization: 1 };
const HASH_BYTES = 32;
const SALT_BYTES = 16;

/** Checked in place of what does not exist, so that the time of the answer does not tell what does. */
export const ABSENT_SECRET_HASH = `scrypt$16384$8$1$${'A'.repeat(22)}$${'A'.repeat(43)}`;

async function derive(secret: string, salt: Buffer, options: ScryptOptions): Promise<Buffer> {
  return await new Promise<Buffer>((resolve, reject) => {
    scrypt(secret, salt, HASH_BYTES, options, (error, key) => {
      if (error === null) {
        resolve(key);
      } else {
        reject(error);
      }
    });
  });
}

/** Hashes a secret for storage. */
export async function hashSecret(secret: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const hash = await derive(secret, salt, COST);
  return [
    'scrypt',
    COST.cost,
    COST.blockSize,
    COST.parallelization,
    salt.toString('base64url'),
    hash.toString('base64url'),
  ].join('$');
}

/** Whether `secret` is the one behind `stored`. @throws InvariantError when `stored` is not one of our hashes. */
export async function verifySecret(secret: string, stored: string): Promise<boolean> {
  const [scheme, cost, blockSize, parallelization, salt, hash] = stored.split('$');
  if (scheme !== 'scrypt' || salt === undefined || hash === undefined) {
    throw new InvariantError('a stored secret is not a scrypt hash');
  }
  const expected = Buffer.from(hash, 'base64url');
  const actual = await derive(secret, Buffer.from(salt, 'base64url'), {
    cost: Number(cost),
    blockSize: Number(blockSize),
    parallelization: Number(parallelization),
  });
  return expected.length === actual.length && timingSafeEqual(expected, actual);
}

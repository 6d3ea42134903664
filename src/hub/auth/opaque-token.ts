/** Tokens and codes that mean nothing by themselves: 32 random bytes for whoever they are for, their SHA-256 for the table. */
import { createHash, randomBytes } from 'node:crypto';

/** A new token; nobody guesses it. */
export function newToken(): string {
  return randomBytes(32).toString('base64url');
}

/** What is stored in its place. It needs no salt: there is no list of likely tokens to try. */
export function tokenHash(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** A function with a module of its own, which travels with it. */
import { createHash } from 'node:crypto';

import { words } from './words.ts';

/** How often each word occurs, and a fingerprint of the text. */
export function countWords(text: string): { counts: Record<string, number>; sha1: string } {
  const counts: Record<string, number> = {};
  for (const word of words(text)) {
    counts[word] = (counts[word] ?? 0) + 1;
  }
  return { counts, sha1: createHash('sha1').update(text).digest('hex') };
}

/** Removing what may be gone already. */
import { unlink } from 'node:fs/promises';

import { errorCode } from './errors.ts';

/** Removes a file; fine when there is none. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') {
      throw error;
    }
  }
}

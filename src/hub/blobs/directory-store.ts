/**
 * Blobs as files of a directory: two digits of the key make the folder, the key is the name.
 *
 * A blob appears under its name whole and synced, or not at all: it was written beside and is renamed.
 */
import { mkdir, open, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';

import { errorCode } from '../../base/errors.ts';
import { removeIfThere } from '../../base/remove-file.ts';
import type { BlobStore, IncomingBlob } from './blob-store.ts';

/** Keeps blobs in a directory, on the file system on which they come in. */
export class DirectoryStore implements BlobStore {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async put({ key, path }: IncomingBlob): Promise<void> {
    const target = this.#pathOf(key);
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    await rename(path, target);
    const folder = await open(dirname(target), 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  async open(key: string): Promise<Readable | undefined> {
    try {
      const file = await open(this.#pathOf(key), 'r');
      return file.createReadStream();
    } catch (error) {
      if (errorCode(error) === 'ENOENT') {
        return undefined;
      }
      throw error;
    }
  }

  async delete(key: string): Promise<void> {
    await removeIfThere(this.#pathOf(key));
  }

  #pathOf(key: string): string {
    return join(this.#directory, key.slice(0, 2), key);
  }
}

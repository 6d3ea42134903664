/**
 * Files with secrets. One that others on the machine can read, or write, is refused: the secret may be known already, and
 * whoever reads the refusal can mend it, where a warning would scroll by.
 *
 * Only regular files have a mode that means something: a pipe (`<(pass show hub)`) or a terminal is its opener's.
 */
import { stat } from 'node:fs/promises';

import { ConfigError, errorCode } from '../base/errors.ts';
import { readTextFile, unreadableFile } from './config-sources.ts';

/** How a secret file is judged and spoken of. */
export interface SecretFileOptions {
  /** What stands for the file in a message: a flag, a file name. */
  readonly key: string;
  /** Where an access control list lets one user more in, its mask shows as the rights of the group: systemd's credentials. */
  readonly mayGroupRead?: boolean;
}

/** The text of a file with a secret, or undefined when there is none. @throws ConfigError when it is not its owner's alone. */
export async function readSecretFile(
  path: string,
  { key, mayGroupRead = false }: SecretFileOptions,
): Promise<string | undefined> {
  try {
    const status = await stat(path);
    const forbidden = mayGroupRead ? 0o037 : 0o077;
    if (status.isFile() && (status.mode & forbidden) !== 0) {
      throw new ConfigError('A file with secrets can be read by others', [
        {
          key,
          source: path,
          value: `mode ${(status.mode & 0o777).toString(8).padStart(4, '0')}`,
          expected: `to be yours alone; run: chmod 600 ${path}`,
        },
      ]);
    }
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error instanceof ConfigError ? error : unreadableFile(path, error);
  }
  return readTextFile(path);
}

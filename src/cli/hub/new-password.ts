/** A password for somebody: typed twice at the terminal without being shown, or from a file; never a flag, which others would see. */
import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';

import { AuthError, UsageError, errorText } from '../../base/errors.ts';
import { passwordProblem } from '../../hub/auth/people.ts';
import { ask, canAsk } from '../ask.ts';

/** The flag. */
export const PASSWORD_FILE = {
  type: 'string',
  requiresArg: true,
  describe: 'File with the password, - for stdin; without it you are asked for it',
} as const;

/** Asks for the password. @throws UsageError when it cannot be one, AuthError when there is no terminal to type it at. */
export async function newPassword(file: string | undefined): Promise<string> {
  const password = file === undefined ? await typedTwice() : await fromFile(file);
  const problem = passwordProblem(password);
  if (problem !== undefined) {
    throw new UsageError(problem);
  }
  return password;
}

async function fromFile(file: string): Promise<string> {
  try {
    const content = file === '-' ? await readAll(process.stdin) : await readFile(file, 'utf8');
    return content.replace(/\r?\n$/, '');
  } catch (error) {
    throw new UsageError(`the password cannot be read from ${file}: ${errorText(error)}`, {
      cause: error,
    });
  }
}

async function typedTwice(): Promise<string> {
  if (!canAsk(false)) {
    throw new AuthError(
      'CREDENTIALS_MISSING',
      'There is no terminal to type a password at. Give it in a file: --password-file FILE (- for stdin).',
    );
  }
  const first = await ask('Password: ', { isSecret: true });
  if ((await ask('Again: ', { isSecret: true })) !== first) {
    throw new UsageError('these are two different passwords; nothing was changed');
  }
  return first;
}

/** Who types a command, as others are told. */
import { userInfo } from 'node:os';

/** Name of this user; one without an entry in the password file has a number and no name. */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`;
  }
}

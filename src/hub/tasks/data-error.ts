/** Tells what the database can never hold from what it cannot hold now. */
import { errorCode } from '../../base/errors.ts';

/** SQLSTATE classes 22 (data), 23 (constraint), 54 (limit exceeded): the same statement fails again, whatever we wait for. */
export function isDataError(error: unknown): boolean {
  return /^(?:2[23]|54)\w{3}$/.test(errorCode(error) ?? '');
}

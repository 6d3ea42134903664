/** Ids in paths and bodies: canonical, or refused with a code of their own. */
import { canonicalUuid } from '../../protocol/messages.ts';
import { HubError } from '../hub-error.ts';

/** The canonical form of an id. @throws HubError 400 INVALID_UUID naming the field. */
export function requireUuid(text: string, field: string): string {
  const uuid = canonicalUuid(text);
  if (uuid === undefined) {
    throw new HubError(400, 'INVALID_UUID', `${field} is not a UUID: ${text.slice(0, 64)}`);
  }
  return uuid;
}

/** Groups and members as people name them on the command line. */
import type { Argv } from 'yargs';

import { systemClock } from '../../base/clock.ts';
import { ConflictError } from '../../base/errors.ts';
import { ClientRegistry } from '../../hub/auth/client-registry.ts';
import { IdentityDirectory } from '../../hub/auth/identities.ts';
import type { OpenDatabase } from '../../hub/db/database.ts';
import { GroupRegistry } from '../../hub/groups/group-registry.ts';
import type { Group } from '../../hub/groups/group-registry.ts';
import { Memberships } from '../../hub/groups/memberships.ts';
import { canonicalUuid } from '../../protocol/messages.ts';

/** Declares the positional `group`. */
export function withGroup<T>(parser: Argv<T>): Argv<T & { group: string }> {
  return parser.positional('group', {
    type: 'string',
    demandOption: true,
    describe: 'Id or name of the group',
  });
}

/** The registry of groups for one command. */
export function groupRegistry(db: OpenDatabase): GroupRegistry {
  return new GroupRegistry(db, new Memberships(db, systemClock));
}

/** The one group with this id or name. @throws ConflictError PRECONDITION_FAILED when there is none, or more than one. */
export async function findGroup(db: OpenDatabase, idOrName: string): Promise<Group> {
  const found = await groupRegistry(db).find(idOrName);
  const [first] = found;
  if (first === undefined) {
    throw new ConflictError(
      'PRECONDITION_FAILED',
      `there is no group ${idOrName}; see \`hub group list\``,
    );
  }
  if (found.length > 1) {
    const ids = found.map(({ id }) => id).join(', ');
    throw new ConflictError(
      'PRECONDITION_FAILED',
      `${found.length} groups are called ${idOrName}; name one by its id: ${ids}`,
    );
  }
  return first;
}

/** Somebody as they are shown. */
export interface NamedIdentity {
  readonly id: string;
  readonly name: string;
}

/**
 * Who is meant by an id, a username, or the name of a client.
 *
 * @throws ConflictError PRECONDITION_FAILED naming who is unknown.
 */
export async function findIdentities(
  db: OpenDatabase,
  texts: readonly string[],
): Promise<NamedIdentity[]> {
  const identities = new IdentityDirectory(db);
  const clients = await new ClientRegistry(db, systemClock).list();
  const found: NamedIdentity[] = [];
  for (const text of texts) {
    const [identity] = await identities.find([text]);
    const client = identity === undefined ? clients.find(({ name }) => name === text) : undefined;
    // Of somebody who no longer exists there is only the id left.
    const gone = canonicalUuid(text);
    const meant =
      identity === undefined
        ? (client ?? (gone === undefined ? undefined : { id: gone, name: gone }))
        : { id: identity.id, name: labelOf(identity) };
    if (meant === undefined) {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `nobody here is called ${text}; see \`hub user list\` and \`hub client list\``,
      );
    }
    found.push({ id: meant.id, name: meant.name });
  }
  return found;
}

function labelOf({
  kind,
  name,
  username,
}: {
  kind: string;
  name: string;
  username: string;
}): string {
  return kind === 'client' ? name : username;
}

/** Names of identities by id; who no longer exists has none. */
export async function namesOf(
  db: OpenDatabase,
  ids: readonly string[],
): Promise<Map<string, string>> {
  const identities = await new IdentityDirectory(db).find(ids);
  return new Map(identities.map((identity) => [identity.id, labelOf(identity)]));
}

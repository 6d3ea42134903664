/** `hub group add` and `hub group remove`. A hub that runs notices within half a minute. */
import type { Argv } from 'yargs';

import { ConflictError } from '../../base/errors.ts';
import type { OpenDatabase } from '../../hub/db/database.ts';
import type { Group } from '../../hub/groups/group-registry.ts';
import { changeMemberships } from '../../hub/groups/membership-changes.ts';
import type { MembershipChange } from '../../hub/groups/membership-changes.ts';
import { GROUP_ROLES } from '../../protocol/sharing.ts';
import type { GroupRole } from '../../protocol/sharing.ts';
import { defineCommand } from '../command-line.ts';
import type { CommonArguments } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { findGroup, findIdentities, groupRegistry, withGroup } from './group-argument.ts';
import type { NamedIdentity } from './group-argument.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** What somebody is who is added without a word about it. */
const DEFAULT_ROLE: GroupRole = 'member';

interface MemberArguments extends CommonArguments {
  readonly envFile: string | undefined;
  readonly group: string;
  readonly members: string;
}

function withMembers(parser: Argv<CommonArguments>): Argv<MemberArguments> {
  return withGroup(withEnvFile(parser)).positional('members', {
    type: 'string',
    demandOption: true,
    describe: 'Username, name of a client, or id; several with commas between them',
  });
}

/** Applies one change for each member. @throws ConflictError PRECONDITION_FAILED for the first that is refused. */
async function changeMembers(
  argv: MemberArguments,
  changeOf: (
    db: OpenDatabase,
    group: Group,
  ) => Promise<(identityId: string) => Omit<MembershipChange, 'identityId'>>,
): Promise<{ readonly group: Group; readonly members: readonly NamedIdentity[] }> {
  return await withHubDatabase(argv.envFile, async (db) => {
    const group = await findGroup(db, argv.group);
    const members = await findIdentities(
      db,
      argv.members.split(',').map((text) => text.trim()),
    );
    const change = await changeOf(db, group);
    const changes = members.map(({ id }) => ({ identityId: id, ...change(id) }));
    for (const outcome of await changeMemberships(db, group.id, 'operator', changes)) {
      if ('refusal' in outcome) {
        const name = members.find(({ id }) => id === outcome.identityId)?.name ?? '';
        throw new ConflictError('PRECONDITION_FAILED', `${name}: ${outcome.refusal.detail}`);
      }
    }
    return { group, members };
  });
}

/** `hub group add`. */
export const groupAdd = defineCommand(
  (parser) =>
    withMembers(parser).option('role', {
      choices: GROUP_ROLES,
      default: DEFAULT_ROLE,
      describe: 'member, manager (also adds and removes) or admin (also everything else)',
    }),
  async (argv) => {
    const { role } = argv;
    const { group, members } = await changeMembers(argv, async (db, { id }) => {
      const present = new Set((await groupRegistry(db).members(id)).map((each) => each.identityId));
      return (identityId) => ({ action: present.has(identityId) ? 'change_role' : 'add', role });
    });
    if (argv.json) {
      printJson({ group_id: group.id, added: members.map(({ id }) => id), role });
    } else {
      for (const { name } of members) {
        printLine(`${name} is ${role} of ${group.name}`);
      }
    }
    return 0;
  },
);

/** `hub group remove`. */
export const groupRemove = defineCommand(
  (parser) => withMembers(parser),
  async (argv) => {
    const { group, members } = await changeMembers(
      argv,
      async () => await Promise.resolve(() => ({ action: 'remove' as const })),
    );
    if (argv.json) {
      printJson({ group_id: group.id, removed: members.map(({ id }) => id) });
    } else {
      for (const { name } of members) {
        printLine(`${name} is no longer in ${group.name}`);
      }
    }
    return 0;
  },
);

/** `hub group create`. */
import { UsageError } from '../../base/errors.ts';
import { migrateDatabase } from '../../hub/db/database.ts';
import { changeMemberships } from '../../hub/groups/membership-changes.ts';
import { defineCommand } from '../command-line.ts';
import { printFields, printJson } from '../output.ts';
import { findIdentities, groupRegistry } from './group-argument.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

const NAME_CHARS_MAX = 256;

/** The command. */
export const groupCreate = defineCommand(
  (parser) =>
    withEnvFile(parser)
      .positional('name', { type: 'string', demandOption: true, describe: 'Name for people' })
      .option('description', { type: 'string', requiresArg: true, describe: 'What it is for' })
      .option('admin', {
        type: 'string',
        requiresArg: true,
        describe: 'Who may manage it: username, client name or id',
      })
      .option('issuer', {
        type: 'string',
        requiresArg: true,
        describe: 'With --claim: issuer whose tokens say who is a member',
      })
      .option('claim', {
        type: 'string',
        requiresArg: true,
        describe: 'What the issuer calls the group',
      }),
  async (argv) => {
    const { name, description, issuer, claim, admin } = argv;
    if (name.trim() === '' || name.length > NAME_CHARS_MAX) {
      throw new UsageError(`the name of a group has 1 to ${NAME_CHARS_MAX} characters`);
    }
    if ((issuer === undefined) !== (claim === undefined)) {
      throw new UsageError('--issuer and --claim belong together: which group of which issuer');
    }
    const group = await withHubDatabase(argv.envFile, async (db) => {
      await migrateDatabase(db);
      // Before the group exists: a typo shall leave nothing behind.
      const admins = admin === undefined ? [] : await findIdentities(db, [admin]);
      const created = await groupRegistry(db).create(null, {
        name,
        description: description ?? null,
        ...(issuer !== undefined && claim !== undefined && { claim: { issuer, name: claim } }),
      });
      const changes = admins.map(({ id }) => ({
        action: 'add' as const,
        identityId: id,
        role: 'admin' as const,
      }));
      await changeMemberships(db, created.id, 'operator', changes);
      return created;
    });
    if (argv.json) {
      printJson({ group_id: group.id, name: group.name, claim: group.claim });
    } else {
      printFields([
        ['group id', group.id],
        ['name', group.name],
        [
          'members by',
          group.claim === null ? undefined : `${group.claim.name} of ${group.claim.issuer}`,
        ],
      ]);
    }
    return 0;
  },
);
